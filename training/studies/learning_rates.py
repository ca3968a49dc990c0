"""Learning rates from far too low to divergent, and the same on a parabola, where the reason can be seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import torch

from training.architectures import build
from training.data import Split, Splits
from training.errors import TrainingDiverged
from training.fit import evaluate, fit
from training.plots import AMBER, BLUE, GREY, ORANGE, label_axes, logarithmic_y, sheet
from training.recipes import Recipe
from training.studies.lab import Findings, Lab, smooth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.axes import Axes
    from torch import Tensor

RATES: Final = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 3.0)
RECIPE: Final = Recipe(
    name="learning-rates",
    dataset="fashion-mnist",
    architecture="mlp",
    widths=(256, 256),
    standardise=True,
    shuffle=False,  # the study shuffles, see _batches
    epochs=1,
    batch_size=64,
    learning_rate=0.1,
)
GUESSING: Final = math.log(10)  # the cross-entropy of ten equal probabilities
AS_GOOD_AS_THE_BEST: Final = 0.02  # of accuracy
SMOOTHED_STEPS: Final = 20
Verdict: TypeAlias = Literal["too low", "good", "too high", "divergent"]
PARABOLA_RATES: Final[dict[Verdict, float]] = {"good": 0.3, "too high": 0.97, "divergent": 1.05}
PARABOLA_STEPS: Final = 6
MARKS: Final[dict[Verdict, dict[str, Any]]] = {
    "too low": {"marker": "v", "color": GREY, "linestyle": ":"},
    "good": {"marker": "o", "color": BLUE, "linestyle": "-"},
    "too high": {"marker": "^", "color": AMBER, "linestyle": "--"},
    "divergent": {"marker": "X", "color": ORANGE, "linestyle": "-."},
}


@dataclass(frozen=True)
class Outcome:
    """What one learning rate came to."""

    rate: float
    losses: list[float]  # at every step, as far as they are numbers
    steps: int  # that were to be taken
    validation_loss: float
    validation_accuracy: float

    @property
    def divergent(self) -> bool:
        """Whether the loss stopped being a number, or ended well above where it began."""
        if len(self.losses) < self.steps:
            return True
        return float(np.mean(self.losses[-SMOOTHED_STEPS:])) > 1.1 * self.losses[0]


def draw(lab: Lab, path: Path) -> Findings:
    lab.series.expect(len(RATES))
    data = lab.load(RECIPE.dataset)
    outcomes = [_train(lab, replace(RECIPE, learning_rate=rate), data) for rate in RATES]
    verdicts = judge(outcomes)
    title = f"Learning rates: Fashion-MNIST, 784-256-256-10, plain SGD, batches of 64; {lab.size}"
    with sheet(path, title, (15, 4.6), (1, 3)) as axes:
        _draw_losses(axes[0, 0], outcomes, verdicts)
        _draw_accuracies(axes[0, 1], outcomes, verdicts)
        _draw_parabola(axes[0, 2])
    return _tabulate(outcomes, verdicts)


def judge(outcomes: list[Outcome]) -> list[Verdict]:
    """Call a rate good where its accuracy comes near the best one's, and the others by their side of it."""
    best = max(
        (outcome for outcome in outcomes if not outcome.divergent), key=lambda o: o.validation_accuracy
    )
    verdicts: list[Verdict] = []
    for outcome in outcomes:
        if outcome.divergent:
            verdicts.append("divergent")
        elif outcome.validation_accuracy >= best.validation_accuracy - AS_GOOD_AS_THE_BEST:
            verdicts.append("good")
        else:
            verdicts.append("too low" if outcome.rate < best.rate else "too high")
    return verdicts


def _train(lab: Lab, recipe: Recipe, data: Splits) -> Outcome:
    """Train batch by batch, so that every loss up to the last finite one is kept.

    Plain SGD keeps nothing from step to step: one training of n steps is n trainings of one step.
    """
    label = f"learning rate {recipe.learning_rate:g}"
    lab.series.begin(label)
    network = build(recipe).to(lab.device)
    batches = list(_batches(data.training, recipe.batch_size, lab.size.epochs))
    nobody = data.validation.images[:0], data.validation.labels[:0]
    losses: list[float] = []
    try:
        for batch in batches:
            _, (result,) = fit(network, Splits(batch, Split(*nobody)), recipe)
            losses.append(result.training_loss)
    except TrainingDiverged:
        pass  # which is what the study is about
    loss, accuracy = evaluate(network, data.validation)
    lab.series.advance()
    lab.series.say(f"{label}: {len(losses)} of {len(batches)} steps, validation accuracy {accuracy:.2%}")
    return Outcome(recipe.learning_rate, losses, len(batches), loss, accuracy)


def _batches(training: Split, size: int, epochs: int) -> Iterator[Split]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        order: Tensor = torch.randperm(len(training), generator=generator).to(training.images.device)
        for places in torch.split(order, size):
            yield Split(training.images[places], training.labels[places])


def _draw_losses(axes: Axes, outcomes: list[Outcome], verdicts: list[Verdict]) -> None:
    """Draw one curve for each verdict: the best of the good rates, one of the middle of the others."""
    for verdict, style in MARKS.items():
        group = [outcome for outcome, given in zip(outcomes, verdicts, strict=True) if given == verdict]
        if not group:
            continue
        drawn = group[len(group) // 2]
        if verdict == "good":
            drawn = max(group, key=lambda outcome: outcome.validation_accuracy)
        steps, losses = smooth(np.array(drawn.losses), SMOOTHED_STEPS)
        # A mark at the last step: where the line ends early, the next loss was no number.
        line = style | {"markevery": [-1], "markersize": 8}
        axes.plot(steps, losses, label=f"{drawn.rate:g}: {verdict}", **line)
    axes.axhline(GUESSING, color=GREY, linewidth=0.8)
    axes.annotate("guessing", (1, GUESSING), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    logarithmic_y(axes)
    axes.set_ylim(0.8 * min(min(outcome.losses) for outcome in outcomes), 50)
    label_axes(axes, "step", f"training loss, mean of {SMOOTHED_STEPS} steps", "one of each kind")
    axes.legend(fontsize=8, title="learning rate")


def _draw_accuracies(axes: Axes, outcomes: list[Outcome], verdicts: list[Verdict]) -> None:
    accuracies = [100 * outcome.validation_accuracy for outcome in outcomes]
    axes.plot(RATES, accuracies, color="#cccccc", zorder=1)
    for verdict, line in MARKS.items():
        chosen = [place for place, other in enumerate(verdicts) if other == verdict]
        x, y = [RATES[place] for place in chosen], [accuracies[place] for place in chosen]
        axes.plot(x, y, label=verdict, **(line | {"linestyle": "", "markersize": 8}))
    axes.set_xscale("log")
    label_axes(axes, "learning rate", "validation accuracy, %", "how far each rate comes in the same steps")
    axes.legend(fontsize=8)


def _draw_parabola(axes: Axes) -> None:
    """Draw gradient descent on x² from 20: each step multiplies x by 1 - 2 · rate."""
    x = np.linspace(-36, 36, 201)
    axes.plot(x, x**2, color="#cccccc")
    for verdict, rate in PARABOLA_RATES.items():
        walk = 20 * (1 - 2 * rate) ** np.arange(PARABOLA_STEPS + 1)
        label = f"{rate:g}: {verdict}, x becomes {1 - 2 * rate:g} x"
        axes.plot(walk, walk**2, label=label, **(MARKS[verdict] | {"markersize": 5}))
    label_axes(axes, "x", "x²", f"why: {PARABOLA_STEPS} steps down x² from x = 20")
    axes.set_ylim(-40, 1_800)
    axes.legend(fontsize=8, title="learning rate", loc="upper center")


def _tabulate(outcomes: list[Outcome], verdicts: list[Verdict]) -> Findings:
    rows = [
        (
            f"{outcome.rate:g}",
            verdict,
            f"{len(outcome.losses)} of {outcome.steps}",
            f"{outcome.validation_loss:.4g}",
            f"{100 * outcome.validation_accuracy:.2f}",
        )
        for outcome, verdict in zip(outcomes, verdicts, strict=True)
    ]
    good = [outcome.rate for outcome, verdict in zip(outcomes, verdicts, strict=True) if verdict == "good"]
    sentences = [
        (
            f"Good means within {100 * AS_GOOD_AS_THE_BEST:g} points of the best accuracy: here from "
            f"{good[0]:g} to {good[-1]:g}. Divergent means that the loss is no longer a number, or ends "
            "more than a tenth above where it began."
        ),
        (
            "On x² a step multiplies x by 1 - 2 · rate: above 0.5 x changes sides as it shrinks, above 1 "
            "it grows. A network has a curvature of its own in every direction; the steepest sets the limit."
        ),
    ]
    columns = ("learning rate", "verdict", "steps with a finite loss", "validation loss", "accuracy, %")
    return Findings(columns, rows, sentences)
