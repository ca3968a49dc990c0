"""Pictures of an artifact: its calibration, its prediction sets, its score, its worst mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from training.calibrate import BINS
from training.measure import prediction_sets
from training.plots import BLACK, BLUE, GREY, LINES, ORANGE, hide_unused, label_axes, sheet

if TYPE_CHECKING:
    from pathlib import Path

    from training.evaluation import Evaluation

MISTAKES: Final = 40
COLUMNS: Final = 8
SCORE_BINS: Final = 60
WORST_QUANTILE: Final = 0.001  # of the test images' scores: where the axis ends, with room to its left


def draw_evaluation(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the pictures as PNG files into the folder; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    drawings = {"reliability.png": draw_reliability, "mistakes.png": draw_mistakes}
    if evaluation.artifact.calibrated:
        drawings |= {"coverage.png": draw_coverage, "typicality.png": draw_typicality}
    for name, draw in drawings.items():
        draw(evaluation, folder / name)
    return [folder / name for name in drawings]


def draw_reliability(evaluation: Evaluation, path: Path) -> None:
    """Accuracy against confidence over 15 bins, and how many images each holds (Guo et al. 2017)."""
    confidence = evaluation.answers.probabilities.max(1)
    right = evaluation.answers.probabilities.argmax(1) == evaluation.labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int), 1, BINS) - 1
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    accuracy = np.bincount(bins, right, BINS)[filled] / counts[filled]
    middles = (np.arange(BINS) + 0.5) / BINS
    error = evaluation.measured.expected_calibration_error
    with sheet(path, f"{evaluation.name}: calibration error {error:.2%}", (9, 4.2), (1, 2)) as axes:
        left, right_axes = axes[0]
        left.bar(middles[filled], accuracy, 0.9 / BINS, color=BLUE, label="accuracy")
        left.plot((0, 1), (0, 1), color=ORANGE, linestyle="--", label="as confident as right")
        left.legend(loc="upper left")
        label_axes(left, "confidence", "accuracy")
        right_axes.bar(middles, counts, 0.9 / BINS, color=GREY)
        right_axes.set_yscale("log")
        label_axes(right_axes, "confidence", "test images")


def draw_coverage(evaluation: Evaluation, path: Path) -> None:
    """Coverage by class against the level promised, and how many labels the sets hold."""
    sets = prediction_sets(evaluation.artifact, evaluation.answers)
    covered = sets[np.arange(len(sets)), evaluation.labels]
    names = evaluation.artifact.labels
    by_class = [covered[evaluation.labels == index].mean() for index in range(len(names))]
    doubt = evaluation.measured.doubt
    assert doubt is not None
    title = f"{evaluation.name}: {doubt.coverage:.2%} of the sets hold the label"
    with sheet(path, title, (9, 4.2), (1, 2)) as axes:
        left, right = axes[0]
        left.barh(names, by_class, color=BLUE)
        left.axvline(doubt.level, color=ORANGE, linestyle="--", label=f"promised: {doubt.level:.0%}")
        left.set_xlim(min(*by_class, doubt.level) - 0.02, 1)
        left.invert_yaxis()
        left.legend(loc="lower left")
        label_axes(left, "coverage", "")
        sizes = np.bincount(sets.sum(1))
        right.bar(range(1, len(sizes)), sizes[1:], color=GREY)
        right.set_xticks(range(1, len(sizes)))
        right.set_yscale("log")
        label_axes(right, "labels in the set", "test images", f"{doubt.mean_set_size:.3f} on average")


def draw_typicality(evaluation: Evaluation, path: Path) -> None:
    """Histogram of the score, test images against every family; the first bin holds all further left."""
    threshold = evaluation.artifact.number("in_distribution_threshold")
    inside = evaluation.answers.typicality
    low = threshold - 2 * (inside.max() - threshold)
    edges = np.linspace(min(low, float(np.quantile(inside, WORST_QUANTILE))), inside.max(), SCORE_BINS)
    scores = {"test images": inside} | {
        name: answers.typicality for name, answers in evaluation.strange.items()
    }
    with sheet(path, f"{evaluation.name}: how typical pictures look", (9, 4.5), (1, 1)) as axes:
        panel = axes[0, 0]
        for line, (name, values) in zip(LINES, scores.items(), strict=False):
            counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
            flagged = (values < threshold).mean()
            panel.stairs(counts / len(values), edges, label=f"{name}: {flagged:.1%} flagged", **line)
        panel.axvline(threshold, color=BLACK, label="threshold")
        panel.set_yscale("log")
        panel.legend(loc="upper center")
        label_axes(panel, "typicality", "share of pictures")


def draw_mistakes(evaluation: Evaluation, path: Path) -> None:
    """The mistakes that were made with the highest probability, each with what it is and what was said."""
    probabilities, names = evaluation.answers.probabilities, evaluation.artifact.labels
    said = probabilities.argmax(1)
    wrong = np.flatnonzero(said != evaluation.labels)
    worst = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:MISTAKES]
    rows = max(1, -(-len(worst) // COLUMNS))
    title = f"{evaluation.name}: the worst of {len(wrong)} mistakes"
    with sheet(path, title, (1.5 * COLUMNS, 1.75 * rows + 0.5), (rows, COLUMNS)) as axes:
        hide_unused(axes, 0)
        for panel, index in zip(axes.flat, worst, strict=False):
            panel.imshow(evaluation.images[index], cmap="gray_r", vmin=0, vmax=255)
            is_said = f"{names[evaluation.labels[index]]}, read as\n{names[said[index]]},"
            panel.set_title(f"{is_said} {probabilities[index].max():.0%}", fontsize=8, color=BLACK)
