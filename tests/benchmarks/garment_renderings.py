"""Product pictures: images of Fashion-MNIST turned back into what shops and people send.

Each rendering takes canonical pixels, uint8 (28, 28), and a random generator, and returns an upload's bytes.
The data set is negated grey, so a picture of its garment is the negative: on white, the pixels themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from .grounds import GROUNDS
from .scene import WHITE, enlarge, on_canvas, ramp, save

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .grounds import Ground

    Rendering = Callable[[NDArray[np.uint8], np.random.Generator], bytes]
    Colours = NDArray[np.float64]

PHOTOGRAPH_SIDE = 200  # pixels of the longer side, at least
UNLIKE = 0.3  # in colour space, of scale 1: how far cloth and ground lie apart at least, to be told apart
FAINT = 12  # of 255: what is darker is ground, if it reaches the edge


def garment(image: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Colours, NDArray[np.float64]]:
    """A garment's colours (height, width, 3) and opacity, large, somewhere on a larger canvas."""
    ground = np.pad((image < FAINT).astype(np.uint8), 1, constant_values=1)
    cv2.floodFill(ground, None, (0, 0), 2)
    opaque = np.where(ground[1:-1, 1:-1] == 2, 0, 255).astype(np.uint8)
    both = np.random.default_rng(rng.integers(1 << 32)), rng
    state = both[0].bit_generator.state
    layers = []
    for layer in (image, opaque):  # the same scale, filter and place for both
        both[0].bit_generator.state = state
        layers.append(on_canvas(enlarge(layer, both[0]), both[0], spare=0.6).astype(np.float64))
    return np.repeat(1 - layers[0][:, :, np.newaxis], 3, axis=2), layers[1]


def on_ground(image: NDArray[np.uint8], rng: np.random.Generator, colour: Colours) -> Colours:
    colours, opacity = garment(image, rng)
    return colour + opacity[:, :, np.newaxis] * (colours - colour)


def pale(rng: np.random.Generator) -> Colours:
    """A light colour, as backdrops have."""
    return rng.uniform(0.75, 1, 3)


def white(image: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    return save(on_ground(image, rng, WHITE))


def white_jpeg_50(image: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    return save(on_ground(image, rng, WHITE), "JPEG", quality=50)


def plain(image: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    return save(on_ground(image, rng, pale(rng)))


def plain_jpeg_50(image: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    return save(on_ground(image, rng, pale(rng)), "JPEG", quality=50)


def transparent(image: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """On nothing; what hides under full transparency is black or white."""
    colours, opacity = garment(image, rng)
    colours = np.where(opacity[:, :, np.newaxis] > 0, colours, float(rng.integers(0, 2)))
    return save(np.dstack([colours, opacity]))


def noisy(image: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Grain of the camera: up to a twentieth of full scale at every pixel."""
    picture = on_ground(image, rng, 0.95 * WHITE)
    return save(picture + rng.normal(0, rng.uniform(0.01, 0.05), picture.shape), "JPEG", quality=80)


def shaded(image: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """A backdrop that gets darker to one side by up to two fifths."""
    picture = on_ground(image, rng, pale(rng))
    light = 1 - rng.uniform(0.1, 0.4) * ramp(picture.shape[:2], rng)
    return save(picture * light[:, :, np.newaxis], "JPEG", quality=80)


def pale_cloth(image: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Nearly white cloth, with little shade, before a wall of any darker colour."""
    colours, opacity = garment(image, rng)
    cloth = 1 - rng.uniform(0.1, 0.5) * (1 - colours)
    wall = rng.uniform(0.12, 0.6, 3)
    picture = wall + opacity[:, :, np.newaxis] * (cloth - wall)
    return save(picture + rng.normal(0, 0.01, picture.shape), "JPEG", quality=80)


def photographed_on(ground: Ground) -> Rendering:
    """A dyed garment on a ground, with its shadow, a slope of light, blur and grain, as JPEG."""

    def photographed(image: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
        colours, opacity = garment(image, rng)
        enlarged = max(1, PHOTOGRAPH_SIDE / max(opacity.shape))
        height, width = (round(side * enlarged) for side in opacity.shape)
        cloth, opacity = (cv2.resize(layer, (width, height)) for layer in (colours, opacity))
        cloth = cloth * (1 - rng.uniform(0, 0.7) * rng.dirichlet([0.5, 0.5, 0.5]))
        while True:
            below = ground((height, width), rng)
            if np.linalg.norm(np.median(cloth[opacity > 0.5], axis=0) - below.mean(axis=(0, 1))) > UNLIKE:
                break
        pixel = height / 28
        shadow = cv2.GaussianBlur(opacity, (0, 0), pixel * rng.uniform(0.4, 1.5))
        shadow = np.roll(shadow, (pixel * rng.uniform(-0.7, 0.7, 2)).astype(int), (0, 1))
        below = np.clip(below, 0, 1) * (1 - rng.uniform(0.1, 0.5) * shadow[..., np.newaxis])
        picture = below + opacity[..., np.newaxis] * (cloth - below)
        picture *= 1 - rng.uniform(0.1, 0.4) * ramp((height, width), rng)[..., np.newaxis]
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.2))
        quality = int(rng.integers(60, 92))
        return save(picture + rng.normal(0, 0.015, picture.shape), "JPEG", quality=quality)

    photographed.__name__ = f"photographed_on_{ground.__name__}"
    return photographed


RENDERINGS: tuple[Rendering, ...] = (
    white,
    white_jpeg_50,
    plain,
    plain_jpeg_50,
    transparent,
    noisy,
    shaded,
    pale_cloth,
    *map(photographed_on, GROUNDS),
)
