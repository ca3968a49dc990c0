"""Activation functions in a shallow and a deep network, and the gradient that reaches each layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, get_args, get_type_hints

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from training.architectures import build
from training.plots import LINES, label_axes, logarithmic_y, sheet
from training.recipes import Recipe
from training.studies.lab import Findings, Lab, mean_and_spread, smooth
from training.studies.variants import Variant, compare, draw_accuracies

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from training.data import Split, Splits

SHALLOW: Final = Recipe(
    name="activations",
    dataset="fashion-mnist",
    architecture="mlp",
    widths=(128,),
    initialisation="xavier-normal",  # the same spread of weights for all
    standardise=True,
    epochs=5,
    batch_size=64,
    learning_rate=0.03,
    momentum=0.9,
    schedule="cosine",
)
DEEP: Final = replace(SHALLOW, widths=(128,) * 6)
FUNCTIONS: Final = get_args(get_type_hints(Recipe)["activation"])
SMOOTHED_STEPS: Final = 50
GRADIENT_IMAGES: Final = 512


def draw(lab: Lab, path: Path) -> Findings:
    data = lab.load(SHALLOW.dataset)
    recipes = {
        f"{name}, {depth}": replace(recipe, activation=name, epochs=lab.size.epochs)
        for depth, recipe in (("1 hidden layer", SHALLOW), ("6 hidden layers", DEEP))
        for name in FUNCTIONS
    }
    variants = compare(lab, recipes, data)
    deep = variants[len(FUNCTIONS) :]
    gradients = {name: first_gradients(replace(DEEP, activation=name), data) for name in FUNCTIONS}
    title = f"Activation functions: Fashion-MNIST, hidden layers of 128, SGD with momentum; {lab.size}"
    with sheet(path, title, (15, 4.8), (1, 3)) as axes:
        draw_accuracies(axes[0, 0], variants, "each seed, and their mean", "validation accuracy, %")
        _draw_losses(axes[0, 1], deep)
        _draw_gradients(axes[0, 2], gradients)
    return _tabulate(variants[: len(FUNCTIONS)], deep, gradients)


def first_gradients(recipe: Recipe, data: Splits) -> list[float]:
    """Return the size of the gradient at each layer's weights before the first step: root mean square."""
    network = build(recipe).to(data.training.images.device)
    images: Split = data.training
    pixels = images.images[:GRADIENT_IMAGES].float().div_(255)
    torch.autograd.backward(functional.cross_entropy(network(pixels), images.labels[:GRADIENT_IMAGES]))
    weights = [layer.weight for layer in network.modules() if isinstance(layer, nn.Linear)]
    return [float(weight.grad.square().mean().sqrt()) for weight in weights if weight.grad is not None]


def _draw_losses(axes: Axes, variants: list[Variant]) -> None:
    for line, name, variant in zip(LINES, FUNCTIONS, variants, strict=False):
        steps, losses = smooth(variant.trainings[0].step_losses, SMOOTHED_STEPS)
        axes.plot(steps, losses, label=name, **line)
    logarithmic_y(axes)
    label_axes(axes, "step", f"training loss, mean of {SMOOTHED_STEPS} steps", "6 hidden layers, first seed")
    axes.legend(fontsize=8)


def _draw_gradients(axes: Axes, gradients: dict[str, list[float]]) -> None:
    for line, (name, sizes) in zip(LINES, gradients.items(), strict=False):
        axes.plot(range(1, len(sizes) + 1), sizes, marker="o", markersize=4, label=name, **line)
    axes.set_yscale("log")
    label_axes(
        axes,
        "layer, the first beside the image",
        "gradient of a weight, root mean square",
        "before the first step: what backpropagation brings",
    )


def _tabulate(shallow: list[Variant], deep: list[Variant], gradients: dict[str, list[float]]) -> Findings:
    ratios = {name: sizes[0] / sizes[-1] for name, sizes in gradients.items()}
    rows = [
        (
            name,
            mean_and_spread(one.accuracies),
            mean_and_spread(six.accuracies),
            f"{ratios[name]:.2g}",
            f"{np.mean([training.seconds for training in six.trainings]):.1f}",
        )
        for name, one, six in zip(FUNCTIONS, shallow, deep, strict=True)
    ]
    means = {name: float(np.mean(six.accuracies)) for name, six in zip(FUNCTIONS, deep, strict=True)}
    best, worst = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    sentences = [
        f"Six layers deep, {best} reaches {means[best]:.2f} % and {worst} {means[worst]:.2f} %.",
        (
            f"Before the first step the first layer's gradient is {ratios['relu']:.2g} times the last one's "
            f"with ReLU, and {ratios['sigmoid']:.2g} times with sigmoid, whose slope is a quarter at most."
        ),
    ]
    columns = (
        "activation",
        "accuracy, 1 hidden layer, %",
        "accuracy, 6 hidden layers, %",
        "gradient, first layer / last",
        "seconds, 6 layers",
    )
    return Findings(columns, rows, sentences)
