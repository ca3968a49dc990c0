"""Recipes that differ in one choice, side by side: each is trained with every seed and drawn as dots."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.plots import BLACK, BLUE, label_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from training.data import Splits
    from training.recipes import Recipe
    from training.studies.lab import Lab, Training


@dataclass(frozen=True)
class Variant:
    """One choice and its trainings, one for each seed."""

    label: str
    trainings: Sequence[Training]

    @property
    def accuracies(self) -> list[float]:
        """Of each seed, in percent; NaN where it diverged."""
        return [training.accuracy for training in self.trainings]


def compare(lab: Lab, recipes: Mapping[str, Recipe], data: Splits) -> list[Variant]:
    """Train every recipe with every seed of the study."""
    lab.series.expect(len(recipes) * lab.size.seeds)
    return [Variant(label, lab.train_seeds(recipe, data, label)) for label, recipe in recipes.items()]


def draw_accuracies(axes: Axes, variants: Sequence[Variant], title: str, x: str) -> None:
    """Draw a dot for each seed and a bar at their mean, one line for each variant, the first on top."""
    for line, variant in enumerate(variants):
        finite = [accuracy for accuracy in variant.accuracies if math.isfinite(accuracy)]
        axes.plot(finite, [line] * len(finite), "o", color=BLUE, alpha=0.6)
        if finite:
            axes.plot(float(np.mean(finite)), line, "|", color=BLACK, markersize=16, markeredgewidth=2)
        else:
            axes.annotate("diverged", (0.02, line), xycoords=("axes fraction", "data"), va="center")
    name_lines(axes, [variant.label for variant in variants])
    label_axes(axes, x, "", title)


def name_lines(axes: Axes, labels: Sequence[str]) -> None:
    """Give a horizontal line to each label, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
