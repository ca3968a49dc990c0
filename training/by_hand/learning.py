"""Gradient descent, and five small things that learn by it.

Weights come from the caller or from a generator that the caller seeds: the same call, the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.by_hand.layers import Array, Layer, Linear, Network, Sigmoid, Tanh
from training.by_hand.losses import Loss, cross_entropy, half_squared_error, squared_error


def minimise(function: Layer, start: float, *, learning_rate: float, steps: int) -> float:
    """Walk downhill on a function of one variable: x ← x - rate · df/dx."""
    x = np.array(start)
    for _ in range(steps):
        y = function.forward(x)
        x = x - learning_rate * function.backward(np.ones_like(y))
    return float(x)


def descend(
    network: Network, loss: Loss, inputs: Array, targets: NDArray[Any], learning_rate: float
) -> float:
    """One step down the mean loss of a batch, w ← w - rate · d_w in place; returns the loss before it."""
    total, d_output = loss(network.forward(inputs), targets)
    network.backward(d_output / len(inputs))
    for parameter, gradient in zip(network.parameters, network.gradients, strict=True):
        parameter[...] -= learning_rate * gradient
    return total / len(inputs)


def draw_weight(generator: np.random.Generator, inputs: int, outputs: int, *, gain: float) -> Array:
    """A weight [inputs, outputs] from N(0, gain / inputs).

    A sum of n terms has n times the variance of one, and the draw undoes that. Gain 1 keeps the variance from
    layer to layer where nothing stands between them; gain 2, He's, makes up for the half that a ReLU removes
    (He et al., 2015).
    """
    return generator.normal(0, np.sqrt(gain / inputs), (inputs, outputs))


# One neuron: the truth table of AND ------------------------------------------------------------------------


def train_and_neuron(
    generator: np.random.Generator, *, learning_rate: float = 0.1, epochs: int = 5_000
) -> Network:
    """One sigmoid neuron learns AND by the squared error summed over the four rows of its truth table.

    The network takes [rows, 2] of zeros and ones, and answers [rows, 1] between 0 and 1.
    """
    rows = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    both = rows.prod(axis=1, keepdims=True)
    neuron = Network(Linear(draw_weight(generator, 2, 1, gain=1), np.zeros(1)), Sigmoid())
    for _ in range(epochs):
        # The sum over the rows is their mean, and so its slope, times their number.
        descend(neuron, squared_error, rows, both, learning_rate * len(rows))
    return neuron


# Linear regression, where the best answer is known ---------------------------------------------------------


def correlated_features(generator: np.random.Generator, samples: int = 159) -> tuple[Array, Array]:
    """Two z-scored, correlated features [samples, 2] and a noisy linear target [samples, 1].

    Made up here: both features are one hidden quantity plus noise of their own (correlation about 2/3).
    """
    hidden = generator.normal(size=(samples, 1))
    features = hidden + generator.normal(0, 0.7, (samples, 2))
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    targets = features @ np.array([[0.6], [0.3]]) + generator.normal(0, 0.5, (samples, 1))
    return features, targets


def linear_regression(generator: np.random.Generator, inputs: int) -> Network:
    """One linear layer to a single output: weights of He's draw, bias 0."""
    return Network(Linear(draw_weight(generator, inputs, 1, gain=2), np.zeros(1)))


def train_linear_regression(
    network: Network,
    features: Array,
    targets: Array,
    learning_rates: Iterable[float],
    *,
    batch_size: int = 20,
) -> Iterator[float]:
    """Descend half the squared error, batches in order; yields its mean over all samples after each epoch.

    `learning_rates` has one rate for each epoch. At a constant rate the weights end up circling the optimum,
    for each batch pulls towards its own: at 0.1 they are within 1 % of the smallest loss after 20 epochs (on
    all of 200 seeds of `correlated_features`). A rate that falls slowly to zero lets them settle: at
    0.1 / (1 + epoch / 10) they are within 1e-4 of `least_squares` after 3,000 (on all of 40).
    """
    for learning_rate in learning_rates:
        for start in range(0, len(features), batch_size):
            x, t = features[start : start + batch_size], targets[start : start + batch_size]
            # A step descends the batch's mean. Were the last, smaller batch to step as far as the others, its
            # samples would count for more, and the weights settle elsewhere than at the least squares.
            descend(network, half_squared_error, x, t, learning_rate * len(x) / batch_size)
        yield half_squared_error(network.forward(features), targets)[0] / len(features)


def least_squares(features: Array, targets: Array) -> Array:
    """The weights [inputs + 1, 1], bias last, of the smallest squared error.

    With A = [features, 1] the gradient 2 Aᵀ (A w - t) is zero where AᵀA w = Aᵀt, the normal equations.
    """
    a = np.hstack([features, np.ones((len(features), 1))])
    return np.linalg.solve(a.T @ a, a.T @ targets)


# Two networks for MNIST ------------------------------------------------------------------------------------


def tanh_mlp(weights: Sequence[Array]) -> Network:
    """Linear layers of these weights [inputs, outputs], biases of zero, tanh between them; gives logits."""
    layers: list[Layer] = []
    for weight in weights:
        layers += [Linear(weight.copy(), np.zeros(weight.shape[1], weight.dtype)), Tanh()]
    return Network(*layers[:-1])


def train_tanh_mlp(
    network: Network, images: Array, labels: NDArray[Any], *, steps: int = 100, learning_rate: float = 0.1
) -> Iterator[float]:
    """Descend the mean cross-entropy of all images at once, step by step; yields the loss before each step.

    images [n, 784] in 0 … 1, of the weights' precision; labels [n].
    """
    for _ in range(steps):
        yield descend(network, cross_entropy, images, labels, learning_rate)


def linear_mlp(weights: Sequence[Array]) -> Network:
    """Linear layers without biases and with nothing between them; gives logits.

    An image is a row [1, 784]; it meets W₁ [784, 512], W₂ [512, 512] and W₃ [512, 10] in that order, each
    from its left. The weights that work are those of `draw_weight` with gain 1. Weights from U(0, 0.05) do
    not: all positive, they add up every input, the logits reach hundreds, and a plain softmax overflows.
    """
    return Network(*(Linear(weight.copy()) for weight in weights))


def unit_length(images: Array) -> Array:
    """Images [n, pixels] scaled so that each has Euclidean length 1; none may be blank."""
    lengths: Array = np.linalg.norm(images, axis=1, keepdims=True)
    return images / lengths


def train_linear_mlp(
    network: Network, images: Array, labels: NDArray[Any], *, learning_rate: float = 0.05
) -> Iterator[float]:
    """Learn from one sample after another, once through; yields each sample's loss before its step.

    images [n, 784] of any scale, none blank: they are brought to unit length first; labels [n].

    Why unit length: with gains g of the three layers, a step moves the logits of its own sample by the error
    times rate · |x|² (g₂²g₃² + g₁²g₃² + g₁²g₂²). Where that factor is above 4 the step overshoots, for the
    curvature of cross-entropy is at most 1/2. Logits of size 5 need |x| g₁g₂g₃ = 5, and with equal gains the
    factor is then 6 for pixels in 0 … 1, whose |x| is about 10, but 1.3 for |x| = 1. Measured on MNIST,
    two seeds each (NumPy 2.4, float32): with pixels in 0 … 1, U(0, 0.05) gave NaN by the 7th sample; six
    centred draws passed a loss of 1,000 all the same, N(0, 1 / inputs) by the 131st sample and the smallest,
    N(0, 0.001²), after it had hardly learned, once at the 10,212th and once not in 12,000. At unit length
    N(0, 1 / inputs) has 86 % of the test images right after 3,000 samples, and 87 % after 60,000.
    """
    images = unit_length(images)
    for i in range(len(images)):
        yield descend(network, cross_entropy, images[i : i + 1], labels[i : i + 1], learning_rate)
