"""A sheet of paper on a desk: lighter than what it lies on, and the digit is looked for on it alone."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cv2.typing import MatLike as Mat
    from numpy.typing import NDArray

CORNERS = 4
SHARE = 0.1  # of the picture that a sheet fills at least
CONVEX = 0.88  # of its convex hull that it fills at least, and so does the quadrangle of its corners
ROUNDING = 0.05  # of its outline, by which the sides may deviate from straight lines
WRITTEN = (0.01, 0.5)  # share of it that something else fills
RIM = 0.04  # of the picture's longer side, cut off the sheet where its edge is blurred
MOST_EDGES = 1  # of the picture, that a sheet reaches: what reaches more is lit by a lamp, or all there is


def light(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a picture, (height, width, channels), is light in every channel, as paper is and wood is not."""
    darkest = reduce(cv2.min, cv2.split(picture))
    _, mask = cv2.threshold(darkest, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(mask, np.uint8).view(bool)


def find_sheet(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Find a large quadrangle with something on it in a mask; return it filled, without its rim.

    Both are of shape (height, width).
    """
    # The rim goes first, and with it what sticks to the sheet: light stripes of the wood.
    rim = max(1, round(RIM * max(mask.shape)))
    square = np.ones((2 * rim + 1, 2 * rim + 1), np.uint8)
    filled = _filled(_outlines(mask.view(np.uint8)), mask.shape)
    outlines = _outlines(cv2.erode(filled, square, borderType=cv2.BORDER_CONSTANT, borderValue=0))
    outline = max(outlines, key=cv2.contourArea, default=None)
    if outline is None or _edges_within(rim, outline, mask.shape) > MOST_EDGES:
        return None
    if not _is_quadrangle(outline, SHARE * mask.size):
        return None
    sheet = _filled([outline], mask.shape) > 0
    return sheet if WRITTEN[0] < float((~mask[sheet]).mean()) < WRITTEN[1] else None


def _outlines(mask: Mat) -> Sequence[Mat]:
    return cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]


def _filled(outlines: Sequence[Mat], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    filled = np.zeros(shape, np.uint8)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    return filled


def _edges_within(reach: int, outline: Mat, shape: tuple[int, ...]) -> int:
    """How many of the picture's edges are so near."""
    left, top, width, height = cv2.boundingRect(outline)
    gaps = left, top, shape[1] - left - width, shape[0] - top - height
    return sum(gap <= reach for gap in gaps)


def _is_quadrangle(outline: Mat, smallest: float) -> bool:
    hull = cv2.convexHull(outline)
    area = cv2.contourArea(outline)
    corners = cv2.approxPolyDP(hull, ROUNDING * cv2.arcLength(hull, closed=True), closed=True)
    if len(corners) != CORNERS or area < smallest:
        return False
    return min(area, cv2.contourArea(corners)) > CONVEX * cv2.contourArea(hull)


def cut_to_sheet(
    picture: NDArray[np.uint8], sheet: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Cut a picture, (height, width, channels), to its sheet, and continue the paper where desk remains.

    Returns the cut, and its left and top in the picture.
    """
    large = cv2.resize(sheet.view(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    rows, columns = np.flatnonzero(large.any(axis=1)), np.flatnonzero(large.any(axis=0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    paper = np.median(picture[large], axis=0).astype(np.uint8)
    cut = np.where(large[box][:, :, np.newaxis], picture[box], paper)
    return cut, (int(columns[0]), int(rows[0]))
