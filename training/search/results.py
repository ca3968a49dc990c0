"""What came of a search: its trials as a table and a plot, and the best one as a recipe."""

from __future__ import annotations

import csv
import math
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import TrialState
from rich.table import Table

from training.plots import BLUE, GREY, ORANGE, hide_unused, label_axes, logarithmic_y, sheet
from training.recipes import Recipe
from training.search.space import Dimension, Range, apply, show
from training.search.study import is_settled, planned_trials
from training.search.trial import DIVERGED, PLACE, WORKER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import optuna
    from matplotlib.axes import Axes

    from training.search.space import Value
    from training.search.trial import Search


@dataclass(frozen=True)
class TrialResult:
    """One settled trial."""

    number: int  # place in the plan, counted from 1
    values: dict[str, Value]
    outcome: str  # complete, pruned or diverged
    validation_accuracy: float | None  # of the last epoch it finished; None before the first
    validation_loss: float | None
    training_loss: float | None
    training_accuracy: float | None
    epochs: int
    training_seconds: float
    duration_seconds: float  # validation and everything else included
    worker: str

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Complete trials first, then by accuracy, ties by loss: the smaller, the better."""
        accuracy, loss = self.validation_accuracy, self.validation_loss
        return (
            self.outcome != "complete",
            -accuracy if accuracy is not None else np.inf,
            loss if loss is not None else np.inf,
        )


def settled_trials(study: optuna.Study) -> list[TrialResult]:
    """Return the settled trials in the order of the plan."""
    trials = [_result(trial) for trial in planned_trials(study) if is_settled(trial)]
    return sorted(trials, key=lambda trial: trial.number)


def _result(trial: optuna.trial.FrozenTrial) -> TrialResult:
    known = trial.user_attrs
    last = trial.last_step
    assert trial.duration is not None
    return TrialResult(
        number=known[PLACE] + 1,
        values=trial.params,
        outcome="diverged" if DIVERGED in known else trial.state.name.lower(),
        validation_accuracy=trial.value
        if trial.state == TrialState.COMPLETE or last is None
        else trial.intermediate_values[last],
        validation_loss=known.get("validation_loss"),
        training_loss=known.get("training_loss"),
        training_accuracy=known.get("training_accuracy"),
        epochs=known.get("epochs", 0),
        training_seconds=known.get("seconds", 0.0),
        duration_seconds=trial.duration.total_seconds(),
        worker=known[WORKER],
    )


def write_csv(trials: Sequence[TrialResult], dimensions: Sequence[Dimension], path: Path) -> None:
    """Write every trial with every figure, in full precision."""
    names = [dimension.field for dimension in dimensions]
    figures = [field.name for field in fields(TrialResult) if field.name not in {"number", "values"}]
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", *names, *figures])
        for trial in trials:
            row = [getattr(trial, name) for name in figures]
            writer.writerow([trial.number, *(trial.values[name] for name in names), *row])
    temporary.replace(path)


def tabulate(trials: Sequence[TrialResult], dimensions: Sequence[Dimension], title: str) -> Table:
    """Return the table to print, the best trial first."""
    table = Table("trial", title=title, title_justify="left")
    for dimension in dimensions:
        table.add_column(dimension.field.replace("_", " "), justify="right")
    for heading in ("accuracy", "loss", "seconds"):
        table.add_column(heading, justify="right")
    table.add_column("outcome", no_wrap=True)
    for trial in sorted(trials, key=lambda trial: trial.rank):
        accuracy, loss = trial.validation_accuracy, trial.validation_loss
        table.add_row(
            str(trial.number),
            *(show(trial.values[dimension.field]) for dimension in dimensions),
            "-" if accuracy is None else f"{accuracy:.2%}",
            "-" if loss is None else f"{loss:.4g}",
            f"{trial.duration_seconds:.1f}",
            trial.outcome if trial.outcome == "complete" else f"{trial.outcome} after {trial.epochs}",
        )
    return table


def best_recipe(trials: Sequence[TrialResult], recipe: Recipe) -> Recipe | None:
    """Return `recipe` with the best trial's values; None while no trial is complete."""
    best = min(trials, key=lambda trial: trial.rank, default=None)
    if best is None or best.outcome != "complete":
        return None
    return apply(recipe, best.values)


def recipe_source(recipe: Recipe) -> str:
    """Return the Python expression that makes this recipe, as it stands in recipes.py."""
    lines = [
        f"    {field.name}={_literal(getattr(recipe, field.name))},"
        for field in fields(recipe)
        if field.default is MISSING or getattr(recipe, field.name) != field.default
    ]
    return "\n".join(["Recipe(", *lines, ")"])


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def fit_flags(recipe: Recipe, base: Recipe) -> str:
    """Return the flags that turn `base` into `recipe` on the command line of fit."""
    words = []
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if value == getattr(base, field.name):
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            parts = value if isinstance(value, tuple) else (value,)
            words.append(" ".join([f"--{flag}", *map(str, parts)]))
    return " ".join(words)


def plot_trials(trials: Sequence[TrialResult], search: Search, path: Path) -> None:
    """Draw the validation error by trial, and against each field that was searched."""
    panels = 1 + len(search.dimensions)
    columns = panels if panels <= 3 else math.ceil(math.sqrt(panels))
    rows = -(-panels // columns)
    title = f"{search.recipe.name}: {len(trials)} trials of {search.recipe.epochs} epochs"
    with sheet(path, title, (4.2 * columns, 3.6 * rows), (rows, columns), share=True) as axes:
        _plot_history(axes.flat[0], trials)
        for panel, dimension in zip(axes.flat[1:], search.dimensions, strict=False):
            _plot_dimension(panel, trials, dimension)
        for panel in axes.flat[:panels]:
            logarithmic_y(panel)
            panel.set_ylabel("validation error, %")
        hide_unused(axes, panels)


def _plot_history(axes: Axes, trials: Sequence[TrialResult]) -> None:
    errors = [_error(trial) if trial.outcome == "complete" else np.inf for trial in trials]
    best = np.minimum.accumulate(errors) if errors else np.array([])
    numbers = [trial.number for trial in trials]
    finite = np.isfinite(best)
    axes.step(np.array(numbers)[finite], best[finite], where="post", color=GREY, label="best so far")
    _scatter(axes, trials, numbers)
    label_axes(axes, "trial, in the order of the plan", "")
    axes.locator_params(axis="x", integer=True)
    axes.legend(fontsize=8)


def _plot_dimension(axes: Axes, trials: Sequence[TrialResult], dimension: Dimension) -> None:
    values = [trial.values[dimension.field] for trial in trials]
    if isinstance(dimension, Range):
        if dimension.logarithmic:
            axes.set_xscale("log")
        _scatter(axes, trials, [float(value) for value in values])
    else:
        # Choices stand at equal distances, whatever they are.
        _scatter(axes, trials, [dimension.values.index(value) for value in values])
        axes.set_xticks(range(len(dimension.values)), [show(value) for value in dimension.values])
        axes.set_xlim(-0.5, len(dimension.values) - 0.5)
    label_axes(axes, dimension.field.replace("_", " "), "")


def _scatter(axes: Axes, trials: Sequence[TrialResult], places: Sequence[float]) -> None:
    """Draw a mark for each trial that finished an epoch, by outcome, and a ring around the best."""
    marks = {"complete": ("o", BLUE), "pruned": ("v", GREY), "diverged": ("x", ORANGE)}
    drawn = [(trial, place) for trial, place in zip(trials, places, strict=True) if _error(trial) < np.inf]
    for outcome, (marker, colour) in marks.items():
        chosen = [(trial, place) for trial, place in drawn if trial.outcome == outcome]
        if chosen:
            errors = [_error(trial) for trial, _ in chosen]
            x = [place for _, place in chosen]
            axes.scatter(x, errors, s=28, color=colour, marker=marker, label=outcome)
    best = min(drawn, key=lambda pair: pair[0].rank, default=None)
    if best is not None:
        axes.scatter(best[1], _error(best[0]), s=150, facecolors="none", edgecolors=ORANGE, label="best")


def _error(trial: TrialResult) -> float:
    """Return the validation error in percent, a little above 0 where a logarithm needs it."""
    return np.inf if trial.validation_accuracy is None else max(100 * (1 - trial.validation_accuracy), 1e-3)
