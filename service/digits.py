"""A picture of a digit becomes MNIST-like pixels: find the ink, crop, even out the pen, scale, centre."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from service.errors import EmptyImage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Ink = NDArray[np.float32]  # (height, width): 0 is paper, 1 full ink

BOX = 20
SIDE = 28
SMALLEST_CONTRAST = 8 / 255
DRAWING_SIDE = 8 * BOX
MIDDLE_GREY = 128
COLOUR = 3  # channels, and dimensions of an array that has them
IS_INK = 0.4
PEN_WIDTH = (2.2, 4.5)  # of a stroke in MNIST, in pixels of the 20x20 box


def draw_digit(
    picture: NDArray[np.uint8], steps: Sequence[Callable[[Ink], Ink]] | None = None
) -> NDArray[np.uint8]:
    """Draw the digit on a picture as MNIST would, uint8 (28, 28), dropping what is not ink step by step."""
    ink = find_ink(picture)
    for step in DIGIT_STEPS if steps is None else steps:
        ink = step(ink)
    return place(ink)


def find_ink(picture: NDArray[np.uint8]) -> Ink:
    """Measure how far each pixel lies from the paper towards the ink, whatever colours the two have."""
    colours = _on_ground(picture).astype(np.float32)
    colours /= 255  # (height, width, channels)
    edge = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    away = colours - np.median(edge, axis=0)
    distance = np.sqrt(np.einsum("hwc,hwc->hw", away, away))
    if distance.max() < SMALLEST_CONTRAST:
        raise EmptyImage("The picture is blank: there is no ink on it.")
    towards = away[distance > _otsu(distance)].mean(axis=0)
    length = float(np.sqrt((towards**2).sum()))
    ink: Ink = np.clip(away @ (towards / max(length, 1e-6)), 0, None).astype(np.float32)
    return ink


def _on_ground(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put a transparent picture on white or black, whichever its opaque part stands out from."""
    if picture.ndim < COLOUR:
        return picture[:, :, np.newaxis]
    if picture.shape[2] == COLOUR:
        return picture
    colours, opacity = picture[:, :, :3].astype(np.float32), picture[:, :, 3:].astype(np.float32) / 255
    if not opacity.any():
        raise EmptyImage("The picture is wholly transparent.")
    is_dark = (colours * opacity).sum() / (3 * opacity.sum()) < MIDDLE_GREY
    ground = 255.0 if is_dark else 0.0
    return np.rint(colours * opacity + ground * (1 - opacity)).astype(np.uint8)


def _otsu(values: Ink) -> float:
    """Otsu's threshold: the cut that leaves the least variance within its two sides."""
    top = float(values.max())
    eight_bits = cv2.convertScaleAbs(values, alpha=255 / top)
    threshold, _ = cv2.threshold(eight_bits, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return (threshold + 0.5) * top / 255


def even_paper(ink: Ink) -> Ink:
    """Take away what is wider than any pen: shadows and the drift of light across the paper."""
    side = 2 * (min(ink.shape) // 4) + 1
    return cv2.morphologyEx(ink, cv2.MORPH_TOPHAT, np.ones((side, side), np.uint8)).astype(np.float32)


def full_contrast(ink: Ink) -> Ink:
    """Let the paper's grain be 0 and the ink's usual strength 1."""
    threshold = _otsu(ink)
    mask = ink > threshold
    strength, grain = float(np.median(ink[mask])), float(np.median(ink[~mask]))
    stretched: Ink = np.clip((ink - grain) / max(strength - grain, 1e-6), 0, 1).astype(np.float32)
    return stretched


def drop_specks(ink: Ink) -> Ink:
    """Keep the strokes and forget what is small beside the largest."""
    mask = (ink > IS_INK).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count == 1:
        raise EmptyImage("The picture is blank: there is no ink on it.")
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept = areas > 0.03 * areas.max()
    near = cv2.dilate(kept[labels].astype(np.uint8), np.ones((3, 3), np.uint8))
    return ink * near


def crop(ink: Ink) -> Ink:
    """Cut to the box of the ink and enlarge to a drawing whose longer side is eight times the final one."""
    rows, columns = (np.flatnonzero((ink > IS_INK).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        raise EmptyImage("The picture is blank: there is no ink on it.")
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = DRAWING_SIDE / max(cut.shape)
    size = tuple(max(1, round(side * scale)) for side in cut.shape[::-1])
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.clip(cv2.resize(cut, size, interpolation=how), 0, 1).astype(np.float32)


def even_pen(ink: Ink) -> Ink:
    """Widen or thin the strokes towards the width that MNIST has, about 2 to 4.5 pixels of 20."""
    mask = np.pad((ink > IS_INK).astype(np.uint8), 1)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    width = 4 * float(depth[mask > 0].mean())  # of a straight bar, exactly
    unit = DRAWING_SIDE / BOX
    change = round(float(np.clip(width, PEN_WIDTH[0] * unit, PEN_WIDTH[1] * unit)) - width)
    if change == 0:
        return ink
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (abs(change) + 1, abs(change) + 1))
    margin = max(change, 0)
    ink = cv2.copyMakeBorder(ink, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0).astype(
        np.float32
    )
    changed = cv2.dilate(ink, kernel) if change > 0 else cv2.erode(ink, kernel)
    return crop(changed.astype(np.float32))


DIGIT_STEPS: tuple[Callable[[Ink], Ink], ...] = (even_paper, full_contrast, drop_specks, crop, even_pen)


def place(ink: Ink) -> NDArray[np.uint8]:
    """Scale into 20x20 keeping the aspect, then put the centre of mass into the middle of 28x28."""
    scale = BOX / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    small = cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)
    mass = float(small.sum())
    if mass <= 0:
        raise EmptyImage("The picture is blank: there is no ink on it.")
    top = round((SIDE - 1) / 2 - float(small.sum(axis=1) @ np.arange(height)) / mass + 0.49)
    left = round((SIDE - 1) / 2 - float(small.sum(axis=0) @ np.arange(width)) / mass + 0.49)
    top, left = min(max(top, 0), SIDE - height), min(max(left, 0), SIDE - width)
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    canvas[top : top + height, left : left + width] = np.rint(np.clip(small, 0, 1) * 255)
    return canvas
