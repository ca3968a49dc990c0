"""What an artifact's answers are worth: accuracy with its interval, calibration, coverage, per class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from training.calibrate import expected_calibration_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.artifacts import Answers, Artifact

Z_95: Final = 1.959964  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class ClassFigures:
    """How one class fares: of the images that are it, and of those said to be it."""

    label: str
    images: int
    recall: float
    precision: float


@dataclass(frozen=True)
class Accuracy:
    """How many of how many images were classified right."""

    correct: int
    images: int

    @property
    def share(self) -> float:
        return self.correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of a share (Wilson 1927), which stays inside 0 to 1 near its ends."""
        spread = Z_95**2 / self.images
        centre = (self.share + spread / 2) / (1 + spread)
        variance = self.share * (1 - self.share) / self.images + spread / (4 * self.images)
        half = Z_95 / (1 + spread) * math.sqrt(variance)
        return centre - half, centre + half

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.share:.2%} ({low:.2%} to {high:.2%})"


@dataclass(frozen=True)
class Doubt:
    """How a calibrated artifact's promises hold on a labelled split."""

    level: float  # the coverage promised
    coverage: float  # share of images whose label is in their prediction set
    mean_set_size: float
    flagged: float  # share of images called out of distribution


@dataclass(frozen=True)
class FamilyFigures:
    """What an artifact's score makes of pictures that are none of its classes."""

    flagged: float  # share called out of distribution
    auroc: float  # chance that a picture of the dataset scores higher than one of these


@dataclass(frozen=True)
class Measurement:
    """An artifact on a labelled split."""

    accuracy: Accuracy
    expected_calibration_error: float
    confusion: NDArray[np.int64]  # [10 true, 10 predicted]
    classes: list[ClassFigures]
    doubt: Doubt | None  # None where the artifact is not calibrated


def measure(artifact: Artifact, answers: Answers, labels: NDArray[np.int64]) -> Measurement:
    """Compare an artifact's answers to n images with their `labels` [n]."""
    confusion = confusion_matrix(labels, answers.probabilities.argmax(1))
    return Measurement(
        accuracy=Accuracy(int(confusion.trace()), len(labels)),
        expected_calibration_error=expected_calibration_error(
            torch.from_numpy(answers.probabilities), torch.from_numpy(labels)
        ),
        confusion=confusion,
        classes=_per_class(artifact.labels, confusion),
        doubt=_doubt(artifact, answers, labels) if artifact.calibrated else None,
    )


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the images of each true class (row) that were given each class (column)."""
    return np.bincount(labels * 10 + predicted, minlength=100).reshape(10, 10)


def measure_family(artifact: Artifact, inside: Answers, outside: Answers) -> FamilyFigures:
    """Compare the typicality of pictures of the dataset with that of pictures of something else."""
    threshold = artifact.number("in_distribution_threshold")
    return FamilyFigures(
        flagged=float((outside.typicality < threshold).mean()),
        auroc=auroc(inside.typicality, outside.typicality),
    )


def auroc(higher: NDArray[np.float32], lower: NDArray[np.float32]) -> float:
    """Return the chance that one of `higher` exceeds one of `lower`; a tie counts half (Mann and Whitney)."""
    ordered = np.sort(lower)
    below, up_to = (np.searchsorted(ordered, higher, side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(lower))


def prediction_sets(artifact: Artifact, answers: Answers) -> NDArray[np.bool_]:
    """Return which labels are in each image's prediction set, [n, 10]; the likeliest always is."""
    inside = 1 - answers.probabilities <= artifact.number("conformal_quantile")
    inside[np.arange(len(inside)), answers.probabilities.argmax(1)] = True
    return inside


def _doubt(artifact: Artifact, answers: Answers, labels: NDArray[np.int64]) -> Doubt:
    sets = prediction_sets(artifact, answers)
    return Doubt(
        level=artifact.number("conformal_level"),
        coverage=float(sets[np.arange(len(labels)), labels].mean()),
        mean_set_size=float(sets.sum(1).mean()),
        flagged=float((answers.typicality < artifact.number("in_distribution_threshold")).mean()),
    )


def _per_class(names: list[str], confusion: NDArray[np.int64]) -> list[ClassFigures]:
    hits, true, said = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return [
        ClassFigures(
            name,
            int(true[k]),
            recall=float(hits[k] / max(true[k], 1)),
            precision=float(hits[k] / max(said[k], 1)),
        )
        for k, name in enumerate(names)
    ]
