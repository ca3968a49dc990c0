"""Recipes that differ in one choice, side by side: each is trained with every seed and drawn as dots."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from training.plots import BLACK, BLUE, label_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from training.data import Splits
    from training.recipes import Recipe
    from training.studies.lab import Lab, Training


LEARNS: Final = 20.0  # percent; guessing gives 10


@dataclass(frozen=True)
class Variant:
    """One choice and its trainings, one for each seed."""

    label: str
    trainings: Sequence[Training]

    @property
    def accuracies(self) -> list[float]:
        """Of each seed, in percent; NaN where it diverged."""
        return [training.accuracy for training in self.trainings]

    @property
    def learns(self) -> bool:
        """Whether every seed came well above guessing."""
        return min(self.accuracies) > LEARNS and not math.isnan(sum(self.accuracies))


def compare(lab: Lab, recipes: Mapping[str, Recipe], data: Splits) -> list[Variant]:
    """Train every recipe with every seed of the study."""
    lab.series.expect(len(recipes) * lab.size.seeds)
    return [Variant(label, lab.train_seeds(recipe, data, label)) for label, recipe in recipes.items()]


def draw_accuracies(axes: Axes, variants: Sequence[Variant], title: str, x: str) -> None:
    """Draw a dot for each seed and a bar at their mean, one line for each variant, the first on top.

    What does not learn is written down instead: its dots would leave the others no room to differ.
    """
    for line, variant in enumerate(variants):
        mean = float(np.mean(variant.accuracies))
        if variant.learns:
            axes.plot(variant.accuracies, [line] * len(variant.accuracies), "o", color=BLUE, alpha=0.6)
            axes.plot(mean, line, "|", color=BLACK, markersize=16, markeredgewidth=2)
        else:
            fate = "diverges" if math.isnan(mean) else f"does not learn: {mean:.1f} %"
            axes.annotate(fate, (0.02, line), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    name_lines(axes, [variant.label for variant in variants])
    label_axes(axes, x, "", title)


def name_lines(axes: Axes, labels: Sequence[str]) -> None:
    """Give a horizontal line to each label, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
