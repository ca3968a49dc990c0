"""Which regulariser buys what where images are few: each alone against none, and several together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from training.fit import evaluate
from training.plots import BLUE, GREY, label_axes, sheet
from training.recipes import Recipe
from training.studies.lab import Findings, Lab, mean_and_spread
from training.studies.variants import Variant, compare, draw_accuracies, name_lines

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from training.data import Splits

NONE: Final = Recipe(
    name="regularisers",
    dataset="fashion-mnist",
    architecture="mlp",
    widths=(256, 256),
    standardise=True,
    epochs=30,
    batch_size=64,
    optimiser="adam",
    learning_rate=1e-3,
    schedule="cosine",  # a constant rate ends wherever its last steps happen to lead
)
RECIPES: Final = {
    "none": NONE,
    "L2, 0.001": replace(NONE, weight_decay=1e-3),
    "decoupled decay (AdamW), 0.1": replace(NONE, optimiser="adamw", weight_decay=0.1),
    "L1, 0.0001": replace(NONE, l1=1e-4),
    "dropout, 0.3": replace(NONE, dropout=0.3),
    "batch normalisation": replace(NONE, batch_norm=True),
    "label smoothing, 0.1": replace(NONE, label_smoothing=0.1),
    "weight averaging, 0.99": replace(NONE, weight_averaging=0.99),
    "early stopping, patience 3": replace(NONE, patience_epochs=3),
    "flips and shifts": replace(NONE, flip=True, shift_pixels=1.0),
    "together": replace(
        NONE,
        optimiser="adamw",
        weight_decay=0.1,
        dropout=0.2,
        batch_norm=True,
        weight_averaging=0.99,
        flip=True,
        shift_pixels=1.0,
    ),
}


def draw(lab: Lab, path: Path) -> Findings:
    data = lab.load(NONE.dataset)
    recipes = {label: replace(recipe, epochs=lab.size.epochs) for label, recipe in RECIPES.items()}
    variants = compare(lab, recipes, data)
    losses = {variant.label: _final_losses(variant, data) for variant in variants}
    title = f"Regularisers: Fashion-MNIST, 784-256-256-10, Adam; {lab.size}"
    with sheet(path, title, (13, 5.2), (1, 2)) as axes:
        draw_accuracies(axes[0, 0], variants, "each seed, and their mean", "validation accuracy, %")
        axes[0, 0].axvline(float(np.mean(variants[0].accuracies)), color=GREY, linewidth=0.8)
        _draw_gaps(axes[0, 1], losses)
    return _tabulate(variants, losses)


def _final_losses(variant: Variant, data: Splits) -> tuple[float, float]:
    """Return the mean over seeds of the trained network's loss on training and on validation images."""
    networks = [training.network for training in variant.trainings]
    training = np.mean([evaluate(network, data.training)[0] for network in networks])
    validation = np.mean([evaluate(network, data.validation)[0] for network in networks])
    return float(training), float(validation)


def _draw_gaps(axes: Axes, losses: dict[str, tuple[float, float]]) -> None:
    """Draw training and validation loss joined by the gap between them."""
    for line, (training, validation) in enumerate(losses.values()):
        axes.plot([training, validation], [line, line], color="#cccccc", linewidth=4, zorder=1)
    training_losses, validation_losses = zip(*losses.values(), strict=True)
    places = range(len(losses))
    axes.scatter(training_losses, places, color=GREY, marker="s", label="training images")
    axes.scatter(validation_losses, places, color=BLUE, label="validation images")
    name_lines(axes, list(losses))
    label_axes(axes, "cross-entropy of the trained network, mean of the seeds", "", "the gap it closes")
    axes.legend(fontsize=8)


def _tabulate(variants: list[Variant], losses: dict[str, tuple[float, float]]) -> Findings:
    none = variants[0].accuracies
    rows = []
    gains = {}
    for variant in variants:
        gained = np.array(variant.accuracies) - np.array(none)  # of each seed, which shares its first weights
        gains[variant.label] = float(gained.mean())
        training, validation = losses[variant.label]
        rows.append(
            (
                variant.label,
                mean_and_spread(variant.accuracies),
                mean_and_spread([float(gain) for gain in gained]) if variant is not variants[0] else "-",
                f"{training:.3f}",
                f"{validation:.3f}",
                f"{validation - training:.3f}",
                f"{np.mean([training.seconds for training in variant.trainings]):.1f}",
            )
        )
    del gains["none"]
    best = max(gains, key=gains.__getitem__)
    gap, smallest = min((losses[label][1] - losses[label][0], label) for label in losses)
    sentences = [
        (
            f"Most accuracy comes from: {best}, {gains[best]:+.2f} points over none. The smallest gap "
            f"between validation and training loss has: {smallest}, {gap:.3f}."
        ),
        "Gains are differences seed by seed, with their standard deviation over the seeds.",
    ]
    columns = (
        "regulariser",
        "accuracy, %",
        "gain, points",
        "training loss",
        "validation loss",
        "gap",
        "seconds",
    )
    return Findings(columns, rows, sentences)
