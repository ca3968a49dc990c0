"""A network learns from the answers of others: which artifacts these are, and what they are asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
import torch
from rich.console import Console
from tiny_training import TINY, changed, draw_bars
from torch.nn import functional

from training import ship
from training.architectures import build
from training.artifacts import read_artifact
from training.data import Split, Splits
from training.errors import ArtifactDamaged, ArtifactMissing, RunUnavailable, TrainingError, UsageError
from training.export import Candidate, export
from training.fit import fit, predict_logits
from training.runs import CHECKPOINT, RUN, new_run, read_json
from training.search.trial import PLACE, Search, Trainer
from training.series import Series
from training.teachers import load_teachers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

LEARNING = changed(TINY, epochs=12, optimiser="adam", learning_rate=0.01)
TEACHER = changed(LEARNING, name="tiny-teacher", seed=7)
PUPIL = changed(LEARNING, teachers=("tiny-teacher",), teacher_share=1.0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shifted() -> Splits:
    """Images whose label is the number after the row's."""
    return Splits(
        *(Split(split.images, (split.labels + 1) % 10) for split in (draw_bars(400, 1), draw_bars(100, 2)))
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, shifted: Splits) -> Path:
    """Hold one artifact, which calls every row by the next row's number."""
    folder = tmp_path_factory.mktemp("models")
    teach(folder, shifted)
    return folder


def teach(folder: Path, data: Splits) -> str:
    """Train and export a teacher; return its version."""
    network, _ = fit(build(TEACHER), data, TEACHER)
    return export(Candidate(network, TEACHER, None, None, "abc"), data.validation, folder).version


@pytest.mark.parametrize(("share", "shift"), [(0.0, 0), (1.0, 1)])
def test_the_share_decides_between_the_label_and_the_teacher(
    models: Path, bars: Splits, share: float, shift: int
) -> None:
    pupil = changed(PUPIL, teacher_share=share)
    network, _ = fit(build(pupil), bars, pupil, load_teachers=partial(load_teachers, pupil, models))
    assert accuracy(network, shift) > 0.9
    assert accuracy(network, 1 - shift) < 0.1


def test_several_teachers_are_heard_by_the_mean_of_their_probabilities(bars: Splits) -> None:
    """Two that know the label outvote one that is surer of the next row's number; their logits would not."""
    teachers = [Answers(shift=0, size=4.0), Answers(shift=0, size=4.0), Answers(shift=1, size=40.0)]
    network, _ = fit(build(PUPIL), bars, PUPIL, load_teachers=lambda: teachers)
    assert accuracy(network, shift=0) > 0.9


@pytest.mark.parametrize(("share", "right"), [(0.0, True), (1.0, False)])
def test_a_search_trains_with_the_teacher_too(
    models: Path, bars: Splits, share: float, *, right: bool
) -> None:
    search = Search(changed(PUPIL, teacher_share=share), [], [{}], images=0, drawn="grid")
    trial = optuna.trial.FixedTrial({})
    trial.set_user_attr(PLACE, 0)
    with Series(Console(quiet=True), "search", 1) as shown:
        accuracy = Trainer(search, bars, CPU, shown, models)(trial)  # type: ignore[arg-type]
    assert (accuracy > 0.9) == right


def test_a_teacher_is_asked_about_the_very_images_that_the_network_sees(bars: Splits) -> None:
    seen: list[torch.Tensor] = []
    pupil = changed(PUPIL, epochs=1, shift_pixels=2.0)
    network, teacher = build(pupil), Answers(shift=0, size=4.0)
    network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    fit(network, Splits(bars.training, draw_bars(0, seed=1)), pupil, load_teachers=lambda: [teacher])
    assert torch.equal(torch.cat(teacher.asked), torch.cat(seen))
    assert len(torch.cat(teacher.asked)) == len(bars.training)


def test_a_teacher_answers_as_its_artifact_does_for_the_nearest_grey_levels(
    models: Path, bars: Splits
) -> None:
    (teacher,) = load_teachers(PUPIL, models)
    images = bars.validation.images
    pixels = (images + torch.rand(images.shape) * 0.8 - 0.4).clamp(0, 255) / 255
    expected = read_artifact("tiny-teacher", models).answer(images.numpy()).probabilities
    np.testing.assert_allclose(teacher(pixels).numpy(), expected, atol=1e-6)


def test_a_recipe_without_a_teacher_has_none(tmp_path: Path) -> None:
    assert load_teachers(TINY, tmp_path) == []


def test_a_finished_training_asks_no_teacher(bars: Splits, tmp_path: Path) -> None:
    """So that a shipped network is calibrated anew whatever has become of its teachers."""
    asked: list[bool] = []

    def find() -> list[Answers]:
        asked.append(True)
        return [Answers(shift=0, size=4.0)]

    for _ in range(2):
        fit(build(PUPIL), bars, PUPIL, checkpoint=tmp_path / CHECKPOINT, load_teachers=find)
    assert len(asked) == 1


def test_an_artifact_tells_which_versions_taught_it_and_a_run_goes_on_with_none_but_those(
    bars: Splits, shifted: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    version = teach(models, shifted)
    monkeypatch.setattr(ship, "_load", lambda *_: Splits(bars.training, draw_bars(0, seed=1)))
    train = partial(ship.train, device=CPU, data=None, models=models)
    with new_run(changed(PUPIL, epochs=1), tmp_path) as run:
        train(PUPIL, run)
        assert read_json(run / RUN)["teachers"] == {"tiny-teacher": version}
        (run / CHECKPOINT).unlink()
        teach(models, bars)
        with pytest.raises(RunUnavailable, match=rf"was taught by .*{version}.*: put those back, or start"):
            train(PUPIL, run)
    with new_run(PUPIL, tmp_path) as run:
        trained = train(PUPIL, run)
        versions = read_json(run / RUN)["teachers"]
    assert versions["tiny-teacher"] != version
    export(Candidate(trained.network, PUPIL, None, None, "abc", versions), bars.validation, models)
    assert json.loads(read_artifact(PUPIL.name, models).metadata["teachers"]) == versions


@pytest.mark.parametrize(
    ("change", "error", "complaint"),
    [
        (
            lambda path: path.unlink(),
            ArtifactMissing,
            r"does not exist; .*: none\. It is to teach tiny: without it, add --teachers\.",
        ),
        (lambda path: path.write_bytes(b"half a file"), ArtifactDamaged, "is damaged"),
    ],
)
def test_a_teacher_that_is_missing_or_damaged_is_named(
    bars: Splits,
    tmp_path: Path,
    change: Callable[[Path], object],
    error: type[TrainingError],
    complaint: str,
) -> None:
    teach(tmp_path, bars)
    change(tmp_path / "tiny-teacher.onnx")
    with pytest.raises(error, match=rf"tiny-teacher\.onnx {complaint}"):
        load_teachers(PUPIL, tmp_path)


def test_a_teacher_of_other_images_is_refused(models: Path) -> None:
    pupil = changed(PUPIL, dataset="fashion-mnist")
    with pytest.raises(UsageError, match=r"tiny learns fashion-mnist; tiny-teacher, .*, knows mnist"):
        load_teachers(pupil, models)


@dataclass
class Answers:
    """A teacher that knows the label and says the number `shift` after it, by a logit of `size`."""

    shift: int
    size: float
    asked: list[torch.Tensor] = field(default_factory=list)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        self.asked.append(pixels.clone())
        labels = pixels.mean(2).argmax(1) // 2 - 2
        return (functional.one_hot((labels + self.shift) % 10, 10) * self.size).softmax(1)


def accuracy(network: nn.Module, shift: int) -> float:
    """Return how often the network's answer is the label plus `shift`."""
    split = draw_bars(200, seed=3)
    right = predict_logits(network, split.images).argmax(1) == (split.labels + shift) % 10
    return float(right.float().mean())
