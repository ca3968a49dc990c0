"""Batch sizes side by side: every training sees the same samples, so that the curves share their x axis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from training.plots import LINES, group_thousands, label_axes, logarithmic_y, sheet
from training.recipes import Recipe
from training.studies.lab import Findings, Lab, Training, smooth

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

BATCH_SIZES: Final = (16, 64, 256, 1_024)
RECIPE: Final = Recipe(
    name="batch-sizes",
    dataset="fashion-mnist",
    architecture="mlp",
    widths=(256, 256),
    standardise=True,
    epochs=6,
    batch_size=64,
    learning_rate=0.02,
)
SMOOTHED_SAMPLES: Final = 4_096  # the same number of samples for every batch size


def draw(lab: Lab, path: Path) -> Findings:
    lab.series.expect(2 * len(BATCH_SIZES))
    data = lab.load(RECIPE.dataset)
    base = replace(RECIPE, epochs=lab.size.epochs)
    proportional = {size: base.learning_rate * size / base.batch_size for size in BATCH_SIZES}
    rules = {
        f"the same learning rate, {base.learning_rate:g}": dict.fromkeys(BATCH_SIZES, base.learning_rate),
        f"learning rate {base.learning_rate:g} · batch size / {base.batch_size}": proportional,
    }
    trainings: list[tuple[int, float, Training]] = []
    with sheet(path, _title(lab), (11, 7.5), (2, 2)) as axes:
        for column, (rule, rates) in enumerate(rules.items()):
            for line, (size, rate) in zip(LINES, rates.items(), strict=False):
                recipe = replace(base, batch_size=size, learning_rate=rate)
                training = lab.train(recipe, data, f"batch size {size}, learning rate {rate:g}")
                _draw_losses(axes[0, column], training, size, line)
                _draw_accuracies(axes[1, column], training, len(data.training), size, line)
                trainings.append((size, rate, training))
            axes[0, column].set_title(rule, fontsize=10)
        for row in axes:
            low = min(panel.get_ylim()[0] for panel in row)
            high = max(panel.get_ylim()[1] for panel in row)
            for panel in row:
                panel.set_ylim(low, high)
        axes[0, 0].legend(fontsize=8, title="batch size")
    return _tabulate(trainings)


def _title(lab: Lab) -> str:
    return f"Batch sizes over the same samples: Fashion-MNIST, 784-256-256-10, plain SGD; {lab.size}"


def _draw_losses(axes: Axes, training: Training, size: int, line: dict[str, Any]) -> None:
    steps, losses = smooth(training.step_losses, SMOOTHED_SAMPLES // size)
    axes.plot(steps * size, losses, label=f"{size:,}", **line)
    logarithmic_y(axes)
    group_thousands(axes)
    label_axes(axes, "samples seen", f"training loss, mean of {SMOOTHED_SAMPLES:,} samples")


def _draw_accuracies(axes: Axes, training: Training, images: int, size: int, line: dict[str, Any]) -> None:
    accuracies = 100 * np.array(training.validation_accuracies)
    seen = images * np.arange(1, len(accuracies) + 1)
    axes.plot(seen, accuracies, marker="o", markersize=4, label=f"{size:,}", **line)
    group_thousands(axes)
    label_axes(axes, "samples seen", "validation accuracy, %")


def _tabulate(trainings: list[tuple[int, float, Training]]) -> Findings:
    rows = [
        (
            f"{size:,}",
            f"{rate:g}",
            f"{len(training.step_losses):,}",
            f"{training.seconds:.1f}",
            f"{training.history[-1].training_loss:.4f}",
            f"{training.validation_losses[-1]:.4f}",
            f"{training.accuracy:.2f}",
        )
        for size, rate, training in trainings
    ]
    (smallest, _, slow), (largest, _, fast) = trainings[0], trainings[len(BATCH_SIZES) - 1]
    sentences = [
        (
            f"At one learning rate the batch sizes end within {_range(trainings[: len(BATCH_SIZES)]):.1f} "
            "points of accuracy: a larger batch takes fewer steps, and none of them is longer."
        ),
        (
            f"With a rate in proportion to the batch size they end within "
            f"{_range(trainings[len(BATCH_SIZES) :]):.1f} points."
        ),
        (
            f"The same samples take {slow.seconds / fast.seconds:.1f} times as long in batches of {smallest} "
            f"as in batches of {largest}."
        ),
    ]
    columns = (
        "batch size",
        "learning rate",
        "steps",
        "seconds",
        "training loss",
        "validation loss",
        "accuracy, %",
    )
    return Findings(columns, rows, sentences)


def _range(trainings: list[tuple[int, float, Training]]) -> float:
    accuracies = [training.accuracy for _, _, training in trainings]
    return max(accuracies) - min(accuracies)
