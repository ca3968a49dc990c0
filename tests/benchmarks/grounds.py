"""What garments are photographed on, drawn by chance: each (height, width, 3), from about 0 to 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from .scene import ramp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Colours = NDArray[np.float64]
    Ground = Callable[[tuple[int, int], np.random.Generator], Colours]


def blotches(shape: tuple[int, int], down: int, across: int, rng: np.random.Generator) -> Colours:
    """Smooth noise of deviation 1 or so: (height, width, 1), with so many values along each axis."""
    return cv2.resize(rng.normal(0, 1, (down, across)), shape[::-1], interpolation=cv2.INTER_CUBIC)[..., None]


def dye(rng: np.random.Generator, darkest: float, lightest: float) -> Colours:
    """A colour of some lightness, by two fifths off grey at most."""
    return rng.uniform(darkest, lightest) * (1 - rng.uniform(0, 0.4, 3))


def wood(shape: tuple[int, int], rng: np.random.Generator) -> Colours:
    """Planks of slightly different tones, with grain along or across and dark gaps between them."""
    plank = ramp(shape, rng) * rng.uniform(2, 6)
    tones = rng.normal(0, 0.06, 8)[plank.astype(int)]
    cells = (128, 6) if rng.random() < 0.5 else (6, 128)
    grain = rng.uniform(0.03, 0.12) * blotches(shape, *cells, rng)
    gap = np.abs(plank % 1 - 0.5) > 0.485
    return dye(rng, 0.35, 0.85) * (1 + grain + tones[..., None]) * (1 - 0.3 * gap[..., None])


def tiles(shape: tuple[int, int], rng: np.random.Generator) -> Colours:
    """Square tiles at any angle, with darker or lighter joints."""
    down, across = np.mgrid[: shape[0], : shape[1]] / max(shape) * rng.uniform(2, 6)
    angle = rng.uniform(0, np.pi / 2)
    u = np.cos(angle) * across + np.sin(angle) * down + rng.random()
    v = np.cos(angle) * down - np.sin(angle) * across + rng.random()
    tones = rng.normal(0, 0.03, (64, 64))[u.astype(int) % 64, np.floor(v).astype(int) % 64]
    floor = dye(rng, 0.3, 0.9) + tones[..., None] + rng.uniform(0, 0.03) * blotches(shape, 20, 20, rng)
    joint = np.minimum(u % 1, v % 1) < rng.uniform(0.02, 0.05)
    return np.where(joint[..., None], floor * rng.choice([0.65, 0.8, 1.15]), floor)


def carpet(shape: tuple[int, int], rng: np.random.Generator) -> Colours:
    """Noise of three sizes."""
    pile = rng.uniform(0.05, 0.2) * rng.normal(0, 1, (*shape, 1))
    tufts = rng.uniform(0.03, 0.12) * blotches(shape, 60, 60, rng)
    wear = rng.uniform(0, 0.08) * blotches(shape, 10, 10, rng)
    return dye(rng, 0.15, 0.85) * (1 + pile + tufts + wear)


def sheet(shape: tuple[int, int], rng: np.random.Generator) -> Colours:
    """A bed's, with folds."""
    folds = rng.uniform(0.03, 0.1, 2)
    return dye(rng, 0.4, 0.97) * (
        1 + folds[0] * blotches(shape, 6, 6, rng) + folds[1] * blotches(shape, 4, 14, rng)
    )


def print_of_two_colours(shape: tuple[int, int], rng: np.random.Generator) -> Colours:
    """Blotches of one colour on another."""
    cells = int(rng.integers(12, 30))
    print_ = np.where(blotches(shape, cells, cells, rng) > 0, dye(rng, 0.2, 0.9), dye(rng, 0.2, 0.9))
    return print_ + rng.normal(0, 0.02, (*shape, 1))


GROUNDS: tuple[Ground, ...] = (wood, tiles, carpet, sheet, print_of_two_colours)
