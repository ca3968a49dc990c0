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
# 0, and 22 from 0.0001 to 0.3: neighbours differ by half, which the loss hardly notices.
FLOORS: Final = (0.0, *torch.logspace(-4, -0.5, 22, dtype=torch.float64).tolist())
# Digits are nearly always told apart, so their sets can promise more before they grow.
CONFORMAL_LEVELS: Final = {"mnist": 0.99, "fashion-mnist": 0.95}


@dataclass(frozen=True)
class Calibration:
    """The figures of an artifact's metadata that are fitted on the validation split, by the same names."""

    temperature: float
    probability_floor: float
    expected_calibration_error: float
    conformal_level: float
    conformal_quantile: float
    in_distribution_level: float
    in_distribution_threshold: float


def calibrate(logits: Tensor, typicality: Tensor, labels: Tensor, conformal_level: float) -> Calibration:
    """Fit everything on the validation split's `logits` [n, 10], `typicality` [n] and `labels` [n]."""
    logits = logits.double()
    temperature, floor = fit_probabilities(logits, labels)
    probabilities = calibrated_probabilities(logits, temperature, floor)
    return Calibration(
        temperature=temperature,
        probability_floor=floor,
        expected_calibration_error=expected_calibration_error(probabilities, labels),
        conformal_level=conformal_level,
        conformal_quantile=conformal_quantile(probabilities, labels, conformal_level),
        in_distribution_level=IN_DISTRIBUTION_LEVEL,
        in_distribution_threshold=lower_quantile(typicality, 1 - IN_DISTRIBUTION_LEVEL),
    )


def calibrated_probabilities(logits: Tensor, temperature: float, floor: float) -> Tensor:
    """Return probabilities [n, 10] from logits [n, 10].

    A network trained with label smoothing keeps a little probability for labels that it rules out. A
    temperature below 1 takes that away, but makes the answers that are unsure too sure as well. So each
    probability q of the network first becomes q^2 / (q + floor), which leaves large ones as they are and
    takes from those below the floor; then it is raised to the power 1 / temperature, and all are scaled to
    the sum 1. The order of the labels stays.
    With floor 0 this is softmax(logits / temperature).
    """
    return functional.softmax(lowered(logits, floor) / temperature, dim=1)


def lowered(logits: Tensor, floor: float) -> Tensor:
    """Return log(q^2 / (q + floor)) of the probabilities q = softmax(logits); the logits where floor is 0."""
    if floor == 0:
        return logits
    logs = functional.log_softmax(logits, dim=1)
    return logs - functional.softplus(math.log(floor) - logs)


def fit_probabilities(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the temperature and, of FLOORS, the floor whose probabilities have the least cross-entropy."""
    fitted = []
    for floor in FLOORS:
        values = lowered(logits, floor)
        temperature = fit_temperature(values, labels)
        fitted.append((float(functional.cross_entropy(values / temperature, labels)), temperature, floor))
    _, temperature, floor = min(fitted)
    return temperature, floor


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
