"""A sheet of paper on a desk: the look has taken it for ink, so the digit is looked for on it alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CORNERS = 4
SHARE = 0.1  # of the picture that a sheet fills at least
CONVEX = 0.88  # of its convex hull that it fills at least, and so does the quadrangle of its corners
ROUNDING = 0.05  # of its outline, by which the sides may deviate from straight lines
WRITTEN = (0.01, 0.5)  # share of it that something else fills
RIM = 0.04  # of the picture's longer side, cut off the sheet where its edge is blurred


def find_sheet(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Find a large quadrangle with something on it in a mask that is not empty; return it filled.

    Both are of shape (height, width).
    """
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea)
    hull = cv2.convexHull(outline)
    area = cv2.contourArea(outline)
    corners = cv2.approxPolyDP(hull, ROUNDING * cv2.arcLength(hull, closed=True), closed=True)
    if len(corners) != CORNERS or area < SHARE * mask.size:
        return None
    if min(area, cv2.contourArea(corners)) < CONVEX * cv2.contourArea(hull):
        return None
    filled = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, [outline], -1, 1, cv2.FILLED)
    written = float((~mask[filled > 0]).mean())
    if not WRITTEN[0] < written < WRITTEN[1]:
        return None
    rim = 2 * max(1, round(RIM * max(mask.shape))) + 1
    inner = cv2.erode(filled, np.ones((rim, rim), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(inner > 0)


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
