"""One trial of a search: a recipe trained, its figures put into the study."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import optuna

from training.architectures import build
from training.errors import TrainingDiverged
from training.fit import evaluate, fit
from training.search.space import Dimension, Range, Value, apply, show
from training.teachers import load_teachers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from training.data import Splits
    from training.recipes import Recipe
    from training.series import Series
    from training.state import EpochResult

# What a trial's user attributes are called; the figures of its last epoch are there by their own names too.
PLACE: Final = "place"  # in the plan
DIVERGED: Final = "diverged"
WORKER: Final = "worker"


@dataclass(frozen=True)
class Search:
    """What is searched: with a place in the plan, it says all that a trial's result depends on."""

    recipe: Recipe
    dimensions: Sequence[Dimension]
    plan: list[dict[str, Value]]
    images: int  # to train on; 0 for all
    drawn: str  # how the plan was made

    def fingerprint(self) -> dict[str, Any]:
        """Return what must stay the same for as long as a study lives, as JSON; the plan may grow."""
        space = [asdict(dimension) for dimension in self.dimensions]
        content = {
            "recipe": asdict(self.recipe),
            "space": space,
            "images": self.images,
            "plan": self.drawn,
        }
        return dict(json.loads(json.dumps(content)))


class PlanExhausted(Exception):
    """Another process took the last trial in between, and Optuna made up a new one."""


@dataclass(frozen=True)
class Trainer:
    """What every trial of this process is trained on and shown with; Optuna calls it for each."""

    search: Search
    data: Splits
    device: torch.device
    series: Series
    models: Path
    """Where a recipe's teachers are found."""

    def __call__(self, trial: optuna.Trial) -> float:
        """Train the recipe at the trial's place in the plan; return its validation accuracy."""
        if PLACE not in trial.user_attrs:
            raise PlanExhausted
        values = {dimension.field: _suggest(trial, dimension) for dimension in self.search.dimensions}
        recipe = apply(self.search.recipe, values)
        label = f"trial {trial.user_attrs[PLACE] + 1}"
        said = ", ".join(f"{field} {show(value)}" for field, value in values.items())
        self.series.begin(label)
        self.series.say(f"{label} begins: {said}")
        trial.set_user_attr(WORKER, f"{socket.gethostname()}:{os.getpid()}")
        reporter = _Reporter(trial)
        try:
            network, _ = fit(
                build(recipe).to(self.device),
                self.data,
                recipe,
                observers=[self.series, reporter],
                load_teachers=partial(load_teachers, recipe, self.models),
            )
        except TrainingDiverged as exc:
            trial.set_user_attr(DIVERGED, str(exc))
            self.series.say(f"{label} diverged")
            raise
        except optuna.TrialPruned:
            self.series.say(f"{label} pruned: worse than the median of the others")
            raise
        loss, accuracy = evaluate(network, self.data.validation)
        trial.set_user_attr("validation_loss", loss)
        figures = f"validation accuracy {accuracy:.2%}, loss {loss:.4f}"
        self.series.say(f"{label}: {figures}, {reporter.seconds:.1f} s of training")
        return accuracy


def _suggest(trial: optuna.Trial, dimension: Dimension) -> Value:
    """Return the planned value; Optuna's storage learns its distribution on the way."""
    if not isinstance(dimension, Range):
        return cast("Value", trial.suggest_categorical(dimension.field, dimension.values))
    if dimension.whole:
        low, high = int(dimension.low), int(dimension.high)
        return trial.suggest_int(dimension.field, low, high, log=dimension.logarithmic)
    return trial.suggest_float(dimension.field, dimension.low, dimension.high, log=dimension.logarithmic)


class _Reporter:
    """Writes a trial's figures into the study after every epoch; ends it where Optuna's pruner says so."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self.seconds = 0.0

    def on_start(self, _step: int, _steps: int, /) -> None:
        """Nothing: there is nothing to report yet."""

    def on_step(self, _step: int, _loss: float, _accuracy: float, /) -> None:
        """Nothing: the storage keeps epochs."""

    def on_epoch(self, result: EpochResult, _step: int, _step_losses: list[float], /) -> None:
        self.seconds += result.seconds
        assert result.validation_accuracy is not None
        figures = {"seconds": self.seconds, "epochs": result.epoch}
        names = ("training_loss", "training_accuracy", "validation_loss")
        for name, value in (figures | {name: getattr(result, name) for name in names}).items():
            self._trial.set_user_attr(name, value)
        self._trial.report(result.validation_accuracy, result.epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned
