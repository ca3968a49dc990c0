"""Dropout left on at test time as a measure of doubt: many thinned networks that agree, or do not.

Gal and Ghahramani 2016, "Dropout as a Bayesian approximation".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from training.data import SOURCES
from training.fit import EVALUATION_BATCH, predict_logits
from training.plots import BLACK, BLUE, LINES, ORANGE, label_axes, logarithmic_y, sheet
from training.recipes import Recipe
from training.studies.lab import Findings, Lab

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from torch import Tensor

    from training.data import Split

PASSES: Final = 30
STRANGE_IMAGES: Final = 2_000
REFUSED: Final = 0.02  # share of the digits that is refused in the table
SHOWN: Final = 6
BINS: Final = np.linspace(0, np.log(10), 31)
RECIPE: Final = Recipe(
    name="dropout-doubt",
    dataset="mnist",
    architecture="mlp",
    widths=(256, 256),
    dropout=0.5,
    standardise=True,
    epochs=10,
    batch_size=128,
    optimiser="adam",
    learning_rate=1e-3,
)


def draw(lab: Lab, path: Path) -> Findings:
    lab.series.expect(1)
    data = lab.load(RECIPE.dataset)
    network = lab.train(replace(RECIPE, epochs=lab.size.epochs), data, "MLP with dropout 0.5").network
    digits = data.validation
    garments = lab.load("fashion-mnist").validation.images[:STRANGE_IMAGES]
    lab.series.say(
        f"asking {PASSES} thinned networks about {len(digits):,} digits and {len(garments):,} garments"
    )
    votes = sample_probabilities(network, digits.images, PASSES)  # [passes, n, 10]
    strange = sample_probabilities(network, garments, PASSES)
    plain = functional.softmax(predict_logits(network, digits.images), dim=1)
    plain_strange = functional.softmax(predict_logits(network, garments), dim=1)
    measures = {
        "entropy, dropout off": (entropy(plain), entropy(plain_strange)),
        "entropy, dropout on": (entropy(votes.mean(0)), entropy(strange.mean(0))),
        "disagreement, dropout on": (disagreement(votes), disagreement(strange)),
    }
    wrong = {
        name: (plain if name.endswith("off") else votes.mean(0)).argmax(1).ne(digits.labels).cpu().numpy()
        for name in measures
    }
    title = f"Doubt from {PASSES} networks thinned by dropout: MNIST, 784-256-256-10; {lab.size}"
    with sheet(path, title, (15, 4.6), (1, 3)) as axes:
        _draw_doubt(axes[0, 0], *measures["entropy, dropout on"], wrong["entropy, dropout on"])
        _draw_refusals(axes[0, 1], {name: doubt for name, (doubt, _) in measures.items()}, wrong)
        _draw_most_doubtful(axes[0, 2], digits, votes)
    return _tabulate(measures, wrong)


@torch.no_grad()
def sample_probabilities(network: nn.Module, images: Tensor, passes: int) -> Tensor:
    """Return the probabilities [passes, n, 10] that `passes` networks thinned by dropout give."""
    network.eval()
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.train()
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(1)
        votes = [
            torch.cat([network(batch.float().div_(255)) for batch in torch.split(images, EVALUATION_BATCH)])
            for _ in range(passes)
        ]
    network.eval()
    return functional.softmax(torch.stack(votes), dim=2)


def entropy(probabilities: Tensor) -> NDArray[np.float64]:
    """Return the entropy of each row in nats: 0 is certain, log 10 knows nothing."""
    logarithms = probabilities.clamp_min(1e-30).log()
    return np.asarray(-(probabilities * logarithms).sum(-1).cpu().double().numpy())


def disagreement(votes: Tensor) -> NDArray[np.float64]:
    """Return the entropy of the mean less the mean entropy: what the networks do not agree on."""
    each = np.stack([entropy(vote) for vote in votes])
    return np.asarray(entropy(votes.mean(0)) - each.mean(0))


def separation(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """Return how likely one of `high` is above one of `low`, ties half: the area under the ROC curve."""
    low = np.sort(low)
    below, not_above = np.searchsorted(low, high, "left"), np.searchsorted(low, high, "right")
    return float((below + not_above).mean() / 2 / len(low))


def errors_kept(doubt: NDArray[np.float64], wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the error among the images that are kept when the i most doubtful are refused, for every i."""
    mistakes = wrong[np.argsort(doubt, kind="stable")].cumsum()  # of the 1, 2, … surest
    return np.asarray((mistakes / np.arange(1, len(wrong) + 1))[::-1])


def _draw_doubt(
    axes: Axes, digits: NDArray[np.float64], garments: NDArray[np.float64], wrong: NDArray[np.bool_]
) -> None:
    groups = {
        "digits read right": digits[~wrong],
        "digits read wrong": digits[wrong],
        "garments": garments,
    }
    for line, (name, doubt) in zip(LINES, groups.items(), strict=False):
        shares = np.histogram(doubt, BINS)[0] / max(len(doubt), 1)
        axes.stairs(100 * shares, BINS, label=f"{name} ({len(doubt):,})", linewidth=1.8, **line)
    logarithmic_y(axes)
    label_axes(axes, "entropy, nats: 2.3 knows nothing", "share of the group, %", "doubt with dropout on")
    axes.legend(fontsize=8)


def _draw_refusals(
    axes: Axes, doubts: dict[str, NDArray[np.float64]], wrong: dict[str, NDArray[np.bool_]]
) -> None:
    for line, (name, doubt) in zip(LINES, doubts.items(), strict=False):
        errors = 100 * errors_kept(doubt, wrong[name])
        shares = 100 * np.arange(len(errors)) / len(errors)
        few = shares <= 10
        axes.plot(shares[few], errors[few], label=name, **line)
    label_axes(axes, "most doubtful digits refused, %", "error among the rest, %", "what refusing buys")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)


def _draw_most_doubtful(axes: Axes, digits: Split, votes: Tensor) -> None:
    """Show the digits whose thinned networks disagree most, with the two labels that get most votes."""
    places = np.argsort(-disagreement(votes))[:SHOWN]
    half = SHOWN // 2
    pictures = [digits.images[place].cpu() for place in places]
    rows = [torch.cat(pictures[:half], dim=1), torch.cat(pictures[half:], dim=1)]
    axes.imshow(functional.pad(torch.stack(rows), (0, 0, 0, 10)).flatten(0, 1).numpy(), cmap="gray_r")
    labels = SOURCES[RECIPE.dataset].labels
    for index, place in enumerate(places):
        counts = torch.bincount(votes[:, place].argmax(1), minlength=10)
        first, second = counts.argsort(descending=True)[:2].tolist()
        said = f"{counts[first]} say {labels[first]}, {counts[second]} {labels[second]}"
        true = int(digits.labels[place])
        row, column = divmod(index, half)
        colour = BLUE if first == true else ORANGE
        axes.text(28 * column + 14, 38 * row + 30, f"{said}\nit is {true}", ha="center", va="top", fontsize=8)
        axes.texts[-1].set_color(colour)
    axes.set_axis_off()
    axes.set_title("where they disagree most", fontsize=10, color=BLACK)


def _tabulate(
    measures: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]], wrong: dict[str, NDArray[np.bool_]]
) -> Findings:
    rows = []
    for name, (digits, garments) in measures.items():
        mistakes = wrong[name]
        errors = errors_kept(digits, mistakes)
        rows.append(
            (
                name,
                f"{100 * errors[0]:.2f}",
                f"{100 * errors[int(REFUSED * len(errors))]:.2f}",
                f"{separation(digits[~mistakes], digits[mistakes]):.4f}",
                f"{separation(digits, garments):.4f}",
            )
        )
    best = {column: max(rows, key=lambda row: float(row[column]))[0] for column in (3, 4)}
    sentences = [
        (
            "The last two columns are areas under the ROC curve: how likely an error gets more doubt than "
            "a digit that is read right, and a garment more than a digit."
        ),
        f"Errors are told best by {best[3]}, garments by {best[4]}.",
    ]
    columns = (
        "measure of doubt",
        "error, %",
        f"error with {REFUSED:.0%} refused, %",
        "tells errors",
        "tells garments",
    )
    return Findings(columns, rows, sentences)
