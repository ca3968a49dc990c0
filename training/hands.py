"""Digits as much of the world writes them, and MNIST's Americans rarely.

A 1 has an upstroke, a 7 a bar, the right stroke of a 4 is a stub, and the tail of a 9 turns to the left.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from training.poses import change_some

if TYPE_CHECKING:
    from torch import Tensor

    from training.recipes import Recipe

ONE: Final = (1,)
FOUR: Final = (4,)
SEVEN: Final = (7,)
NINE: Final = (9,)

INK: Final = 0.5  # of full ink: what is darker belongs to the stem
UPSTROKE_DEGREES: Final = (25.0, 50.0)  # between it and the stem,
STEEPNESS: Final = 30.0  # degrees below the level at least, or it would make a 7
UPSTROKE_LENGTH: Final = (0.25, 0.6)  # of the digit's height
FOOT: Final = 0.3  # of the ones with an upstroke stand on a foot as well
FOOT_LENGTH: Final = (0.3, 0.6)  # of the digit's height
BAR_LENGTH: Final = (0.3, 0.55)  # of the digit's height
BAR_PLACE: Final = (0.4, 0.65)  # of the digit's height, below its top
BAR_DEGREES: Final = (-15.0, 15.0)
SEVENS_LENGTH: Final = 1.6  # of all strokes of a 7, in heights
FOUR_BAR: Final = (0.6, 0.8)  # of the digit's height, below its top
FOUR_SLANT: Final = (0.15, 0.5)  # how far the left stroke runs to the left, in heights
FOUR_WIDTH: Final = (0.4, 0.7)  # of the bar, in heights
STUB_RISE: Final = (0.15, 0.45)  # above the bar, in heights
STUB_PLACE: Final = (0.6, 1.0)  # where the stub crosses the bar, of its width from the left
STUB_SLANT: Final = (-0.1, 0.25)  # how far the stub runs to the left, in heights
BAR_RISE: Final = (-0.08, 0.12)  # of a 4's bar from left to right, in heights
FOURS_LENGTH: Final = 2.2  # of all strokes of a 4, in heights
TAIL_LENGTH: Final = (0.25, 0.6)  # of the digit's height
TAIL_RISE: Final = (0.0, 0.2)  # of the digit's height, at the tail's end
NINES_LENGTH: Final = 2.2  # of all strokes of a 9, in heights
PEN: Final = (0.8, 1.1)  # widths of the digit's own pen


def write_elsewhere(pixels: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Return `pixels` [batch, 28, 28] with some digits written so, by the recipe's odds.

    `labels` [batch] are the digits. A 4 is drawn anew, as tall and with such a pen; others get a stroke more.
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


def _with_upstroke(pixels: Tensor) -> Tensor:
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


def _with_bar(pixels: Tensor) -> Tensor:
    stem = _stem(pixels)
    # Two strokes share the ink of a 7: its top is nearly as long as its stem.
    pen = stem.pen * _between(pixels, PEN) / SEVENS_LENGTH
    angle = torch.deg2rad(_between(pixels, BAR_DEGREES))
    half = stem.height * _between(pixels, BAR_LENGTH) / 2
    y = stem.top + stem.height * _between(pixels, BAR_PLACE)
    x = _column(pixels, y)
    aside, down = half * angle.cos(), half * angle.sin()
    return torch.maximum(pixels, _line(pixels, (x - aside, y - down), (x + aside, y + down), pen))


def _with_stub(pixels: Tensor) -> Tensor:
    """Draw each 4 anew: down to the left, along the bar, and a short stroke across the bar's right half."""
    stem = _stem(pixels)
    pen = stem.pen * _between(pixels, PEN) / FOURS_LENGTH
    height = stem.height - pen
    left = -_between(pixels, FOUR_SLANT)
    width, bar = _between(pixels, FOUR_WIDTH), _between(pixels, FOUR_BAR)
    cross = left + width * _between(pixels, STUB_PLACE)
    slant, above = _between(pixels, STUB_SLANT), _between(pixels, STUB_RISE)
    rise = _between(pixels, BAR_RISE)
    nought = torch.zeros_like(bar)
    strokes = (  # x and y of both ends, in heights from the top of the left stroke
        (nought, nought, left, bar),
        (left, bar, left + width, bar - rise),
        (cross + slant / 2, bar - above, cross - slant / 2, nought + 1),
    )
    lengths = torch.stack([torch.hypot(c - a, d - b) for a, b, c, d in strokes])
    middles = torch.stack([(a + c) / 2 for a, _, c, _ in strokes])
    start = (pixels.shape[2] - 1) / 2 - height * (lengths * middles).sum(0) / lengths.sum(0)
    top = stem.top + pen / 2
    drawn = torch.zeros_like(pixels)
    for a, b, c, d in strokes:
        ends = (start + height * a, top + height * b), (start + height * c, top + height * d)
        drawn = torch.maximum(drawn, _line(pixels, *ends, pen))
    return drawn


def _with_tail(pixels: Tensor) -> Tensor:
    """Draw the tail on from the lower end of the stem: to the left, the second half of it rising."""
    stem = _stem(pixels)
    pen = stem.pen * _between(pixels, PEN) / NINES_LENGTH
    bottom = stem.bottom - pen / 2
    x = _column(pixels, bottom)
    length = stem.height * _between(pixels, TAIL_LENGTH)
    turn = x - length / 2, bottom
    end = x - length, bottom - stem.height * _between(pixels, TAIL_RISE)
    tail = torch.maximum(_line(pixels, (x, bottom), turn, pen), _line(pixels, turn, end, pen))
    return torch.maximum(pixels, tail)


def _line(pixels: Tensor, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor], pen: Tensor) -> Tensor:
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
