"""Losses: how wrong an answer is, and the gradient that backpropagation starts from.

Each is summed over the batch and returned with its gradient. For the mean over n samples divide both by n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from training.by_hand.layers import Array

Loss: TypeAlias = Callable[[Array, NDArray[Any]], tuple[float, Array]]


def squared_error(prediction: Array, target: NDArray[Any]) -> tuple[float, Array]:
    """Σ (y - t)² over arrays of one shape, and its gradient 2 (y - t)."""
    error = prediction - target
    return float(np.sum(error**2)), 2 * error


def half_squared_error(prediction: Array, target: NDArray[Any]) -> tuple[float, Array]:
    """½ Σ (y - t)², as regression likes to write it: the gradient is the error y - t itself."""
    total, gradient = squared_error(prediction, target)
    return total / 2, gradient / 2


def log_softmax(logits: Array) -> Array:
    """The logarithm of softmax over the last axis: zⱼ - log Σ eᶻ.

    Taking the largest logit m out of both terms changes nothing, (zⱼ - m) - log Σ eᶻ⁻ᵐ, but then no exponent
    is above zero, so nothing overflows, and one is zero, so the logarithm is never of zero.
    """
    shifted: Array = logits - logits.max(axis=-1, keepdims=True)
    log_sum_exp: Array = np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return shifted - log_sum_exp


def softmax(logits: Array) -> Array:
    """Probabilities pⱼ = eᶻʲ / Σ eᶻ over the last axis."""
    return np.exp(log_softmax(logits))


def cross_entropy(logits: Array, labels: NDArray[Any]) -> tuple[float, Array]:
    """Σ -log p_label from logits z [batch, classes] and integer labels [batch], and its gradient.

    -log p_label = log Σ eᶻ - z_label. By zⱼ its derivative is eᶻʲ / Σ eᶻ - [j = label] = pⱼ - [j = label]:
    the probabilities, less one at the right class.
    """
    rows = np.arange(len(labels))
    log_probabilities = log_softmax(logits)
    d_logits = np.exp(log_probabilities)
    d_logits[rows, labels] -= 1
    return float(-log_probabilities[rows, labels].sum()), d_logits
