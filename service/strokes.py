"""Which strokes on a picture make up the digit: specks, frames and lines do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from service.ink import sides, stroke_width

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

SPECK = 0.03  # of the largest stroke's area: what is smaller is dirt
RIM = 0.8  # of each side of its box: what covers so much of all four is a frame
NARROWEST_FRAME = 5  # pixels of the look: a rim, room, a speck, and the same again
FRAMED = 0.01  # of a frame's box is filled by something else, or else it is a digit
RAYS = 24  # directions from the middle of what is framed,
MET = 0.85  # of which so many meet what surrounds it, of any shape,
ENCLOSED = 0.3  # of whose size it has at least, or else it is a speck in a 0
MOST_AROUND = 7  # strokes that make a frame together, each a line
THIN = 5  # times as long as broad, on the whole: a line of any shape
LARGE = 0.15  # of the picture's longer side: what does not reach the edge shows what the pen is like
AT_EDGE, BROADER = 1.6, 1.3  # widths of that pen: what is more, at the edge and as a whole, is no stroke
APART = 1.5  # widths of that pen, and no stroke is nearer to it, or else it is one that is broken off
LINE = 6  # times as long as wide
LONGER = 1.2  # times as long as the digit is wide: what lies beside it is then no stroke of it
LINE_SHARE = 2.0  # times the digit's area at most, or else it is the digit
CROSSES = 0.95  # of the picture's side: what runs along so much of it is a rule
ASKEW = 1 / 48  # of the longer side, by which a rule may leave its row to either side
BROADEST = 1 / 16  # of the longer side, is a rule
ALONE = 0.25  # of a rule at least, no stroke lies on
BLUR = 1.0  # pixels of the look that a rule is broader to either side than it was seen


@dataclass(frozen=True, eq=False)
class Stroke:
    """A connected region of ink and where its box lies in the picture."""

    mask: NDArray[np.bool_]  # (height, width) of its box
    left: int
    top: int
    width: int
    height: int
    area: int


class Rule(NamedTuple):
    """A line from edge to edge of a picture; of an upright one, rows and columns are exchanged."""

    is_upright: bool
    start: float  # the row in which it begins
    slope: float  # rows a column
    width: float


def find_rules(mask: NDArray[np.bool_]) -> list[Rule]:
    """Find in a mask, (height, width), the lines of lined or squared paper, through digits or not."""
    return [*_rules_across(mask, is_upright=False), *_rules_across(mask.T, is_upright=True)]


def _rules_across(mask: NDArray[np.bool_], *, is_upright: bool) -> list[Rule]:
    drift = 1 + round(ASKEW * max(mask.shape))
    broadened = cv2.dilate(mask.astype(np.uint8), np.ones((2 * drift + 1, 1), np.uint8))
    filled = cv2.reduce(broadened, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[:, 0]  # share of each row
    if filled.max(initial=0) <= CROSSES:
        return []
    crossed = np.pad(filled > CROSSES, 1)
    rules = []
    for first, end in np.flatnonzero(crossed[1:] != crossed[:-1]).reshape(-1, 2).tolist():
        rows = np.arange(max(first - drift, 0), min(end + drift, len(mask)))
        part = mask[rows]
        depth = part.sum(axis=0)
        width = float(np.quantile(depth, ALONE))
        columns = np.flatnonzero((depth > 0) & (depth <= width + 1))
        if width <= BROADEST * max(mask.shape):
            degree = min(1, len(columns) - 1)  # a single place has no slope
            *slope, start = np.polyfit(columns, (rows @ part)[columns] / depth[columns], degree).tolist()
            rules.append(Rule(is_upright, start, sum(slope), width))
    return rules


def without_rules(ink: NDArray[np.float32], rules: Iterable[Rule], blur: float = BLUR) -> NDArray[np.float32]:
    """Take rules out of an ink map, (height, width), and leave what crosses them."""
    for rule in rules:
        turned = np.ascontiguousarray(ink.T if rule.is_upright else ink)
        rows, columns = np.ogrid[: turned.shape[0], : turned.shape[1]]
        reach = rule.width / 2 + blur
        near = np.abs(rows - rule.start - rule.slope * columns) <= reach
        # Outside is paper, or else a rule along the edge would be as good as twice as broad.
        paper = float(turned.min())
        column = np.ones((int(2 * reach) + 2, 1), np.uint8)
        crossing = cv2.morphologyEx(
            turned, cv2.MORPH_OPEN, column, borderType=cv2.BORDER_CONSTANT, borderValue=paper
        )
        turned = np.where(near, crossing, turned)
        ink = turned.T if rule.is_upright else turned
    return np.ascontiguousarray(ink)


def seen_closer(rule: Rule, corner: tuple[int, int], scale: float) -> Rule:
    """Where a rule runs in a part of the picture that begins at this row and column and is then enlarged."""
    row, column = reversed(corner) if rule.is_upright else corner
    start = (rule.start + rule.slope * (column - 0.5) + 0.5 - row) * scale - 0.5 + 0.5 * rule.slope
    return rule._replace(start=start, width=rule.width * scale)


def written_on_rules(mask: NDArray[np.bool_]) -> list[Stroke]:
    """The strokes that are left of a mask without its rules, or none: what is no shorter may own them.

    The bar of a 4 that is cut out tightly runs from edge to edge too.
    """
    strokes = [stroke for stroke in digit_strokes(mask, sure=mask) if not _is_line(stroke, mask.shape)]
    rows, columns = (np.flatnonzero(mask_of(strokes, mask.shape).any(axis=axis)) for axis in (1, 0))
    if not strokes or LONGER * max(np.ptp(rows), np.ptp(columns)) > min(mask.shape):
        return []
    return strokes


def digit_strokes(mask: NDArray[np.bool_], sure: NDArray[np.bool_]) -> list[Stroke]:
    """Find in a mask, (height, width), the strokes of the digit or digits: each is sure somewhere."""
    strokes = without_frames(connected(mask, sure), mask.shape)
    return without_underline(without_lines(strokes, mask.shape))


def mask_of(strokes: Iterable[Stroke], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Draw strokes where they lie in the picture: (height, width)."""
    mask = np.zeros(shape, bool)
    for stroke in strokes:
        mask[_place(stroke)] |= stroke.mask
    return mask


def _place(stroke: Stroke) -> tuple[slice, slice]:
    """The rows and columns of the picture that a stroke's box has."""
    return np.s_[stroke.top : stroke.top + stroke.height, stroke.left : stroke.left + stroke.width]


def connected(mask: NDArray[np.bool_], sure: NDArray[np.bool_]) -> list[Stroke]:
    """Split a mask into its connected regions, without smears, which are nowhere sure, and without specks."""
    # Sixteen bits a label, enough for the look, are counted in a third of the time of 32.
    _, labels, boxes, _ = cv2.connectedComponentsWithStatsWithAlgorithm(
        mask.view(np.uint8), 8, cv2.CV_16U, cv2.CCL_DEFAULT
    )
    areas = np.where(np.bincount(labels[sure], minlength=len(boxes)), boxes[:, cv2.CC_STAT_AREA], 0)
    strokes = []
    for label in np.flatnonzero(areas > SPECK * areas.max(initial=0)):
        left, top, width, height, area = boxes[label].tolist()
        box = labels[top : top + height, left : left + width]
        strokes.append(Stroke(box == label, left, top, width, height, area))
    return strokes


def without_intruders(strokes: list[Stroke], shape: tuple[int, ...]) -> list[Stroke]:
    """Forget what comes from the edge and is broader than the strokes that do not: fingers, desks."""
    if len(strokes) < 2:
        return strokes
    edge = np.ones(shape, bool)
    edge[1:-1, 1:-1] = False
    contacts = [int(np.count_nonzero(stroke.mask & edge[_place(stroke)])) for stroke in strokes]
    within = [stroke for stroke, contact in zip(strokes, contacts, strict=True) if not contact]
    size = max((max(stroke.width, stroke.height) for stroke in within), default=0)
    if len(within) == len(strokes) or size < LARGE * max(shape):
        return strokes
    digit = mask_of(within, shape)
    pen = stroke_width(digit)
    near = cv2.dilate(digit.view(np.uint8), np.ones((2 * round(APART * pen) + 1,) * 2, np.uint8)) > 0

    def intrudes(stroke: Stroke, contact: int) -> bool:
        is_broad = contact > LONGER * size or stroke_width(stroke.mask) > BROADER * pen
        return contact > AT_EDGE * pen and is_broad and not (stroke.mask & near[_place(stroke)]).any()

    return [
        stroke for stroke, contact in zip(strokes, contacts, strict=True) if not intrudes(stroke, contact)
    ]


def without_frames(strokes: list[Stroke], shape: tuple[int, ...]) -> list[Stroke]:
    """Forget what surrounds something else: a frame, a sheet's rim, a circle or a box drawn in strokes."""
    strokes = [stroke for stroke in strokes if not _is_frame(stroke, strokes, shape)]
    if 3 <= len(strokes) <= MOST_AROUND + 1:
        for stroke in strokes:
            others = [other for other in strokes if other is not stroke]
            if all(_is_thin(other) for other in others) and _surround(others, [stroke], shape):
                return [stroke]
    return strokes


def _is_frame(stroke: Stroke, strokes: list[Stroke], shape: tuple[int, ...]) -> bool:
    """Whether a stroke runs along all four sides of its own box, or otherwise, around something else."""
    if min(stroke.width, stroke.height) < NARROWEST_FRAME:
        return False
    inside = [other for other in strokes if _inside(other, stroke)]
    area = sum(other.area for other in inside)
    is_box = area > FRAMED * stroke.mask.size and min(_rims(stroke.mask)) > RIM
    return is_box or (bool(inside) and _surround([stroke], inside, shape))


def _surround(around: list[Stroke], inside: list[Stroke], shape: tuple[int, ...]) -> bool:
    """Whether strokes are met in nearly all directions from the middle of others, which are not tiny."""
    rows, columns = np.nonzero(mask_of(around, shape))
    within = np.nonzero(mask_of(inside, shape))
    if max(map(np.ptp, within)) + 1 < ENCLOSED * (max(np.ptp(rows), np.ptp(columns)) + 1):
        return False
    angles = np.arctan2(rows - within[0].mean(), columns - within[1].mean())  # from -pi to pi
    met, _ = np.histogram(angles, RAYS, (-np.pi, np.pi))
    return float((met > 0).mean()) > MET


def _is_thin(stroke: Stroke) -> bool:
    length = max(stroke.width, stroke.height)
    return length**2 >= THIN * stroke.area


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
    return [float(side.any(axis=0).mean()) for side in sides(mask, 1 + max(mask.shape) // 24)]


def without_lines(strokes: list[Stroke], shape: tuple[int, ...]) -> list[Stroke]:
    """Forget lines from the picture's edge: longer than the digit, or across a corner of the picture."""
    lines = [stroke for stroke in strokes if _is_line(stroke, shape)]
    if not lines or len(lines) == len(strokes):
        return strokes
    rest = [stroke for stroke in strokes if stroke not in lines]
    left, top, right, bottom = _ends(rest)
    area, size = sum(stroke.area for stroke in rest), max(right - left, bottom - top)
    is_large = size >= LARGE * max(shape) and not any(_edges_reached(stroke, shape) for stroke in rest)

    def is_foreign(line: Stroke) -> bool:
        if not _is_level_or_upright(line):
            is_long = max(line.width, line.height) > LONGER * size
            return is_large and (is_long or _edges_reached(line, shape) > 1)
        if line.width > line.height:
            return line.width > LONGER * (right - left) and (
                line.top >= bottom or line.top + line.height <= top
            )
        return line.height > LONGER * (bottom - top) and (
            line.left >= right or line.left + line.width <= left
        )

    foreign = [line for line in lines if line.area <= LINE_SHARE * area and is_foreign(line)]
    return [stroke for stroke in strokes if stroke not in foreign]


def _ends(strokes: Iterable[Stroke]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what strokes cover together."""
    lefts, tops, rights, bottoms = zip(
        *((s.left, s.top, s.left + s.width, s.top + s.height) for s in strokes), strict=True
    )
    return min(lefts), min(tops), max(rights), max(bottoms)


def _is_line(stroke: Stroke, shape: tuple[int, ...]) -> bool:
    """Whether a stroke is straight, long, thin, and comes from the picture's edge."""
    return _edges_reached(stroke, shape) > 0 and (_is_level_or_upright(stroke) or _is_straight(stroke))


def _edges_reached(stroke: Stroke, shape: tuple[int, ...]) -> int:
    """How many of the picture's edges a stroke comes to."""
    gaps = (
        stroke.left,
        stroke.top,
        shape[1] - stroke.left - stroke.width,
        shape[0] - stroke.top - stroke.height,
    )
    return sum(gap <= 1 for gap in gaps)


def _is_level_or_upright(stroke: Stroke) -> bool:
    return max(stroke.width, stroke.height) >= LINE * min(stroke.width, stroke.height)


def _is_straight(stroke: Stroke) -> bool:
    """Whether a stroke is long and thin along a slant."""
    rows, columns = np.nonzero(stroke.mask)
    _, (one, other), _ = cv2.minAreaRect(np.stack([columns, rows], axis=1).astype(np.float32))
    return max(one, other) + 1 >= LINE * (min(one, other) + 1)


def without_underline(strokes: list[Stroke]) -> list[Stroke]:
    """Forget a level line below the digit, apart from it and longer than it is wide."""
    if len(strokes) < 2:
        return strokes
    for line in strokes:
        if _is_level_or_upright(line) and line.width > line.height:
            rest = [stroke for stroke in strokes if stroke is not line]
            left, _, right, bottom = _ends(rest)
            covers = line.left <= left + 1 and line.left + line.width >= right - 1
            if covers and line.top > bottom and line.width > LONGER * (right - left):
                return rest
    return strokes
