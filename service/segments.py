"""Strokes that do not touch become digits: which of them are parts of one, and which are digits of their own.

Shapes alone decide. The limits were set on MNIST's training images: written side by side, and drawn singly
with broken strokes; `tests/benchmarks/canonical.py` prints how often each is taken for the other.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from service.errors import SeveralDigits
from service.ink import stroke_width
from service.strokes import Stroke, mask_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_STROKES = 48  # of more, the low ones are a texture
STANDS = 0.45  # of the tallest one's height: what is lower is part of the digit nearest to it
WIDEST = 1.1  # times as wide as tall: pieces beside each other make no digit that is wider
LEVEL = 0.8  # of the lower one's height that two digits beside each other share
BESIDE = 0.7  # widths of the pen: so far apart at most are tall pieces of a digit that lie beside each other
NEAR_PENS, NEAR = 1.0, 0.09  # widths of the pen, or share of the common height, between any other pieces
OVERLAP = 0.4  # of the narrower piece's width, where one is above the other
ABOVE, ABOVE_IN_BROAD = 0.12, 0.2  # share of the common height between a piece and the one above it
BROAD = 0.5  # times as wide as tall: two digits above each other are narrower together
FAR = 0.35  # of the tallest one's height: what is low and farther from any digit is part of none
IN_LINE = 0.5  # of the lower one's height that digits of one line share


class Box(NamedTuple):
    """A rectangle of pixels."""

    x: int
    y: int
    width: int
    height: int


class Segment(NamedTuple):
    """One of the digits on a picture: its canonical pixels, uint8 (28, 28), and where it was found."""

    pixels: NDArray[np.uint8]
    box: Box


class _Group:
    """Strokes of one digit, by their indices, and their common box."""

    def __init__(self, index: int, stroke: Stroke) -> None:
        self.members = [index]
        self.left, self.right = stroke.left, stroke.left + stroke.width
        self.top, self.bottom = stroke.top, stroke.top + stroke.height

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def take(self, other: _Group) -> None:
        self.members += other.members
        self.left, self.right = min(self.left, other.left), max(self.right, other.right)
        self.top, self.bottom = min(self.top, other.top), max(self.bottom, other.bottom)


def digits_of(strokes: Sequence[Stroke], shape: tuple[int, ...]) -> list[list[Stroke]]:
    """Group the strokes on a picture of this shape into digits, in reading order.

    Raises:
        SeveralDigits: they are too many to be told apart.
    """
    if len(strokes) > MOST_STROKES:
        tallest = max(stroke.height for stroke in strokes)
        strokes = [stroke for stroke in strokes if stroke.height >= STANDS * tallest]
    if len(strokes) > MOST_STROKES:
        raise SeveralDigits(
            f"The picture shows more than {MOST_STROKES} digits, or a pattern: send a part of it."
        )
    if len(strokes) < 2:
        return [list(strokes)]
    apart = _distances(strokes, shape)
    pen = stroke_width(mask_of(strokes, shape))
    groups = _joined([_Group(i, stroke) for i, stroke in enumerate(strokes)], apart, pen)
    groups = _without_low_ones(groups, apart)
    return [[strokes[i] for i in group.members] for group in _in_reading_order(groups)]


def _distances(strokes: Sequence[Stroke], shape: tuple[int, ...]) -> list[list[float]]:
    """Pixels of paper between each two strokes."""
    masks = [mask_of([stroke], shape) for stroke in strokes]
    fields = [cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 5) for mask in masks]
    return [[float(field[mask].min()) - 1 for mask in masks] for field in fields]


def _joined(groups: list[_Group], apart: list[list[float]], pen: float) -> list[_Group]:
    """Join groups that belong together, the nearest first, until there are none."""
    home = list(groups)  # of each stroke
    tallest = max(group.height for group in groups)
    pairs = sorted(combinations(range(len(groups)), 2), key=lambda pair: apart[pair[0]][pair[1]])
    count = 0
    while count != len(set(home)):
        count = len(set(home))
        for i, j in pairs:
            one, other = home[i], home[j]
            if one is not other and _belong_together(one, other, apart[i][j], pen, tallest):
                one.take(other)
                for member in other.members:
                    home[member] = one
    return list(dict.fromkeys(home))


def _belong_together(one: _Group, other: _Group, apart: float, pen: float, tallest: int) -> bool:
    width = max(one.right, other.right) - min(one.left, other.left)
    height = max(one.bottom, other.bottom) - min(one.top, other.top)
    across = min(one.right, other.right) - max(one.left, other.left)  # pixels of overlap, or of gap below 0
    along = min(one.bottom, other.bottom) - max(one.top, other.top)
    lower = min(one.height, other.height)
    if width > WIDEST * height and across < 0:
        return False
    if along > LEVEL * lower and lower > STANDS * tallest:
        return apart <= BESIDE * pen and width <= WIDEST * height
    if apart <= max(NEAR_PENS * pen, NEAR * height):
        return True
    room = ABOVE_IN_BROAD if width >= BROAD * height else ABOVE
    return across >= OVERLAP * min(one.width, other.width) and -along <= room * height


def _without_low_ones(groups: list[_Group], apart: list[list[float]]) -> list[_Group]:
    """Give what is too low for a digit to the nearest digit, a bar or a dot, or forget it: printed words."""
    tallest = max(group.height for group in groups)
    digits = [group for group in groups if group.height >= STANDS * tallest]
    for low in groups:
        if low.height < STANDS * tallest:
            nearest = min(digits, key=lambda digit: _gap(digit, low, apart))
            if _gap(nearest, low, apart) <= FAR * tallest:
                nearest.take(low)
    return digits


def _gap(one: _Group, other: _Group, apart: list[list[float]]) -> float:
    return min(apart[i][j] for i in one.members for j in other.members)


def _in_reading_order(groups: list[_Group]) -> list[_Group]:
    """Lines from top to bottom, and each line from left to right."""
    lines: list[list[_Group]] = []
    for group in sorted(groups, key=lambda group: group.top + group.bottom):
        last = lines[-1][-1] if lines else group
        shared = min(last.bottom, group.bottom) - max(last.top, group.top)
        if lines and shared > IN_LINE * min(last.height, group.height):
            lines[-1].append(group)
        else:
            lines.append([group])
    return [group for line in lines for group in sorted(line, key=lambda group: group.left)]
