"""From a recipe to a shipped artifact: data, training, figures, export, and the ledger, in this order."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from training import distributed
from training.architectures import build, count_macs
from training.calibrate import CONFORMAL_LEVELS, Calibration, calibrate
from training.data import SOURCES, load_test, load_training
from training.detector import fit_detector, predict_typicality
from training.errors import Interrupted, RunUnavailable
from training.evaluation import evaluate_artifact, record_doubt
from training.export import Candidate, Shipped, export
from training.fit import Observer, fit, predict_logits
from training.measure import Accuracy, confusion_matrix
from training.model_page import PAGE, record_test_read, require_tables
from training.report import EventWriter, plot_confusion, plot_curves, write_metrics
from training.runs import CHECKPOINT, RUN, SHIPPED, read_json, write_json
from training.teachers import load_teachers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from training.data import Splits
    from training.detector import Detector
    from training.recipes import Recipe
    from training.state import EpochResult
    from training.teachers import Teacher


@dataclass(frozen=True)
class Trained:
    """A network, how it came about, and what the validation split taught about it."""

    network: nn.Sequential
    history: list[EpochResult]
    calibration: Calibration | None
    detector: Detector | None


def train(  # noqa: PLR0913  what a training is made of, each once
    recipe: Recipe,
    run: Path,
    device: torch.device,
    *,
    data: Path | None,
    models: Path,
    observers: Sequence[Observer] = (),
) -> Trained:
    """Train, or go on training, in the run folder; leave figures and plots there, and the test set alone.

    Raises:
        RunUnavailable: it was taught by another version of an artifact than `models` holds.
    """
    splits = _load(recipe, data, device)
    with EventWriter(run) as events:
        network, history = fit(
            build(recipe).to(device),
            splits,
            recipe,
            checkpoint=run / CHECKPOINT,
            observers=[events, *observers],
            load_teachers=partial(_load_same_teachers, recipe, models, run),
        )
    plot_curves(history, recipe.name, run / "curves.png")
    assert isinstance(network, nn.Sequential)  # as every architecture is
    calibration, detector = _judge(recipe, network, splits, run)
    write_metrics(run, history, {"calibration": asdict(calibration) if calibration else None})
    return Trained(network, history, calibration, detector)


def help_train(recipe: Recipe, device: torch.device, data: Path | None, models: Path) -> None:
    """Take a share of the training that another process leads; that one tells of an interruption."""
    splits = _load(recipe, data, device)
    with contextlib.suppress(Interrupted):
        fit(build(recipe).to(device), splits, recipe, load_teachers=partial(load_teachers, recipe, models))


def _load_same_teachers(recipe: Recipe, models: Path, run: Path) -> list[Teacher]:
    """Note which versions teach this run, so that it goes on with none but those."""
    teachers = load_teachers(recipe, models)
    noted, versions = read_json(run / RUN), {teacher.name: teacher.artifact.version for teacher in teachers}
    if noted.setdefault("teachers", versions) != versions:
        raise RunUnavailable(
            f"{run} was taught by {noted['teachers']}, and {models} holds {versions}: put those back, or "
            "start without --resume."
        )
    write_json(run / RUN, noted)
    return teachers


def _load(recipe: Recipe, data: Path | None, device: torch.device) -> Splits:
    with distributed.one_before_the_others():
        return load_training(recipe.dataset, recipe.validation_images, data).to(device)


def _judge(
    recipe: Recipe, network: nn.Sequential, splits: Splits, run: Path
) -> tuple[Calibration, Detector] | tuple[None, None]:
    """Draw the confusion matrix and calibrate, on the validation split where there is one."""
    held_out = len(splits.validation) > 0
    split = splits.validation if held_out else splits.training
    logits, labels = predict_logits(network, split.images).cpu(), split.labels.cpu()
    confusion = confusion_matrix(labels.numpy(), logits.argmax(1).numpy())
    title = f"{recipe.name}, {'validation' if held_out else 'training'} images"
    plot_confusion(confusion, list(SOURCES[recipe.dataset].labels), title, run / "confusion.png")
    if not held_out:
        return None, None
    detector = fit_detector(network, splits.training, recipe, count_macs(build(recipe)))
    typicality = predict_typicality(network, detector, split.images).cpu()
    return calibrate(logits, typicality, labels, CONFORMAL_LEVELS[recipe.dataset]), detector


def require_shippable(recipe: Recipe, data: Path | None, models: Path) -> None:
    """Make sure, before a training of hours, that what shipping needs is there.

    Raises:
        PageIncomplete: a reading of the test set could not be written down.
        DataUnavailable: a test set is missing; doubt is judged on the other dataset's too.
    """
    require_tables(models)
    for dataset in SOURCES if recipe.validation_images else (recipe.dataset,):
        load_test(dataset, data)


def ship(recipe: Recipe, trained: Trained, run: Path, data: Path | None, models: Path) -> Shipped:
    """Export, read the test set once, and write that reading down.

    What a run shipped before is not read again: its weights, and so the labels it gives, are the same.
    """
    require_tables(models)
    started = read_json(run / RUN)
    test = load_test(recipe.dataset, data)
    candidate = Candidate(
        trained.network,
        recipe,
        trained.calibration,
        trained.detector,
        started["commit"],
        started.get("teachers", {}),
    )
    earlier = read_json(run / SHIPPED) if (run / SHIPPED).exists() else None
    known = Accuracy(round(earlier["test_accuracy"] * len(test)), len(test)) if earlier else None
    shipped = export(candidate, test, models, known)
    record_test_read(recipe.name, shipped, models, same_as=earlier and earlier["version"])
    write_json(
        run / SHIPPED,
        {"version": shipped.version, "test_accuracy": shipped.test_accuracy.share},
    )
    record_doubt(evaluate_artifact(recipe.name, models, data), models / PAGE)
    return shipped
