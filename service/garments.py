"""A picture of a garment becomes Fashion-MNIST-like pixels: drop the ground, trim, negate, scale, centre."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from service.errors import EmptyImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 28
GROUND_TOLERANCE = 0.06
OPAQUE = 0.5
COLOUR = 3  # channels, and dimensions of an array that has them


def draw_garment(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw the garment on a picture as Fashion-MNIST would: uint8 (28, 28), bright on a ground of 0."""
    colours, cloth = _cloth(picture)
    rows, columns = np.flatnonzero(cloth.any(axis=1)), np.flatnonzero(cloth.any(axis=0))
    if not rows.size:
        raise EmptyImage("The picture is blank: there is no garment on it.")
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    negative = (1 - colours[box] @ np.array([0.299, 0.587, 0.114], np.float32)) * cloth[box]
    return _place(negative.astype(np.float32))


def _cloth(picture: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Colours from 0 to 1, (height, width, 3), and where they differ from the ground, (height, width)."""
    if picture.ndim < COLOUR:
        picture = np.repeat(picture[:, :, np.newaxis], COLOUR, axis=2)
    colours = picture[:, :, :COLOUR].astype(np.float32)
    colours /= 255
    if picture.shape[2] > COLOUR:
        opacity = picture[:, :, COLOUR:].astype(np.float32)
        opacity /= 255
        colours = colours * opacity + (1 - opacity)
        return colours, opacity[:, :, 0] >= OPAQUE
    edge = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    ground = np.median(edge, axis=0)
    return colours, np.abs(colours - ground).max(axis=2) > GROUND_TOLERANCE


def _place(negative: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scale the longer side to 28 pixels and centre the shorter one."""
    scale = SIDE / max(negative.shape)
    height, width = (max(1, round(side * scale)) for side in negative.shape)
    small = cv2.resize(
        negative, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    small = np.clip(small / max(float(small.max()), 1e-6), 0, 1)
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    canvas[top : top + height, left : left + width] = np.rint(small * 255)
    return canvas
