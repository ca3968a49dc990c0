"""Several digits on one picture: images of the dataset side by side, in sizes and inks of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .scene import FILTERS, save

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DIGITS = (2, 5)  # fewest and most on one picture
HEIGHT = (20, 120)  # pixels of the tallest digit
SMALLEST = 0.5  # of the tallest digit's height
GAP = (0.12, 0.8)  # of the tallest digit's height, between two boxes
DARKEST, LIGHTEST = 0.0, 0.5  # ink, of 1, on paper from 0.75 to 1
GREYEST = 0.75
LINES = 0.2  # share of the pictures that have a second line


@dataclass(frozen=True)
class Written:
    """An upload, and which of the images stand where on it: boxes (left, top, width, height) in pixels."""

    upload: bytes
    members: list[int]
    boxes: list[tuple[int, int, int, int]]


def written_together(images: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> Written:
    """Write two to five of the images on one sheet, in one or two lines, each with its own size and ink."""
    count = int(rng.integers(DIGITS[0], DIGITS[1] + 1))
    members = rng.choice(len(images), count, replace=False).tolist()
    tallest = float(rng.uniform(*HEIGHT))
    first_line = count if rng.random() > LINES else int(rng.integers(1, count))
    paper = rng.uniform(GREYEST, 1, 3)
    placed, boxes, top = [], [], 0.5 * tallest
    for line in (members[:first_line], members[first_line:]):
        left = float(rng.uniform(0.2, 1.5)) * tallest
        lowest = top
        for member in line:
            ink = _in_height(images[member], tallest * rng.uniform(SMALLEST, 1), rng)
            y = top + rng.uniform(0, 1) * (tallest - ink.shape[0]) if ink.shape[0] < tallest else top
            boxes.append((round(left), round(y), ink.shape[1], ink.shape[0]))
            placed.append((boxes[-1], ink, rng.uniform(DARKEST, LIGHTEST, 3)))
            left += ink.shape[1] + rng.uniform(*GAP) * tallest
            lowest = max(lowest, y + ink.shape[0])
        top = lowest + rng.uniform(0.25, 0.8) * tallest
    width = max(x + w for x, _, w, _ in boxes) + int(rng.uniform(0.2, 1.5) * tallest)
    height = max(y + h for _, y, _, h in boxes) + int(rng.uniform(0.2, 1.0) * tallest)
    picture = np.ones((height, width, 3)) * paper
    for (x, y, w, h), ink, pen in placed:
        part = picture[y : y + h, x : x + w]
        part += ink[:, :, np.newaxis] * (pen - part)
    if rng.random() < 0.5:
        picture = 1 - picture
    picture += rng.normal(0, 0.01, picture.shape)
    how, options = (("JPEG", {"quality": 80}), ("PNG", {}))[int(rng.integers(0, 2))]
    return Written(save(picture, how, **options), members, boxes)


def _in_height(image: NDArray[np.uint8], height: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut an image to its digit and scale that to a height, or to a width of as much if it is wider."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32) / 255
    scale = height / max(ink.shape)
    size = tuple(max(1, round(side * scale)) for side in ink.shape[::-1])
    how = int(rng.choice(FILTERS)) if scale > 1 else cv2.INTER_AREA
    return np.clip(cv2.resize(ink, size, interpolation=how), 0, 1)
