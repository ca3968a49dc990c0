"""First weights: how they carry the signal through a deep network, and what it then learns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_type_hints

import numpy as np
import torch
from torch import nn

from training.architectures import build
from training.plots import LINES, label_axes, sheet
from training.recipes import Recipe
from training.studies.lab import Findings, Lab, mean_and_spread
from training.studies.variants import Variant, compare, draw_accuracies

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from training.data import Split

INITIALISATIONS: Final = get_args(get_type_hints(Recipe)["initialisation"])
FUNCTIONS: Final[tuple[Literal["relu", "tanh"], ...]] = ("relu", "tanh")
RECIPE: Final = Recipe(
    name="initialisations",
    dataset="fashion-mnist",
    architecture="mlp",
    widths=(128,) * 5,
    standardise=True,
    epochs=5,
    batch_size=64,
    learning_rate=0.01,
    momentum=0.9,
    schedule="cosine",
)
SIGNAL_IMAGES: Final = 1_000


def draw(lab: Lab, path: Path) -> Findings:
    data = lab.load(RECIPE.dataset)
    choices = [(how, function) for function in FUNCTIONS for how in INITIALISATIONS]
    recipes = {
        f"{how}, {function}": replace(RECIPE, initialisation=how, activation=function, epochs=lab.size.epochs)
        for how, function in choices
    }
    signals = {label: signal_spreads(recipe, data.training) for label, recipe in recipes.items()}
    variants = compare(lab, recipes, data)
    title = f"First weights: Fashion-MNIST, five hidden layers of 128, SGD with momentum; {lab.size}"
    with sheet(path, title, (15, 4.8), (1, 3)) as axes:
        for panel, function in zip(axes[0], FUNCTIONS, strict=False):
            for line, how in zip(LINES, INITIALISATIONS, strict=False):
                _draw_signal(panel, signals[f"{how}, {function}"], how, line)
            panel.set_title(f"{function}: the signal before training", fontsize=10)
        axes[0, 0].legend(fontsize=8)
        draw_accuracies(axes[0, 2], variants, "each seed, and their mean", "validation accuracy, %")
    return _tabulate(variants, signals)


@torch.no_grad()
def signal_spreads(recipe: Recipe, images: Split) -> list[float]:
    """Return the standard deviation of the input and of every linear layer's output, before training."""
    network = build(recipe).to(images.images.device).eval()
    values = images.images[:SIGNAL_IMAGES].float().div_(255)
    spreads = []
    for layer in network:
        values = layer(values)
        if isinstance(layer, nn.Flatten | nn.Linear):
            spreads.append(float(values.std()))
    return spreads


def _draw_signal(axes: Axes, spreads: list[float], label: str, line: dict[str, Any]) -> None:
    axes.plot(range(len(spreads)), spreads, marker="o", markersize=4, label=label, **line)
    axes.set_yscale("log")
    label_axes(axes, "layer: 0 is the image, the last one the logits", "standard deviation of its values", "")


def _tabulate(variants: list[Variant], signals: dict[str, list[float]]) -> Findings:
    rows = [
        (
            *variant.label.split(", "),
            f"{signals[variant.label][-1]:.2g}",
            f"{variant.trainings[0].step_losses[0]:.3g}" if len(variant.trainings[0].step_losses) else "-",
            mean_and_spread(variant.accuracies),
        )
        for variant in variants
    ]
    learning = [variant for variant in variants if variant.learns]
    stuck = [variant.label for variant in variants if not variant.learns]
    best = max(learning, key=lambda variant: float(np.mean(variant.accuracies)), default=None)
    sentences = [
        f"Best: {best.label if best else 'none'}. Without success: {'; '.join(stuck) or 'none'}.",
        (
            "A layer multiplies the spread of its values by √(inputs · variance of a weight), and a ReLU "
            "halves their mean square. Xavier makes the factor 1 for tanh near 0, He makes up for the ReLU; "
            "N(0, 1) multiplies by about ten at each layer of 128, N(0, 0.01) divides by about ten."
        ),
    ]
    columns = ("initialisation", "activation", "spread of the logits", "first loss", "accuracy, %")
    return Findings(columns, rows, sentences)
