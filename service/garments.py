"""A picture of a garment becomes Fashion-MNIST-like pixels: drop the ground, trim, negate, scale, centre."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from service.errors import EmptyImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Map = NDArray[np.float32]  # (height, width), from 0 to 1

SIDE = 28
WORKING_SIDE = 256
TOLERANCE = 0.05  # of full scale, in any colour, within which a pixel may be ground
SCRAP = 0.02  # of the largest piece's area: what is smaller is no part of the garment
OPAQUE = 0.5
COLOUR = 3  # channels, and dimensions of an array that has them
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def draw_garment(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw the garment on a picture as Fashion-MNIST would: uint8 (28, 28), bright on a ground of 0."""
    colours, opacity = channels(picture)
    ground = ground_colour(colours, opacity)
    cloth = pieces(differs(colours, ground, opacity))
    rows, columns = np.flatnonzero(cloth.any(axis=1)), np.flatnonzero(cloth.any(axis=0))
    if not rows.size:
        raise EmptyImage("The picture is blank: there is no garment on it.")
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return place(bright(colours @ LUMINANCE, float(ground @ LUMINANCE), cloth)[box])


def channels(picture: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Map | None]:
    """Colours, (height, width, 3), over white where they are transparent, and the opacity if there is any."""
    factor = max(1, max(picture.shape[:2]) // WORKING_SIDE)
    if factor > 1:
        size = tuple(side // factor for side in picture.shape[1::-1])
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    if picture.ndim < COLOUR:
        picture = np.repeat(picture[:, :, np.newaxis], COLOUR, axis=2)
    scaled = picture.astype(np.float32) / np.float32(255)
    if picture.shape[2] == COLOUR:
        return scaled, None
    opacity = scaled[:, :, COLOUR]
    return scaled[:, :, :COLOUR] * opacity[:, :, np.newaxis] + (1 - opacity[:, :, np.newaxis]), opacity


def ground_colour(colours: NDArray[np.float32], opacity: Map | None) -> NDArray[np.float32]:
    """White under transparency, else the median of the picture's edge."""
    if opacity is not None:
        return np.ones(COLOUR, np.float32)
    edge = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    return np.asarray(np.median(edge, axis=0), np.float32)


def differs(
    colours: NDArray[np.float32], ground: NDArray[np.float32], opacity: Map | None
) -> NDArray[np.bool_]:
    """Where the picture is not ground, (height, width)."""
    if opacity is not None:
        return np.asarray(opacity >= OPAQUE)
    return np.asarray(np.abs(colours - ground).max(axis=2) > TOLERANCE)


def pieces(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep of a mask the large connected pieces."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = boxes[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return np.asarray((areas > SCRAP * areas.max())[labels])


def bright(light: Map, ground: float, cloth: NDArray[np.bool_]) -> Map:
    """Make the cloth bright on a ground of 0: the negative, unless it is the ground that is dark."""
    lighter = float(np.median(light[cloth])) > ground
    values = (light if lighter else 1 - light) * cloth
    return np.asarray(values / max(float(values.max()), 1e-6), np.float32)


def place(values: Map) -> NDArray[np.uint8]:
    """Scale the longer side to 28 pixels and centre the shorter one."""
    scale = SIDE / max(values.shape)
    height, width = (max(1, round(side * scale)) for side in values.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.clip(cv2.resize(values, (width, height), interpolation=how), 0, 1)
    bright = small / max(float(small.max()), 1e-6)
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    canvas[top : top + height, left : left + width] = np.rint(bright * 255)
    return canvas
