"""Training against validation loss by epoch, the point of overfitting marked, for three training sets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from training.errors import UsageError
from training.plots import BLUE, GREY, ORANGE, label_axes, sheet
from training.recipes import Recipe
from training.studies.lab import Findings, Lab, Training

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

SHARES: Final = (16, 4, 1)  # the whole divided by
RECIPE: Final = Recipe(
    name="overfitting",
    dataset="fashion-mnist",
    architecture="mlp",
    widths=(256, 256),
    standardise=True,
    epochs=30,
    batch_size=64,
    optimiser="adam",
    learning_rate=1e-3,
)


def draw(lab: Lab, path: Path) -> Findings:
    lab.series.expect(len(SHARES))
    recipe = replace(RECIPE, epochs=lab.size.epochs)
    if lab.size.images < max(SHARES):
        raise UsageError(
            f"overfitting needs at least {max(SHARES)} images, to have a few for its smallest set."
        )
    sizes = [lab.size.images // share for share in SHARES]
    trainings = {
        images: lab.train(recipe, lab.load(recipe.dataset, images), f"{images:,} images") for images in sizes
    }
    title = "Overfitting: Fashion-MNIST, 784-256-256-10, Adam, nothing against it"
    with sheet(path, title, (13, 4.4), (1, len(sizes)), share=True) as axes:
        for panel, (images, training) in zip(axes.flat, trainings.items(), strict=True):
            _draw_losses(panel, training, images)
        top = max(max(training.validation_losses) for training in trainings.values())
        axes[0, 0].set_ylim(0, top * 1.05)
        axes[0, -1].legend(fontsize=8, loc="upper left")
    return _tabulate(trainings)


def lowest(training: Training) -> int:
    """Return the index of the epoch with the lowest validation loss: from here on training overfits."""
    return int(np.argmin(training.validation_losses))


def _draw_losses(axes: Axes, training: Training, images: int) -> None:
    epochs = [result.epoch for result in training.history]
    validation, best = training.validation_losses, lowest(training)
    axes.plot(epochs, [result.training_loss for result in training.history], color=GREY, linestyle="--")
    axes.lines[-1].set_label("training, mean over the epoch")
    axes.plot(epochs, validation, color=BLUE, label="validation, after the epoch")
    axes.axvspan(epochs[best], epochs[-1], color=ORANGE, alpha=0.08, linewidth=0, label="overfitting")
    axes.plot(epochs[best], validation[best], "o", color=ORANGE)
    axes.set_xlim(0, epochs[-1])
    title = (
        f"{images:,} training images\nlowest validation loss {validation[best]:.3f} at epoch {epochs[best]}"
    )
    label_axes(axes, "epoch", "cross-entropy", title)


def _tabulate(trainings: dict[int, Training]) -> Findings:
    rows = []
    sentences = []
    for images, training in trainings.items():
        best = lowest(training)
        losses, accuracies = training.validation_losses, training.validation_accuracies
        rows.append(
            (
                f"{images:,}",
                f"{best + 1}",
                f"{losses[best]:.4f}",
                f"{losses[-1]:.4f}",
                f"{training.history[-1].training_loss:.4f}",
                f"{100 * accuracies[best]:.2f}",
                f"{100 * accuracies[-1]:.2f}",
            )
        )
        sentences.append(
            f"With {images:,} images the validation loss is lowest after epoch {best + 1}, and "
            f"{losses[-1] / losses[best]:.2f} times that after epoch {len(losses)}; accuracy moves by "
            f"{100 * (accuracies[-1] - accuracies[best]):+.2f} points between them."
        )
    sentences.append("Where the loss grows while accuracy stays, the network grows surer of its errors.")
    columns = (
        "images",
        "epoch of lowest validation loss",
        "validation loss there",
        "at the end",
        "training loss at the end",
        "accuracy there, %",
        "at the end, %",
    )
    return Findings(columns, rows, sentences)
