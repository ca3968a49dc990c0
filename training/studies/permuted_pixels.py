"""What an MLP ignores: every image's pixels shuffled alike, MLP against CNN."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from training.data import Split, Splits
from training.plots import BLUE, ORANGE, label_axes, logarithmic_y, sheet
from training.recipes import Recipe
from training.studies.lab import Findings, Lab, Training, mean_and_spread

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from torch import Tensor

PERMUTATION_SEED: Final = 28
SHOWN: Final = 5
COMMON: Final = Recipe(
    name="permuted-pixels",
    dataset="mnist",
    architecture="mlp",
    widths=(256, 256),
    batch_norm=True,
    standardise=True,
    epochs=6,
    batch_size=128,
    optimiser="adamw",
    learning_rate=4e-3,
    schedule="one-cycle",
    weight_decay=0.01,
)
NETWORKS: Final = {
    "MLP 784-256-256-10": COMMON,
    "CNN with 16, 32, 32 channels": replace(COMMON, architecture="cnn", widths=(16, 32, 32)),
}
STYLES: Final[dict[str, dict[str, Any]]] = {
    "in place": {"color": BLUE, "linestyle": "-"},
    "permuted": {"color": ORANGE, "linestyle": "--"},
}


def draw(lab: Lab, path: Path) -> Findings:
    lab.series.expect(len(NETWORKS) * len(STYLES) * lab.size.seeds)
    original = lab.load(COMMON.dataset)
    order = torch.randperm(28 * 28, generator=torch.Generator().manual_seed(PERMUTATION_SEED))
    data = {"in place": original, "permuted": Splits(*(permute(split, order) for split in original))}
    trained = {
        (network, pixels): lab.train_seeds(
            replace(recipe, epochs=lab.size.epochs), data[pixels], f"{recipe.architecture}, pixels {pixels}"
        )
        for network, recipe in NETWORKS.items()
        for pixels in data
    }
    with sheet(path, f"Every image's pixels permuted alike: MNIST; {lab.size}", (14, 4.4), (1, 3)) as axes:
        _draw_images(axes[0, 0], data)
        for panel, network in zip(axes[0, 1:], NETWORKS, strict=True):
            for pixels in data:
                _draw_errors(panel, trained[network, pixels], pixels)
            label_axes(panel, "epoch", "validation error, %", network)
        limits = [limit for panel in axes[0, 1:] for limit in panel.get_ylim()]
        for panel in axes[0, 1:]:
            panel.set_ylim(min(limits), max(limits))
            panel.legend(fontsize=8, title="pixels")
    return _tabulate(trained)


def permute(split: Split, order: Tensor) -> Split:
    """Put pixel `order[i]` of every image at place i."""
    shuffled = split.images.flatten(1)[:, order.to(split.images.device)]
    return Split(shuffled.view_as(split.images), split.labels)


def _draw_images(axes: Axes, data: dict[str, Splits]) -> None:
    rows = [torch.cat(list(splits.validation.images[:SHOWN].cpu()), dim=1) for splits in data.values()]
    axes.imshow(torch.cat(rows).numpy(), cmap="gray_r")
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([14, 42], list(data))
    axes.tick_params(length=0)
    axes.set_title("the same digits, as both networks see them", fontsize=10)


def _draw_errors(axes: Axes, trainings: list[Training], pixels: str) -> None:
    """Draw the mean over the seeds, and each seed in pale."""
    errors = 100 * (
        1 - np.array([training.validation_accuracies for training in trainings])
    )  # [seeds, epochs]
    epochs = np.arange(1, errors.shape[1] + 1)
    for one in errors:
        axes.plot(epochs, one, color=STYLES[pixels]["color"], linewidth=0.8, alpha=0.4)
    axes.plot(epochs, errors.mean(0), label=pixels, linewidth=2, **STYLES[pixels])
    logarithmic_y(axes)
    axes.locator_params(axis="x", integer=True)


def _tabulate(trained: dict[tuple[str, str], list[Training]]) -> Findings:
    final = {key: [training.accuracy for training in trainings] for key, trainings in trained.items()}
    rows: list[tuple[str, ...]] = []
    sentences = []
    for network in NETWORKS:
        kept, permuted = final[network, "in place"], final[network, "permuted"]
        change = f"{np.mean(permuted) - np.mean(kept):+.2f}"
        rows.append((network, mean_and_spread(kept), mean_and_spread(permuted), change))
        sentences.append(
            f"{network}: {100 - np.mean(kept):.2f} % wrong in place, {100 - np.mean(permuted):.2f} permuted."
        )
    sentences.append(
        "To a first layer that joins every pixel with every unit, a permutation only renames its weights; "
        "a convolution looks for patterns among neighbours, which a permutation tears apart."
    )
    columns = ("network", "accuracy in place, %", "accuracy permuted, %", "change, points")
    return Findings(columns, rows, sentences)
