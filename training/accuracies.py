"""What is known of a recipe's accuracy, from its artifact or from its runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from training.artifacts import list_artifacts, read_artifact
from training.runs import METRICS, RUN, SHIPPED, read_json

if TYPE_CHECKING:
    from pathlib import Path

    from training.recipes import Recipe


@dataclass(frozen=True)
class KnownAccuracy:
    """A share of images classified right, and of which images by which weights."""

    share: float
    source: str


def find_accuracy(recipe: Recipe, models: Path, runs: Path) -> KnownAccuracy | None:
    """Return the best evidence there is: the artifact, a run that shipped, a run that was validated, or none.

    Of several runs the newest speaks; runs with other fields than the recipe's are another recipe's.
    """
    if recipe.name in list_artifacts(models):
        artifact = read_artifact(recipe.name, models)
        return KnownAccuracy(artifact.number("test_accuracy"), f"test, artifact {artifact.version}")
    folders = [folder for folder in _newest_first(runs / recipe.name) if _is_of(recipe, folder)]
    for folder in folders:
        if (folder / SHIPPED).exists():
            return KnownAccuracy(read_json(folder / SHIPPED)["test_accuracy"], f"test, run {folder.name}")
    for folder in folders:
        share = _validation_accuracy(folder, early_stopping=recipe.patience_epochs > 0)
        if share is not None:
            return KnownAccuracy(share, f"validation, run {folder.name}")
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted((run.parent for run in folder.glob("*/run.json")), reverse=True)


def _is_of(recipe: Recipe, folder: Path) -> bool:
    """Compare the fields that the run knew: one that came later had no say in it."""
    mine = json.loads(json.dumps(asdict(recipe)))
    saved: dict[str, Any] = read_json(folder / RUN)["recipe"]
    return all(mine.get(name) == value for name, value in saved.items())


def _validation_accuracy(folder: Path, *, early_stopping: bool) -> float | None:
    """Return that of the weights which the run would ship; None if it is unfinished or validated nothing."""
    if not (folder / METRICS).exists():
        return None
    epochs = read_json(folder / METRICS)["epochs"]
    if epochs[-1]["validation_loss"] is None:
        return None
    chosen = min(epochs, key=lambda epoch: epoch["validation_loss"]) if early_stopping else epochs[-1]
    return float(chosen["validation_accuracy"])
