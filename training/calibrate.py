"""What the validation split teaches about doubt: temperature, prediction sets, and a score's threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

BINS: Final = 15
IN_DISTRIBUTION_LEVEL: Final = 0.99
# Digits are nearly always told apart, so their sets can promise more before they grow.
CONFORMAL_LEVELS: Final = {"mnist": 0.99, "fashion-mnist": 0.95}


@dataclass(frozen=True)
class Calibration:
    """The figures of an artifact's metadata that are fitted on the validation split, by the same names."""

    temperature: float
    expected_calibration_error: float
    conformal_level: float
    conformal_quantile: float
    in_distribution_level: float
    in_distribution_threshold: float


def calibrate(logits: Tensor, typicality: Tensor, labels: Tensor, conformal_level: float) -> Calibration:
    """Fit everything on the validation split's `logits` [n, 10], `typicality` [n] and `labels` [n]."""
    logits = logits.double()
    temperature = fit_temperature(logits, labels)
    probabilities = functional.softmax(logits / temperature, dim=1)
    return Calibration(
        temperature=temperature,
        expected_calibration_error=expected_calibration_error(probabilities, labels),
        conformal_level=conformal_level,
        conformal_quantile=conformal_quantile(probabilities, labels, conformal_level),
        in_distribution_level=IN_DISTRIBUTION_LEVEL,
        in_distribution_threshold=lower_quantile(typicality, 1 - IN_DISTRIBUTION_LEVEL),
    )


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the T that minimises the cross-entropy of logits / T (Guo et al. 2017).

    The cross-entropy is convex in 1 / T, so halving the bracket by the sign of its slope finds the minimum.
    """
    low, high = 1e-2, 1e2  # of 1 / T
    for _ in range(60):
        middle = math.sqrt(low * high)
        inverse = torch.tensor(middle, dtype=logits.dtype, requires_grad=True)
        (slope,) = torch.autograd.grad(functional.cross_entropy(logits * inverse, labels), inverse)
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 1 / math.sqrt(low * high)


def expected_calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean gap between confidence and accuracy over 15 equal-width bins of confidence, 0 to 1."""
    confidence, predicted = probabilities.max(dim=1)
    gap = (predicted == labels).double() - confidence.double()  # [n]
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    sums = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, gap)
    return float(sums.abs().sum()) / len(labels)


def conformal_quantile(probabilities: Tensor, labels: Tensor, level: float) -> float:
    """Return the q for which {k: 1 - p_k <= q} holds a new image's label with probability `level` or more.

    Split conformal prediction: q is the ceil((n + 1) * level)-th smallest of the n scores 1 - p_label, or 1
    where there are too few images to promise the level.
    """
    scores = (1 - probabilities.gather(1, labels[:, None])[:, 0]).sort().values
    rank = math.ceil((len(scores) + 1) * level)
    return float(scores[rank - 1]) if rank <= len(scores) else 1.0


def lower_quantile(scores: Tensor, share: float) -> float:
    """Return the score that all but at most this share of `scores` reach."""
    return float(scores.sort().values[math.floor(len(scores) * share + 1e-9)])
