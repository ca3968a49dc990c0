"""Digits as much of the world writes them, and MNIST's Americans rarely.

A 1 has an upstroke, a 7 a bar, the right stroke of a 4 is a stub, and the tail of a 9 turns to the left.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from training.poses import change_some

if TYPE_CHECKING:
    from torch import Tensor

    from training.recipes import Recipe

    Point = tuple[Tensor, Tensor]  # x and y of each image [n]

ONE: Final = (1,)
FOUR: Final = (4,)
SEVEN: Final = (7,)
NINE: Final = (9,)

INK: Final = 0.5  # of full ink: what is darker belongs to the stem
UPSTROKE_DEGREES: Final = (25.0, 50.0)  # between it and the stem
STEEPNESS: Final = 30.0  # degrees below the level at least, or it would make a 7
UPSTROKE_LENGTH: Final = (0.25, 0.6)  # of the digit's height
FOOT: Final = 0.3  # of the ones with an upstroke stand on a foot as well
FOOT_LENGTH: Final = (0.3, 0.6)  # of the digit's height
BAR_LENGTH: Final = (0.3, 0.55)  # of the digit's height
BAR_PLACE: Final = (0.4, 0.65)  # of the digit's height, below its top
BAR_DEGREES: Final = (-15.0, 15.0)
SEVENS_LENGTH: Final = 1.6  # of all strokes of a 7, in heights
# of digits drawn anew, in their heights
FOUR_BAR: Final = (0.6, 0.8)  # below the top
FOUR_SLANT: Final = (0.15, 0.5)  # of the left stroke, to the left
FOUR_WIDTH: Final = (0.4, 0.7)  # of the bar
FOUR_RISE: Final = (-0.08, 0.12)  # of the bar, from left to right
STUB_PLACE: Final = (0.6, 1.0)  # where the stub crosses the bar, of its width from the left
STUB_RISE: Final = (0.15, 0.45)  # above the bar
STUB_SLANT: Final = (-0.1, 0.25)  # of the stub, to the left
FOURS_LENGTH: Final = 2.2  # of all strokes of a 4
LOOP_WIDTH: Final = (0.2, 0.45)
LOOP_HEIGHT: Final = (0.25, 0.5)
LOOP_CORNERS: Final = 10
STEM_LEAN: Final = (-0.2, 0.15)  # to the right
TAIL_LENGTH: Final = (0.3, 0.65)
TAIL_RISE: Final = (0.0, 0.2)  # at the tail's end
NINES_LENGTH: Final = 2.2  # of all strokes of a 9
PEN: Final = (0.8, 1.1)  # widths of the digit's own pen


def write_elsewhere(pixels: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Return `pixels` [batch, 28, 28] with some digits written so, by the recipe's odds.

    `labels` [batch] are the digits. A 1 and a 7 get a stroke more, a 4 and a 9 are drawn anew.
    """
    if recipe.upstrokes:
        pixels = change_some(pixels, labels, ONE, recipe.upstrokes, _with_upstroke)
    if recipe.bars:
        pixels = change_some(pixels, labels, SEVEN, recipe.bars, _with_bar)
    if recipe.stubs:
        pixels = change_some(pixels, labels, FOUR, recipe.stubs, _with_stub)
    if recipe.tails:
        pixels = change_some(pixels, labels, NINE, recipe.tails, _with_tail)
    return pixels


class _Stem(NamedTuple):
    """Where each digit stands, in pixels [n]: rows of its ends, and the pen's width."""

    top: Tensor
    bottom: Tensor
    pen: Tensor

    @property
    def height(self) -> Tensor:
        return self.bottom - self.top


def _stem(pixels: Tensor) -> _Stem:
    filled = (pixels > INK).any(2).float()  # [n, rows]
    top = filled.argmax(1)
    bottom = filled.shape[1] - 1 - filled.flip(1).argmax(1)
    height = (bottom - top + 1).float()
    return _Stem(top.float(), bottom.float(), pixels.sum((1, 2)) / height)


def _column(pixels: Tensor, row: Tensor) -> Tensor:
    """The middle [n] of the ink in a row [n] and its neighbours."""
    rows = torch.arange(pixels.shape[1], device=pixels.device)
    near = (rows - row[:, None]).abs() <= 1  # [n, rows]
    ink = (pixels * near[:, :, None]).sum(1)  # [n, columns]
    return (ink @ rows.to(ink.dtype)) / ink.sum(1).clamp(min=1e-6)


def _with_upstroke(pixels: Tensor, _labels: Tensor) -> Tensor:
    stem = _stem(pixels)
    pen = stem.pen * _between(pixels, PEN)
    length = stem.height * _between(pixels, UPSTROKE_LENGTH)
    top, bottom = stem.top + pen / 2, stem.bottom - pen / 2
    x, foot_x = _column(pixels, top), _column(pixels, bottom)
    slant = torch.atan2(bottom - top, x - foot_x)  # of the stem, below the level to the left
    angle = slant - torch.deg2rad(_between(pixels, UPSTROKE_DEGREES))
    angle = angle.clamp(min=math.radians(STEEPNESS))
    end = x - length * angle.cos(), top + length * angle.sin()
    half = stem.height * _between(pixels, FOOT_LENGTH) / 2
    foot = _line(pixels, (foot_x - half, bottom), (foot_x + half, bottom), pen)
    stands = torch.rand_like(half) < FOOT
    written = torch.maximum(pixels, _line(pixels, (x, top), end, pen))
    return torch.maximum(written, foot * stands[:, None, None])


def _with_bar(pixels: Tensor, _labels: Tensor) -> Tensor:
    stem = _stem(pixels)
    # Two strokes share the ink of a 7: its top is nearly as long as its stem.
    pen = stem.pen * _between(pixels, PEN) / SEVENS_LENGTH
    angle = torch.deg2rad(_between(pixels, BAR_DEGREES))
    half = stem.height * _between(pixels, BAR_LENGTH) / 2
    y = stem.top + stem.height * _between(pixels, BAR_PLACE)
    x = _column(pixels, y)
    aside, down = half * angle.cos(), half * angle.sin()
    return torch.maximum(pixels, _line(pixels, (x - aside, y - down), (x + aside, y + down), pen))


def _with_stub(pixels: Tensor, _labels: Tensor) -> Tensor:
    """Draw each 4 anew: down to the left, along the bar, and a short stroke across the bar's right half."""
    nought = torch.zeros(len(pixels), device=pixels.device)
    left, bar = -_between(pixels, FOUR_SLANT), _between(pixels, FOUR_BAR)
    width = _between(pixels, FOUR_WIDTH)
    corner = left, bar
    bar_end = left + width, bar - _between(pixels, FOUR_RISE)
    crossing, above = left + width * _between(pixels, STUB_PLACE), _between(pixels, STUB_RISE)
    slant = _between(pixels, STUB_SLANT)
    stub = (crossing + slant / 2, bar - above), (crossing - slant / 2, nought + 1)
    return _drawn(pixels, FOURS_LENGTH, [((nought, nought), corner), (corner, bar_end), stub])


def _with_tail(pixels: Tensor, _labels: Tensor) -> Tensor:
    """Draw each 9 anew: a loop, a stem down from its right side, and a tail to the left, rising at last."""
    nought = torch.zeros(len(pixels), device=pixels.device)
    across, high = _between(pixels, LOOP_WIDTH) / 2, _between(pixels, LOOP_HEIGHT) / 2
    angles = torch.linspace(0, 2 * math.pi, LOOP_CORNERS + 1).tolist()
    points = [(across * math.cos(angle), high - high * math.sin(angle)) for angle in angles]
    foot = across + _between(pixels, STEM_LEAN)
    length = _between(pixels, TAIL_LENGTH)
    points += [
        (foot, nought + 1),
        (foot - length / 2, nought + 1),
        (foot - length, 1 - _between(pixels, TAIL_RISE)),
    ]
    return _drawn(pixels, NINES_LENGTH, list(itertools.pairwise(points)))


def _drawn(pixels: Tensor, usual_length: float, strokes: list[tuple[Point, Point]]) -> Tensor:
    """Draw digits as tall as `pixels` [n, 28, 28] and with such a pen, their mass in the middle column.

    The pen follows from the ink of a digit and the `usual_length` of its strokes. The ends of `strokes` are
    in heights, down and to the right from the middle of the top.
    """
    stem = _stem(pixels)
    pen = stem.pen * _between(pixels, PEN) / usual_length
    height, top = stem.height - pen, stem.top + pen / 2  # of the pen's middle
    lengths = torch.stack([torch.hypot(c - a, d - b) for (a, b), (c, d) in strokes])  # [strokes, n]
    middles = torch.stack([(a + c) / 2 for (a, _), (c, _) in strokes])
    left = (pixels.shape[2] - 1) / 2 - height * (lengths * middles).sum(0) / lengths.sum(0)
    drawn = torch.zeros_like(pixels)
    for stroke in strokes:
        start, end = ((left + height * x, top + height * y) for x, y in stroke)
        drawn = torch.maximum(drawn, _line(pixels, start, end, pen))
    return drawn


def _line(pixels: Tensor, start: Point, end: Point, pen: Tensor) -> Tensor:
    """Draw a line from x, y [n] to x, y [n] with round ends: ink between 0 and 1, [n, 28, 28]."""
    side = torch.arange(pixels.shape[1], device=pixels.device, dtype=pixels.dtype)
    x, y = side[None, None, :] - start[0][:, None, None], side[None, :, None] - start[1][:, None, None]
    right, down = (one[:, None, None] - other[:, None, None] for one, other in zip(end, start, strict=True))
    along = ((x * right + y * down) / (right**2 + down**2).clamp(min=1e-6)).clamp(0, 1)
    distance = torch.hypot(x - along * right, y - along * down)
    return (pen[:, None, None] / 2 + 0.5 - distance).clamp(0, 1)


def _between(pixels: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Draw a number for each image."""
    low, high = bounds
    return low + (high - low) * torch.rand(len(pixels), device=pixels.device)
