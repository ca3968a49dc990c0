"""Layers over images [batch, channels, height, width]: convolution, pooling, normalisation by channel.

A convolution or a pooling looks at windows of the image. Taking windows only copies pixels, so its transpose
sends gradients back the same way: each pixel collects from every window that showed it.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from training.by_hand.layers import Array, Layer, Network


def take_windows(images: Array, size: int, stride: int, padding: int) -> Array:
    """All sizexsize windows, [batch, channels, rows, columns, size, size], of images framed by zeros.

    rows = ⌊(height + 2 padding - size) / stride⌋ + 1, and columns likewise.
    """
    frame = (padding, padding)
    framed = np.pad(images, [(0, 0), (0, 0), frame, frame])
    return sliding_window_view(framed, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]


def return_windows(d_windows: Array, shape: tuple[int, ...], stride: int, padding: int) -> Array:
    """The transpose of `take_windows`: add up, in images of `shape`, what each pixel's windows say of it."""
    batch, channels, height, width = shape
    rows, columns, size = d_windows.shape[2:5]
    d_framed = np.zeros((batch, channels, height + 2 * padding, width + 2 * padding), d_windows.dtype)
    for i in range(size):
        for j in range(size):
            seen = np.s_[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]
            d_framed[seen] += d_windows[..., i, j]
    return d_framed[:, :, padding : padding + height, padding : padding + width]


class Convolution(Layer):
    """Cross-correlation, which the field calls convolution: y = Σ window · kernel + b.

    kernel [outputs, channels, size, size], bias [outputs] or none, y [batch, outputs, rows, columns]. It is a
    linear map of each window, so both gradients are those of `Linear`, and d_x goes back through the windows:
    d_kernel sums d_y · window over batch and places, d_window = Σ d_y · kernel over the outputs.
    """

    def __init__(
        self, kernel: Array, bias: Array | None = None, *, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(kernel, *([] if bias is None else [bias]))
        self.stride, self.padding = stride, padding

    def forward(self, x: Array) -> Array:
        kernel, *bias = self.parameters
        self.shape = x.shape
        self.windows = take_windows(x, kernel.shape[-1], self.stride, self.padding)
        y = np.einsum("nchwij,ocij->nohw", self.windows, kernel, optimize=True)
        return sum((b[:, np.newaxis, np.newaxis] for b in bias), start=y)

    def backward(self, d_y: Array) -> Array:
        kernel, *bias = self.parameters
        d_kernel = np.einsum("nchwij,nohw->ocij", self.windows, d_y, optimize=True)
        self.gradients = [d_kernel, *(d_y.sum(axis=(0, 2, 3)) for _ in bias)]
        d_windows = np.einsum("nohw,ocij->nchwij", d_y, kernel, optimize=True)
        return return_windows(d_windows, self.shape, self.stride, self.padding)


class AveragePool(Layer):
    """y is the mean of each window, framing zeros included: every pixel in it has derivative 1 / size²."""

    def __init__(self, size: int, *, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        y: Array = take_windows(x, self.size, self.stride, self.padding).mean(axis=(4, 5))
        return y

    def backward(self, d_y: Array) -> Array:
        share = d_y[..., np.newaxis, np.newaxis] / self.size**2
        d_windows = np.broadcast_to(share, (*d_y.shape, self.size, self.size))
        return return_windows(d_windows, self.shape, self.stride, self.padding)


class MaxPool(Layer):
    """y is the largest pixel of each window, the first of equals; it alone receives the window's gradient."""

    def __init__(self, size: int, *, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        windows = take_windows(x, self.size, self.stride, padding=0)
        pixels = windows.reshape(*windows.shape[:4], self.size**2)
        self.largest = pixels.argmax(axis=4, keepdims=True)
        y: Array = pixels.max(axis=4)
        return y

    def backward(self, d_y: Array) -> Array:
        d_pixels = np.zeros((*d_y.shape, self.size**2), d_y.dtype)
        np.put_along_axis(d_pixels, self.largest, d_y[..., np.newaxis], axis=4)
        d_windows = d_pixels.reshape(*d_y.shape, self.size, self.size)
        return return_windows(d_windows, self.shape, self.stride, padding=0)


class GlobalAveragePool(Layer):
    """y [batch, channels] is the mean of each channel: every pixel has derivative 1 / (height · width)."""

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        y: Array = x.mean(axis=(2, 3))
        return y

    def backward(self, d_y: Array) -> Array:
        _, _, height, width = self.shape
        return np.broadcast_to(d_y[:, :, np.newaxis, np.newaxis] / (height * width), self.shape)


class Standardise(Layer):
    """y = (x - μ) / s with s = √(variance + ε): each channel at mean 0 and variance 1 over batch and pixels.

    x [batch, channels, …]. A pixel moves its channel's m values in three ways: its own by 1/s; all of them
    through the mean, ∂μ/∂x = 1/m; and all through the spread, ∂s/∂x = (x - μ) / (m s) = y / m. Together
    d_x = (d_y - mean(d_y) - y · mean(d_y · y)) / s, each mean taken as μ is (Ioffe and Szegedy, 2015).
    """

    def __init__(self, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Array) -> Array:
        self.axes = _all_but_channels(x)
        self.spread: Array = np.sqrt(x.var(axis=self.axes, keepdims=True) + self.epsilon)
        y: Array = (x - x.mean(axis=self.axes, keepdims=True)) / self.spread
        self.y = y
        return y

    def backward(self, d_y: Array) -> Array:
        through_mean: Array = d_y.mean(axis=self.axes, keepdims=True)
        through_spread: Array = self.y * (d_y * self.y).mean(axis=self.axes, keepdims=True)
        d_x: Array = (d_y - through_mean - through_spread) / self.spread
        return d_x


class ChannelAffine(Layer):
    """y = scale · x + shift, one pair for each channel: ∂y/∂x = scale, ∂y/∂scale = x, ∂y/∂shift = 1."""

    def __init__(self, scale: Array, shift: Array) -> None:
        super().__init__(scale, shift)

    def forward(self, x: Array) -> Array:
        self.x = x
        scale, shift = (_per_channel(parameter, x) for parameter in self.parameters)
        return scale * x + shift

    def backward(self, d_y: Array) -> Array:
        axes = _all_but_channels(d_y)
        self.gradients = [(d_y * self.x).sum(axis=axes), d_y.sum(axis=axes)]
        return d_y * _per_channel(self.parameters[0], d_y)


def batch_norm(scale: Array, shift: Array, epsilon: float = 1e-5) -> Network:
    """Batch normalisation as it trains: standardise by the batch, then scale and shift as is learned."""
    return Network(Standardise(epsilon), ChannelAffine(scale, shift))


def frozen_batch_norm(
    scale: Array, shift: Array, mean: Array, variance: Array, epsilon: float = 1e-5
) -> ChannelAffine:
    """Batch normalisation as it serves: with fixed statistics it is affine, and each image stands alone."""
    slope = scale / np.sqrt(variance + epsilon)
    return ChannelAffine(slope, shift - slope * mean)


def _all_but_channels(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _per_channel(values: Array, x: Array) -> Array:
    return values.reshape(-1, *[1] * (x.ndim - 2))  # [channels, 1, 1] for images
