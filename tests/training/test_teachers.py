"""A network learns from the answers of others: which ones these are, and what they are asked."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
import torch
from rich.console import Console
from tiny_training import TINY, changed, draw_bars, weights_of
from torch import nn
from torch.nn import functional

from training.architectures import build
from training.data import Split, Splits
from training.errors import RunUnavailable, UsageError
from training.fit import fit, predict_logits
from training.recipes import RECIPES, Recipe
from training.runs import CHECKPOINT
from training.search.trial import PLACE, Search, Trainer
from training.series import Series
from training.teachers import load_teachers

LEARNING = changed(TINY, epochs=12, optimiser="adam", learning_rate=0.01)
TEACHER = changed(LEARNING, name="tiny-teacher", seed=7)
PUPIL = changed(LEARNING, teachers=("tiny-teacher",), teacher_share=1.0)
CPU = torch.device("cpu")


@pytest.fixture
def runs(tmp_path: Path, bars: Splits, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hold an older finished run, a newer one, and one that was stopped after one of three epochs."""
    monkeypatch.setitem(RECIPES, TEACHER.name, TEACHER)
    runs = tmp_path / "runs"
    for name in ("1-older", "2-newer", "3-unfinished"):
        (runs / TEACHER.name / name).mkdir(parents=True)
    train(TEACHER, bars, runs / TEACHER.name / "1-older")
    shifted = Split(bars.training.images, (bars.training.labels + 1) % 10)
    train(TEACHER, Splits(shifted, bars.validation), runs / TEACHER.name / "2-newer")
    train(changed(TEACHER, epochs=1), bars, runs / TEACHER.name / "3-unfinished")
    content = torch.load(runs / TEACHER.name / "3-unfinished" / CHECKPOINT, weights_only=True)
    content["recipe"]["epochs"] = TEACHER.epochs
    torch.save(content, runs / TEACHER.name / "3-unfinished" / CHECKPOINT)
    return runs


def train(recipe: Recipe, data: Splits, folder: Path) -> nn.Module:
    network, _ = fit(build(recipe), data, recipe, checkpoint=folder / CHECKPOINT)
    return network


def test_the_newest_finished_run_teaches_and_stays_as_it_is(runs: Path, bars: Splits) -> None:
    (teacher,) = load_teachers(PUPIL, runs, CPU)
    before = weights_of(teacher)
    assert accuracy(teacher, shift=1) > 0.9
    fit(build(PUPIL), bars, PUPIL, load_teachers=lambda: [teacher])
    assert torch.equal(weights_of(teacher), before)


@pytest.mark.parametrize(("share", "shift"), [(0.0, 0), (1.0, 1)])
def test_the_share_decides_between_the_label_and_the_teacher(
    runs: Path, bars: Splits, share: float, shift: int
) -> None:
    """This teacher calls every row by the next row's number."""
    pupil = changed(PUPIL, teacher_share=share)
    network, _ = fit(build(pupil), bars, pupil, load_teachers=lambda: load_teachers(pupil, runs, CPU))
    assert accuracy(network, shift) > 0.9
    assert accuracy(network, 1 - shift) < 0.1


def test_several_teachers_are_heard_by_the_mean_of_their_probabilities(bars: Splits) -> None:
    """Two that know the label outvote one that is surer of the next row's number; their logits would not."""
    teachers = [Answers(shift=0, size=4.0), Answers(shift=0, size=4.0), Answers(shift=1, size=40.0)]
    network, _ = fit(build(PUPIL), bars, PUPIL, load_teachers=lambda: teachers)
    assert accuracy(network, shift=0) > 0.9


@pytest.mark.parametrize(("share", "right"), [(0.0, True), (1.0, False)])
def test_a_search_trains_with_the_teacher_too(runs: Path, bars: Splits, share: float, *, right: bool) -> None:
    search = Search(changed(PUPIL, teacher_share=share), [], [{}], images=0, drawn="grid")
    trial = optuna.trial.FixedTrial({})
    trial.set_user_attr(PLACE, 0)
    with Series(Console(quiet=True), "search", 1) as shown:
        accuracy = Trainer(search, bars, CPU, shown, runs)(trial)  # type: ignore[arg-type]
    assert (accuracy > 0.9) == right


def test_a_teacher_is_asked_about_the_very_images_that_the_network_sees(bars: Splits) -> None:
    asked: list[torch.Tensor] = []
    seen: list[torch.Tensor] = []
    pupil = changed(PUPIL, epochs=1, shift_pixels=2.0)
    network, teacher = build(pupil), build(TEACHER).eval()
    teacher.register_forward_pre_hook(lambda _module, inputs: asked.append(inputs[0].clone()))
    network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    fit(network, Splits(bars.training, draw_bars(0, seed=1)), pupil, load_teachers=lambda: [teacher])
    assert torch.equal(torch.cat(asked), torch.cat(seen))
    assert len(torch.cat(asked)) == len(bars.training)


def test_a_recipe_without_a_teacher_has_none(tmp_path: Path) -> None:
    assert load_teachers(TINY, tmp_path, CPU) == []


def test_a_finished_training_asks_no_teacher(bars: Splits, tmp_path: Path) -> None:
    """So that a shipped network is calibrated anew where its teachers' runs are gone."""
    asked: list[bool] = []

    def teach() -> list[nn.Module]:
        asked.append(True)
        return [Answers(shift=0, size=4.0)]

    for _ in range(2):
        fit(build(PUPIL), bars, PUPIL, checkpoint=tmp_path / CHECKPOINT, load_teachers=teach)
    assert len(asked) == 1


def test_a_newer_run_of_other_settings_or_a_damaged_one_is_passed_over(runs: Path, bars: Splits) -> None:
    before = weights_of(load_teachers(PUPIL, runs, CPU)[0])
    for name in ("4-experiment", "5-damaged"):
        (runs / TEACHER.name / name).mkdir()
    train(changed(TEACHER, epochs=1), bars, runs / TEACHER.name / "4-experiment")
    (runs / TEACHER.name / "5-damaged" / CHECKPOINT).write_bytes(b"half a file")
    assert torch.equal(weights_of(load_teachers(PUPIL, runs, CPU)[0]), before)


def test_a_teacher_that_stopped_early_teaches_with_its_best_weights(
    tmp_path: Path, bars: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = changed(TEACHER, optimiser="sgd", learning_rate=0.5, momentum=0.9, epochs=40, patience_epochs=3)
    monkeypatch.setitem(RECIPES, TEACHER.name, patient)
    (tmp_path / TEACHER.name / "1").mkdir(parents=True)
    network = train(patient, bars, tmp_path / TEACHER.name / "1")
    last = torch.load(tmp_path / TEACHER.name / "1" / CHECKPOINT, weights_only=True)["state"]["network"]
    (teacher,) = load_teachers(PUPIL, tmp_path, CPU)
    assert torch.equal(weights_of(teacher), weights_of(network))
    assert any(not torch.equal(teacher.state_dict()[name], last[name]) for name in last)


def test_a_teacher_without_a_finished_run_is_to_be_trained_first(runs: Path) -> None:
    for run in ("1-older", "2-newer"):
        (runs / TEACHER.name / run / CHECKPOINT).unlink()
    with pytest.raises(RunUnavailable, match="python -m training fit tiny-teacher"):
        load_teachers(PUPIL, runs, CPU)


@pytest.mark.parametrize("teacher", ["fashion-mnist-resnet", "nobody"])
def test_a_teacher_of_other_images_is_refused(tmp_path: Path, teacher: str) -> None:
    with pytest.raises(UsageError, match="only learn from a recipe for mnist"):
        load_teachers(changed(TINY, teachers=(teacher,)), tmp_path, CPU)


class Answers(nn.Module):
    """A teacher that knows the label and says the number `shift` after it, by a logit of `size`."""

    def __init__(self, shift: int, size: float) -> None:
        super().__init__()
        self.shift, self.size = shift, size

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        labels = pixels.mean(2).argmax(1) // 2 - 2
        return functional.one_hot((labels + self.shift) % 10, 10) * self.size


def accuracy(network: nn.Module, shift: int) -> float:
    """Return how often the network's answer is the label plus `shift`."""
    split = draw_bars(200, seed=3)
    right = predict_logits(network, split.images).argmax(1) == (split.labels + shift) % 10
    return float(right.float().mean())
