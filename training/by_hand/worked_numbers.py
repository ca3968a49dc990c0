"""Results that fit on a blackboard, each with the code that gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.by_hand.image_layers import AveragePool, Convolution, GlobalAveragePool, batch_norm
from training.by_hand.layers import Array, Layer, Linear, Network, Polynomial, Recurrent, Tanh
from training.by_hand.learning import minimise
from training.by_hand.losses import cross_entropy, softmax

FOUR_DECIMALS = 0.5e-4
EXACT = 0.0


@dataclass(frozen=True)
class WorkedNumber:
    """A statement, the figures it is published with, and how far from them `compute` may come out."""

    statement: str
    published: ArrayLike
    tolerance: float
    compute: Callable[[], ArrayLike]

    def holds(self) -> bool:
        return bool(np.allclose(self.compute(), self.published, rtol=0, atol=self.tolerance))


def _softmax() -> Array:
    return softmax(np.array([0.613, 1.425, 1.384]))


def _summed_cross_entropy() -> float:
    probabilities = np.array([[0.1847, 0.4160, 0.3993], [0.1655, 0.3728, 0.4617]])
    # The logarithms of probabilities are logits that softmax turns back into them.
    loss, _ = cross_entropy(np.log(probabilities), np.array([1, 2]))
    return loss


def _cubic_slope() -> Array:
    cubic = Polynomial(1, 1, 0, 2)
    return cubic.backward(np.ones_like(cubic.forward(np.array(2.0))))


def _parabola_minimum() -> float:
    return minimise(Polynomial(0, 0, 1), 20, learning_rate=0.1, steps=150)


def _tanh_neuron_gradient() -> Array:
    neuron = Network(Linear(np.array([[1.0], [0.4]]), np.array([1.0])), Tanh())
    neuron.forward(np.array([[0.2, 0.3]]))
    return neuron.backward(np.ones((1, 1))).ravel()


def _small_kernel() -> Array:
    kernel = np.arange(4.0).reshape(1, 1, 2, 2)
    return Convolution(kernel).forward(np.array([[[[0.0, 1.0], [3.0, 4.0]]]]))


def _pooled_size() -> tuple[int, ...]:
    return AveragePool(3, stride=2, padding=1).forward(np.ones((1, 1, 26, 26))).shape[2:]


def _normalised_channels() -> NDArray[Any]:
    images = np.random.default_rng(0).normal([[[3.0]], [[-7.0]]], [[[2.0]], [[0.1]]], (8, 2, 5, 5))
    y = batch_norm(np.ones(2), np.zeros(2), epsilon=0).forward(images)
    return np.stack([y.mean(axis=(0, 2, 3)), y.var(axis=(0, 2, 3))])


def _recurrent_step() -> float:
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 5, 3))
    weight_x, weight_h = generator.normal(size=(3, 4)), generator.normal(size=(4, 4))
    separate: Array = np.tanh(second @ weight_x + np.tanh(first @ weight_x) @ weight_h)
    joined = Recurrent(np.vstack([weight_x, weight_h]), np.zeros(4)).forward(
        np.stack([first, second], axis=1)
    )
    return float(np.abs(joined - separate).max())


def _weight_counts() -> list[int]:
    layers: list[Layer] = [
        Convolution(np.zeros((64, 3, 3, 3))),
        Convolution(np.zeros((192, 64, 5, 5))),
        GlobalAveragePool(),
        Linear(np.zeros((192, 10))),
    ]
    return [_count(layer) for layer in (layers[0], layers[1], layers[3], Network(*layers))]


def _convolution_weights() -> int:
    return _count(Convolution(np.zeros((192, 128, 3, 3))))


def _count(layer: Layer) -> int:
    return sum(parameter.size for parameter in layer.parameters)


WORKED_NUMBERS = (
    WorkedNumber("softmax(0.613, 1.425, 1.384)", (0.1847, 0.4160, 0.3993), FOUR_DECIMALS, _softmax),
    WorkedNumber(
        "summed cross-entropy of (0.1847, 0.4160, 0.3993) against 1 and (0.1655, 0.3728, 0.4617) against 2",
        1.6498,
        # From the four decimals given it is 1.6499; half a unit of the last one moves it by up to
        # 0.00005 / 0.4160 + 0.00005 / 0.4617.
        2.3e-4,
        _summed_cross_entropy,
    ),
    WorkedNumber("d/dx (2x³ + x + 1) at 2", 25, EXACT, _cubic_slope),
    WorkedNumber(
        "x² after 150 steps of gradient descent from 20 at rate 0.1: x", 0, 1e-10, _parabola_minimum
    ),
    WorkedNumber(
        "d tanh(x·w + b)/dx at x = (0.2, 0.3), w = (1, 0.4), b = 1",
        (0.2487, 0.0995),
        FOUR_DECIMALS,
        _tanh_neuron_gradient,
    ),
    WorkedNumber("2x2 kernel (0, 1, 2, 3) on (0, 1, 3, 4)", 19, EXACT, _small_kernel),
    WorkedNumber(
        "average pooling 3, stride 2, padding 1, of sides of 26: sides", (13, 13), EXACT, _pooled_size
    ),
    WorkedNumber(
        "batch normalisation of two channels: their means, their variances",
        ((0, 0), (1, 1)),
        1e-12,
        _normalised_channels,
    ),
    WorkedNumber(
        "two recurrent steps on joined input and state, and by two products each: largest difference",
        0,
        1e-14,
        _recurrent_step,
    ),
    WorkedNumber(
        "weights of 3→64 (3x3), 64→192 (5x5), 192→10 without biases: each, all",
        (1_728, 307_200, 1_920, 310_848),
        EXACT,
        _weight_counts,
    ),
    WorkedNumber("weights of a 128→192 3x3 convolution", 221_184, EXACT, _convolution_weights),
)
