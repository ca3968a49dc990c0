"""Which strokes on a picture make up the digit: specks, frames and lines beside it do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

SPECK = 0.03  # of the largest stroke's area: what is smaller is dirt
RIM = 0.8  # of each side of its box: what covers so much of all four is a frame
FRAMED = 0.01  # of a frame's box is filled by something else, or else it is a digit
LINE = 6  # times as long as wide
LONGER = 1.2  # times as long as the digit is wide: what lies beside it is then no stroke of it
LINE_SHARE = 2.0  # times the digit's area at most, or else it is the digit


@dataclass(frozen=True, eq=False)
class Stroke:
    """A connected region of ink and where its box lies in the picture."""

    mask: NDArray[np.bool_]  # (height, width) of its box
    left: int
    top: int
    width: int
    height: int
    area: int


def digit_strokes(mask: NDArray[np.bool_]) -> list[Stroke]:
    """Find in a mask, (height, width), the strokes of the digit or digits."""
    return without_lines(without_frames(connected(mask)), mask.shape)


def mask_of(strokes: Iterable[Stroke], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Draw strokes where they lie in the picture: (height, width)."""
    mask = np.zeros(shape, bool)
    for stroke in strokes:
        mask[stroke.top : stroke.top + stroke.height, stroke.left : stroke.left + stroke.width] |= stroke.mask
    return mask


def connected(mask: NDArray[np.bool_]) -> list[Stroke]:
    """Split a mask into its connected regions, without specks."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = boxes[1:, cv2.CC_STAT_AREA]
    strokes = []
    for label in np.flatnonzero(areas > SPECK * areas.max(initial=0)) + 1:
        left, top, width, height, area = boxes[label].tolist()
        box = labels[top : top + height, left : left + width]
        strokes.append(Stroke(box == label, left, top, width, height, area))
    return strokes


def without_frames(strokes: list[Stroke]) -> list[Stroke]:
    """Forget what runs along all four sides of its own box, around something else: a frame, a sheet's rim."""
    return [
        stroke
        for stroke in strokes
        if not (
            sum(other.area for other in strokes if _inside(other, stroke)) > FRAMED * stroke.mask.size
            and min(_rims(stroke.mask)) > RIM
        )
    ]


def _inside(inner: Stroke, outer: Stroke) -> bool:
    return (
        inner is not outer
        and outer.left <= inner.left
        and outer.top <= inner.top
        and inner.left + inner.width <= outer.left + outer.width
        and inner.top + inner.height <= outer.top + outer.height
    )


def _rims(mask: NDArray[np.bool_]) -> list[float]:
    """How much of each side of its box a mask covers, allowing for a frame that is slightly askew."""
    depth = 1 + max(mask.shape) // 24
    sides = (mask[:depth], mask[-depth:], mask[:, :depth].T, mask[:, -depth:].T)
    return [float(side.any(axis=0).mean()) for side in sides]


def without_lines(strokes: list[Stroke], shape: tuple[int, ...]) -> list[Stroke]:
    """Forget lines from the picture's edge that lie beside the digit and are longer: rules, underlines."""
    rest = [stroke for stroke in strokes if not _is_line(stroke, shape)]
    if not rest:
        return strokes
    left, top = min(stroke.left for stroke in rest), min(stroke.top for stroke in rest)
    right, bottom = max(s.left + s.width for s in rest), max(s.top + s.height for s in rest)
    area = sum(stroke.area for stroke in rest)

    def is_beside(line: Stroke) -> bool:
        if line.width > line.height:
            return line.width > LONGER * (right - left) and (
                line.top >= bottom or line.top + line.height <= top
            )
        return line.height > LONGER * (bottom - top) and (
            line.left >= right or line.left + line.width <= left
        )

    return [s for s in strokes if s in rest or s.area > LINE_SHARE * area or not is_beside(s)]


def _is_line(stroke: Stroke, shape: tuple[int, ...]) -> bool:
    """Whether a stroke is long, thin, upright or level, and comes from the picture's edge."""
    touches = (
        stroke.left <= 1
        or stroke.top <= 1
        or stroke.left + stroke.width >= shape[1] - 1
        or stroke.top + stroke.height >= shape[0] - 1
    )
    length, thickness = max(stroke.width, stroke.height), min(stroke.width, stroke.height)
    return touches and length >= LINE * thickness
