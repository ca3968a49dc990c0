"""Layers, simplest first: what each makes of its input, and how a gradient flows back through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]


class Layer(ABC):
    """A function y = f(x) with weights of its own, or none.

    `gradients` holds one array for each of `parameters`, of the same shape, once `backward` has run. Learning
    updates `parameters` in place, so a layer never replaces these arrays.
    """

    def __init__(self, *parameters: Array) -> None:
        self.parameters = list(parameters)
        self.gradients: list[Array] = []

    @abstractmethod
    def forward(self, x: Array) -> Array:
        """Return y = f(x), and remember what `backward` will need."""

    @abstractmethod
    def backward(self, d_y: Array) -> Array:
        """Take the gradient of the loss by y, set `gradients`, and return the gradient of the loss by x."""


class Polynomial(Layer):
    """y = Σ cₖ xᵏ, entry by entry; the coefficients are given, lowest power first, and not learned.

    The power rule: d xᵏ / dx = k xᵏ⁻¹, hence dy/dx = Σ k cₖ xᵏ⁻¹, a polynomial again.
    """

    def __init__(self, *coefficients: float) -> None:
        super().__init__()
        self.coefficients = np.array(coefficients)
        self.slope = (np.arange(len(coefficients)) * self.coefficients)[1:]

    def forward(self, x: Array) -> Array:
        self.x = x
        return _sum_of_powers(self.coefficients, x)

    def backward(self, d_y: Array) -> Array:
        return d_y * _sum_of_powers(self.slope, self.x)


def _sum_of_powers(coefficients: Array, x: Array) -> Array:
    y: Array = x[..., np.newaxis] ** np.arange(len(coefficients)) @ coefficients
    return y


class Tanh(Layer):
    """y = tanh x = sinh x / cosh x; the quotient rule gives dy/dx = (cosh² - sinh²) / cosh² = 1 - y²."""

    def forward(self, x: Array) -> Array:
        self.y: Array = np.tanh(x)
        return self.y

    def backward(self, d_y: Array) -> Array:
        return d_y * (1 - self.y**2)


class Sigmoid(Layer):
    """y = 1 / (1 + e⁻ˣ); dy/dx = e⁻ˣ / (1 + e⁻ˣ)² = y (1 - y), since 1 - y = e⁻ˣ / (1 + e⁻ˣ).

    Computed as (1 + tanh(x/2)) / 2, the same function, because e⁻ˣ overflows where x is far below zero.
    """

    def forward(self, x: Array) -> Array:
        self.y: Array = (1 + np.tanh(x / 2)) / 2
        return self.y

    def backward(self, d_y: Array) -> Array:
        return d_y * self.y * (1 - self.y)


class ReLU(Layer):
    """y = max(x, 0); dy/dx is 1 above zero and 0 below, and taken to be 0 at the corner between them."""

    def forward(self, x: Array) -> Array:
        self.positive = x > 0
        return x * self.positive

    def backward(self, d_y: Array) -> Array:
        return d_y * self.positive


class LeakyReLU(Layer):
    """y = x above zero and slope · x elsewhere: a unit below zero still learns; the slope is given."""

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Array) -> Array:
        self.derivative = np.where(x > 0, 1, self.slope).astype(x.dtype)
        return x * self.derivative

    def backward(self, d_y: Array) -> Array:
        return d_y * self.derivative


class PReLU(Layer):
    """LeakyReLU with one slope [1] for all units, learned as a weight (He et al., 2015).

    ∂y/∂slope is x where x is not above zero, and 0 elsewhere: d_slope sums d_y · min(x, 0).
    """

    def __init__(self, slope: Array) -> None:
        super().__init__(slope)

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.where(x > 0, x, x * self.parameters[0])

    def backward(self, d_y: Array) -> Array:
        self.gradients = [np.sum(d_y * np.minimum(self.x, 0), keepdims=True).reshape(1)]
        return np.where(self.x > 0, d_y, d_y * self.parameters[0])


class Linear(Layer):
    """y = x W + b, with x [batch, inputs], W [inputs, outputs], b [outputs] or none, y [batch, outputs].

    yᵢⱼ = Σₖ xᵢₖ Wₖⱼ + bⱼ, so ∂yᵢⱼ/∂Wₖⱼ = xᵢₖ, ∂yᵢⱼ/∂xᵢₖ = Wₖⱼ and ∂yᵢⱼ/∂bⱼ = 1. Summed over all that a
    weight or an input touches: d_W = xᵀ d_y, d_x = d_y Wᵀ, and d_b is the sum of d_y over the batch.
    """

    def __init__(self, weight: Array, bias: Array | None = None) -> None:
        super().__init__(weight, *([] if bias is None else [bias]))

    def forward(self, x: Array) -> Array:
        self.x = x
        weight, *bias = self.parameters
        return sum(bias, start=x @ weight)  # [batch, outputs]

    def backward(self, d_y: Array) -> Array:
        weight, *bias = self.parameters
        self.gradients = [self.x.T @ d_y, *(d_y.sum(axis=0) for _ in bias)]
        return d_y @ weight.T  # [batch, inputs]


class Network(Layer):
    """Layers one after another, y = f₃(f₂(f₁(x))), or y = x where there are none.

    The chain rule dy/dx = f₃' · f₂' · f₁' is multiplied from the left: the layers in reverse, each handing
    the one before it the gradient by what that one made.
    """

    def __init__(self, *layers: Layer) -> None:
        super().__init__(*(parameter for layer in layers for parameter in layer.parameters))
        self.layers = layers

    def forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, d_y: Array) -> Array:
        for layer in reversed(self.layers):
            d_y = layer.backward(d_y)
        self.gradients = [gradient for layer in self.layers for gradient in layer.gradients]
        return d_y


class Reshape(Layer):
    """The same numbers in another shape, `shape` for each sample; gradients move back to where they were."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Array) -> Array:
        self.shape_before = x.shape
        return x.reshape(len(x), *self.shape)

    def backward(self, d_y: Array) -> Array:
        return d_y.reshape(self.shape_before)


class Residual(Layer):
    """y = F(x) + S(x), where the skip S is a smaller layer or x itself; the gradients of both ways add up."""

    def __init__(self, transform: Layer, skip: Layer) -> None:
        super().__init__(*transform.parameters, *skip.parameters)
        self.transform, self.skip = transform, skip

    def forward(self, x: Array) -> Array:
        return self.transform.forward(x) + self.skip.forward(x)

    def backward(self, d_y: Array) -> Array:
        d_x = self.transform.backward(d_y) + self.skip.backward(d_y)
        self.gradients = self.transform.gradients + self.skip.gradients
        return d_x


class Recurrent(Layer):
    """A sequence read step by step; the answer is the last state.

    hₜ = tanh([xₜ, hₜ₋₁] W + b) from h₀ = 0, with x [batch, steps, inputs], W [inputs + hidden, hidden],
    b [hidden], y = h_last [batch, hidden]. Input and state stand side by side, so the product is the sum
    xₜ W_x + hₜ₋₁ W_h, with W_x above W_h in W: one step is a linear layer and a tanh.

    Backpropagation through time: the gradient by [xₜ, hₜ₋₁] splits into the input's part and the part that
    the step before receives; all steps share W and b, so their gradients add up.
    """

    def __init__(self, weight: Array, bias: Array) -> None:
        super().__init__(weight, bias)

    def forward(self, x: Array) -> Array:
        state = np.zeros((len(x), self.parameters[0].shape[1]), x.dtype)
        self.steps = [Network(Linear(*self.parameters), Tanh()) for _ in range(x.shape[1])]
        for time, step in enumerate(self.steps):
            state = step.forward(np.hstack([x[:, time], state]))  # [batch, hidden]
        return state

    def backward(self, d_y: Array) -> Array:
        weight, _ = self.parameters
        inputs = weight.shape[0] - weight.shape[1]
        d_x = []
        for step in reversed(self.steps):
            d_joined = step.backward(d_y)  # [batch, inputs + hidden]
            d_x.append(d_joined[:, :inputs])
            d_y = d_joined[:, inputs:]
        self.gradients = [
            np.sum(parts, axis=0) for parts in zip(*(s.gradients for s in self.steps), strict=True)
        ]
        return np.stack(d_x[::-1], axis=1)  # [batch, steps, inputs]
