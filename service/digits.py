"""A picture of digits becomes MNIST-like pixels: find each, cut it out, even the pen, scale, centre."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from service import ink, strokes
from service.errors import EmptyImage, SeveralDigits
from service.segments import Box, Segment, digits_of
from service.sheet import cut_to_sheet, find_sheet, light

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.strokes import Rule, Stroke

SIDE, BOX = 28, 20
LOOK_SIDE = 90  # at least so many pixels of the longer side are looked at to find the digit
DRAW_SIDE = 120  # the longer side that it is then drawn at
MARGIN = 0.15  # of its box, cut out around it
REACH = 2  # pixels of the look that a stroke may be wider than it was seen
PEN_WIDTH = (2.2, 4.5)  # pixels of 20: nine tenths of MNIST's training images have strokes of 1.9 to 4.5


class Look(NamedTuple):
    """What is seen on a picture that is looked at from afar."""

    shape: tuple[int, int]  # of the shrunken picture
    towards_ink: NDArray[np.float32]  # (channels,), from paper to ink in colour space
    pen: float  # its width
    ink: list[Stroke]  # of the digit or digits
    rules: list[Rule]  # that cross the picture


def draw_digit(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw the one digit on a picture as MNIST would: uint8 (28, 28).

    The whole picture is looked at coarsely, then the digit alone is drawn finely, so the cost hardly depends
    on the picture's size.

    Raises:
        SeveralDigits: there is more than one.
    """
    picture, seen, _ = find(ink.on_ground(picture))
    digits = digits_of(seen.ink, seen.shape)
    if len(digits) > 1:
        raise SeveralDigits(
            f"The picture shows {len(digits)} digits: send one digit a picture, "
            f"or ask with segments=true to have each of them answered."
        )
    pixels, _ = draw(picture, seen, digits[0])
    return pixels


def draw_digits(picture: NDArray[np.uint8]) -> list[Segment]:
    """Draw each digit on a picture: line by line, from left to right; boxes are in the picture's pixels.

    Raises:
        SeveralDigits: there are too many to be told apart.
    """
    picture, seen, (left, top) = find(ink.on_ground(picture))
    segments = []
    for digit in digits_of(seen.ink, seen.shape):
        pixels, box = draw(picture, seen, digit)
        segments.append(Segment(pixels, box._replace(x=box.x + left, y=box.y + top)))
    return segments


def find(picture: ink.Picture) -> tuple[ink.Picture, Look, tuple[int, int]]:
    """Look at a picture, or at the sheet of paper on it, which is then cut out at this left and top."""
    whole, corner = ink.shrink(picture, LOOK_SIDE), (0, 0)
    sheet = find_sheet(light(whole))
    if sheet is not None:
        picture, corner = cut_to_sheet(picture, sheet)
        whole = ink.shrink(picture, LOOK_SIDE)
    return picture, look(whole), corner


def look(whole: ink.Picture) -> Look:
    """See what is on a picture that is shrunk to LOOK_SIDE."""
    towards_ink = ink.ink_direction(whole)
    seen = ink.ink_map(whole, towards_ink)
    if ink.is_around_a_digit(seen):
        towards_ink, seen = -towards_ink, -seen
    height, width = seen.shape
    pen = ink.pen_width(seen)
    seen = ink.full_contrast(ink.without_shadows_at_the_edge(seen, pen))
    rules = strokes.find_rules(seen > ink.IS_INK)
    if rules:
        alone = strokes.written_on_rules(strokes.without_rules(seen, rules) > ink.IS_INK)
        if alone:
            pen = ink.stroke_width(strokes.mask_of(alone, seen.shape))
            return Look((height, width), towards_ink, pen, alone, rules)
    alone = strokes.digit_strokes(seen > ink.IS_INK, sure=seen > ink.SURELY_INK)
    within = strokes.without_intruders(alone, seen.shape)
    if len(within) < len(alone) and len(digits_of(within, seen.shape)) == 1:
        alone = within  # beside several, it may be one more that is cut off
    return Look((height, width), towards_ink, pen, alone, [])


def draw(picture: ink.Picture, seen: Look, digit: list[Stroke]) -> tuple[NDArray[np.uint8], Box]:
    """Draw the digit that has these strokes: uint8 (28, 28), and its box in the picture."""
    mask = strokes.mask_of(digit, seen.shape)
    rows, columns = box(mask, MARGIN)
    top_to_bottom, left_to_right = (
        _enlarged(span, seen.shape[axis], picture.shape[axis]) for axis, span in enumerate((rows, columns))
    )
    cut = picture[top_to_bottom, left_to_right]
    drawn = to_side(ink.ink_map(cut, seen.towards_ink), DRAW_SIDE)
    scale = max(picture.shape) / max(seen.shape) * DRAW_SIDE / max(cut.shape)
    pen = seen.pen * scale
    rules = [strokes.seen_closer(rule, (rows.start, columns.start), scale) for rule in seen.rules]
    drawn = strokes.without_rules(drawn, rules, strokes.BLUR * scale)
    drawn = ink.full_contrast(ink.sharpened(ink.without_shadows(drawn, pen), pen))
    drawn = only(drawn, mask[rows, columns])
    inner = box(drawn > ink.IS_INK)
    down, right = (_enlarged(span, drawn.shape[axis], cut.shape[axis]) for axis, span in enumerate(inner))
    place_in_picture = Box(
        left_to_right.start + right.start,
        top_to_bottom.start + down.start,
        right.stop - right.start,
        down.stop - down.start,
    )
    return place(even_pen(drawn[inner])), place_in_picture


def box(mask: NDArray[np.bool_], margin: float = 0) -> tuple[slice, slice]:
    """Rows and columns that a mask fills, with a margin as a share of the longer side."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    if width == 0:
        raise EmptyImage("The picture is blank: there is no ink on it.")
    room = round(max(width, height) * margin) + (2 if margin else 0)
    rows = slice(max(top - room, 0), top + height + room)
    return rows, slice(max(left - room, 0), left + width + room)


def _enlarged(span: slice, small_side: int, large_side: int) -> slice:
    scale = large_side / small_side
    return slice(int(span.start * scale), min(int(np.ceil(span.stop * scale)), large_side))


def to_side(drawn: ink.Ink, longer_side: int) -> ink.Ink:
    """Scale the longer side, with averaging or cubic interpolation."""
    scale = longer_side / max(drawn.shape)
    size = tuple(max(1, round(side * scale)) for side in drawn.shape[::-1])
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(drawn, size, interpolation=how), np.float32)


def only(drawn: ink.Ink, digit: NDArray[np.bool_]) -> ink.Ink:
    """Keep what lies at or near the strokes of the digit as they were seen."""
    near = cv2.dilate(digit.view(np.uint8), np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8))
    return drawn * cv2.resize(near, drawn.shape[::-1], interpolation=cv2.INTER_NEAREST)


def crop(drawn: ink.Ink) -> ink.Ink:
    """Cut to the box of the ink."""
    return drawn[box(drawn > ink.IS_INK)]


def even_pen(drawn: ink.Ink) -> ink.Ink:
    """Widen or thin the strokes towards the widths that MNIST has."""
    unit = max(drawn.shape) / BOX
    width = ink.stroke_width(drawn > ink.IS_INK)
    change = round(min(max(width, PEN_WIDTH[0] * unit), PEN_WIDTH[1] * unit) - width)
    if change == 0:
        return drawn
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (abs(change) + 1, abs(change) + 1))
    room = abs(change)
    drawn = np.asarray(cv2.copyMakeBorder(drawn, room, room, room, room, cv2.BORDER_CONSTANT), np.float32)
    return crop(np.asarray(cv2.dilate(drawn, kernel) if change > 0 else cv2.erode(drawn, kernel), np.float32))


def place(drawn: ink.Ink) -> NDArray[np.uint8]:
    """Scale into 20x20 keeping the aspect, then put the centre of mass into the middle of 28x28."""
    small = np.clip(to_side(drawn, BOX), 0, 1)
    height, width = small.shape
    mass = float(small.sum())
    top = round(SIDE / 2 - float(small.sum(axis=1) @ np.arange(height)) / mass)
    left = round(SIDE / 2 - float(small.sum(axis=0) @ np.arange(width)) / mass)
    top, left = min(max(top, 0), SIDE - height), min(max(left, 0), SIDE - width)
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    canvas[top : top + height, left : left + width] = np.rint(small * 255)
    return canvas
