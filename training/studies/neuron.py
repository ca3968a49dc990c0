"""The activation functions with their slopes, and what weight and bias do to a neuron: nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from training.architectures import ACTIVATIONS
from training.plots import BLACK, LINES, ORANGE, label_axes, sheet
from training.studies.lab import Findings, Lab

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from torch import Tensor

WEIGHTS = (0.5, 1.0, 3.0, -1.0)
BIASES = (-4.0, -2.0, 0.0, 2.0)
WIDTHS = (5.0, 3.5, 2.0, 2.0, 2.0)  # three are the same above 0: the first ones show beneath the others
# Weights and bias of a neuron with two inputs: the same direction twice, then a longer and a turned one.
PLANES = ((1.0, 1.0, 0.0), (1.0, 1.0, 2.0), (3.0, 3.0, 0.0), (2.0, -1.0, 0.0))


def draw(_lab: Lab, path: Path) -> Findings:
    x = torch.linspace(-6, 6, 601, dtype=torch.float64)
    curves = {name: activate(name, x) for name in ACTIVATIONS}
    title = "A neuron computes activation(w · x + b)"
    with sheet(path, title, (15, 7.2), (2, 4)) as axes:
        for width, line, (name, (values, slopes)) in zip(WIDTHS, LINES, curves.items(), strict=False):
            axes[0, 0].plot(x, values, label=name, linewidth=width, **line)
            axes[0, 1].plot(x, slopes, label=name, linewidth=width, **line)
        label_axes(axes[0, 0], "z = w · x + b", "activation(z)", "activation functions")
        label_axes(axes[0, 1], "z", "d activation / dz", "their slopes: what a gradient is multiplied by")
        axes[0, 0].set_ylim(-1.7, 3)
        axes[0, 0].legend(fontsize=8)
        _draw_family(
            axes[0, 2], x, [(weight, 0.0) for weight in WEIGHTS], "the weight sets steepness and side"
        )
        _draw_family(
            axes[0, 3], x, [(1.0, bias) for bias in BIASES], "the bias moves the step, to x = -b / w"
        )
        for panel, plane in zip(axes[1], PLANES, strict=True):
            _draw_plane(panel, *plane)
    return _tabulate()


def activate(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return an activation's values and slopes at `x`, by the module that networks use and by autograd."""
    leaf = x.clone().requires_grad_()
    values = ACTIVATIONS[name]().to(x.dtype)(leaf + 0)  # some work in place, which a leaf forbids
    (slopes,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), slopes


def _draw_family(axes: Axes, x: Tensor, neurons: list[tuple[float, float]], title: str) -> None:
    """Draw sigmoid(w x + b) for several w and b."""
    for line, (weight, bias) in zip(LINES, neurons, strict=False):
        values, _ = activate("sigmoid", weight * x + bias)
        axes.plot(x, values, label=f"w = {weight:g}, b = {bias:g}", **line)
    axes.axhline(0.5, color=BLACK, linewidth=0.6)
    label_axes(axes, "x", "sigmoid(w x + b)", title)
    axes.set_ylim(-0.05, 1.5)
    axes.set_yticks([0, 0.5, 1])
    axes.legend(fontsize=8, ncols=2, loc="upper center")


def _draw_plane(axes: Axes, first: float, second: float, bias: float) -> None:
    """Draw sigmoid(w · x + b) over two inputs, with w as an arrow and the line where it is one half."""
    ticks = torch.linspace(-4, 4, 161, dtype=torch.float64)
    x2, x1 = torch.meshgrid(ticks, ticks, indexing="ij")
    values, _ = activate("sigmoid", first * x1 + second * x2 + bias)
    shown = axes.contourf(ticks, ticks, values, levels=np.linspace(0, 1, 11), cmap="cividis")
    axes.contour(ticks, ticks, values, levels=[0.5], colors="white", linewidths=1.5)
    axes.annotate(
        "", (first, second), (0, 0), arrowprops={"arrowstyle": "-|>", "color": ORANGE, "linewidth": 2}
    )
    axes.set_aspect("equal")
    label_axes(axes, "x1", "x2", f"w = ({first:g}, {second:g}), b = {bias:g}")
    assert axes.figure is not None
    axes.figure.colorbar(shown, ax=axes, shrink=0.75, ticks=[0, 0.5, 1])


def _tabulate() -> Findings:
    x = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    zero, five = torch.zeros(1, dtype=torch.float64), torch.full((1,), 5.0, dtype=torch.float64)
    rows = []
    for name in ACTIVATIONS:
        values, slopes = activate(name, x)
        at_five = float(activate(name, five)[1])
        rows.append(
            (
                name,
                f"{float(activate(name, zero)[0]):g}",
                f"{float(values.min()):.3f} to {float(values.max()):.3f}",
                f"{float(slopes.max()):.3f}",
                f"{at_five:.2g}",
                f"{at_five**5:.1g}",
            )
        )
    worst = min(rows, key=lambda row: float(row[4]))
    sentences = [
        (
            "White: where the neuron says one half. The arrow is w: it points to where the answer grows, and "
            "its length says how fast; b moves the line against the arrow."
        ),
        (
            f"A slope below 1 shrinks the gradient at every layer: five {worst[0]} layers at z = 5 leave "
            f"{worst[5]} of it, where a ReLU leaves all."
        ),
    ]
    columns = (
        "activation",
        "at 0",
        "values on -6 to 6",
        "largest slope",
        "slope at 5",
        "slope at 5, to the 5th",
    )
    return Findings(columns, rows, sentences)
