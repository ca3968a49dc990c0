"""Ink, paper and files: what the renderings of digits are made of."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Map = NDArray[np.float32]  # (height, width): 0 is paper, 1 full ink

FILTERS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
WHITE, BLACK = np.ones(3), np.zeros(3)


def enlarge(digit: NDArray[np.uint8], rng: np.random.Generator, lowest: int = 4, highest: int = 20) -> Map:
    """Scale up by a whole factor with a random filter."""
    factor = int(rng.integers(lowest, highest + 1))
    how = int(rng.choice(FILTERS))
    large = cv2.resize(digit.astype(np.float32) / 255, None, fx=factor, fy=factor, interpolation=how)
    return np.clip(large, 0, 1)


def on_canvas(ink: Map, rng: np.random.Generator, spare: float = 1.0) -> Map:
    """Shift the drawing to a random place of a canvas larger by up to `spare` of its sides."""
    extra = (rng.random(2) * spare * np.array(ink.shape)).astype(int)
    top, left = (int(rng.integers(0, room + 1)) for room in extra)
    return np.pad(ink, ((top, extra[0] - top), (left, extra[1] - left)))


def paint(ink: Map, paper: NDArray[np.float64], pen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mix two colours (0 to 1) by the ink map: (height, width, 3)."""
    return paper + ink[:, :, np.newaxis] * (pen - paper)


def save(colours: NDArray[np.floating], how: str = "PNG", **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8)).save(file, how, **options)
    return file.getvalue()


def ramp(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """From 0 to 1 across the picture in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    down, right = np.meshgrid(*(np.linspace(-0.5, 0.5, side) for side in shape), indexing="ij")
    ramp = np.cos(angle) * right + np.sin(angle) * down
    return (ramp - ramp.min()) / np.ptp(ramp)


def skeleton(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin to lines one pixel wide: T. Y. Zhang and C. Y. Suen, Communications of the ACM 27 (1984), 236."""
    thin = np.pad(mask, 1).astype(np.uint8)
    while True:
        before = int(thin.sum())
        for turn in (0, 1):
            # The eight neighbours, clockwise from the one above.
            p = [np.roll(thin, shift, (0, 1)) for shift in
                 ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))]  # fmt: skip
            count = sum(p)
            starts = sum((p[i] == 0) & (p[(i + 1) % 8] == 1) for i in range(8))
            first, second = ((0, 2, 4), (2, 4, 6)) if turn == 0 else ((0, 2, 6), (0, 4, 6))
            free = (p[first[0]] * p[first[1]] * p[first[2]] == 0) & (
                p[second[0]] * p[second[1]] * p[second[2]] == 0
            )
            thin[(count >= 2) & (count <= 6) & (starts == 1) & free] = 0
        if int(thin.sum()) == before:
            return thin[1:-1, 1:-1].astype(bool)
