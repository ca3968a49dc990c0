"""Which pixels of a picture are ink: the colours of paper and pen, shadows, contrast.

An ink map is float32 of shape (height, width): the more ink, the larger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from service.errors import EmptyImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]  # (height, width, channels)
    Ink = NDArray[np.float32]

COLOUR_SIDE = 24  # pixels along the longer side that the colours are found on
PAPER_SIDE = 45  # and the pen's width
ROW = 4  # times as long as high: what is longer is looked at as finely as if it were no longer,
LONGEST_ROW = 12  # but along it at no more than about so many times as many pixels
PAPER_WINDOW = 0.75  # of the longer side: the paper is the median over so wide a window
BOLD = 0.4  # of the picture filled by ink: which of two colours is the rarer is then no sign
STANDS_OUT = 0.25  # of the farthest from the paper, at which a pixel stands out from it
NOTHING, SOMETHING = 0.02, 0.1  # shares of what stands out
EDGE = 16  # times as long as deep: a digit reaches into this edge of the picture,
ALONG = 0.95  # of which paper then has no more
PAPER_CORNERS, REACHED_EDGES = 3, 3  # of the picture's four, with paper and by a digit, where it is cut out
SHADOW = 3.0  # widths of the pen: what is wider is no stroke
SEEN, LIGHTER = 0.2, 0.7  # of the strength of ink: shadow at the picture's edge is between
BLUR = 0.3  # widths of the pen: the deviation of the Gaussian that is undone
SMALLEST_CONTRAST = 4.0  # of 255, between paper and ink
IS_INK, SURELY_INK = 0.4, 0.75  # of full contrast
LEVELS = 2048  # between the least ink and the most, that are told apart where the contrast is measured
COLOUR = 3  # channels, and dimensions of an array that has them
MIDDLE_GREY, OPAQUE = 128, 255


def on_ground(picture: Picture) -> Picture:
    """Put a transparent picture on white or black, whichever its opaque part stands out from.

    Takes (height, width) or (height, width, 3 or 4), returns (height, width, 1 or 3).
    """
    if picture.ndim < COLOUR:
        return picture[:, :, np.newaxis]
    if picture.shape[2] == COLOUR:
        return picture
    opacity = cv2.extractChannel(picture, COLOUR)
    if not opacity.any():
        raise EmptyImage("The picture is wholly transparent.")
    opacity = cv2.merge([opacity] * COLOUR)
    colours = cv2.multiply(cv2.cvtColor(picture, cv2.COLOR_RGBA2RGB), opacity, scale=1 / OPAQUE)
    is_dark = sum(cv2.mean(colours)) * OPAQUE < MIDDLE_GREY * sum(cv2.mean(opacity))
    return np.asarray(cv2.add(colours, cv2.bitwise_not(opacity)) if is_dark else colours, np.uint8)


def shrink(picture: Picture, longer_side: int) -> Picture:
    """Average whole blocks of pixels as long as the longer side keeps so many, or a row of digits more."""
    factor = _extent(picture) // longer_side
    if factor <= 1:
        return picture
    height, width = (max(1, side // factor) for side in picture.shape[:2])
    blocks = picture[: height * factor, : width * factor]
    small = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8).reshape(height, width, -1)


def _extent(picture: NDArray[Any]) -> int:
    """The longer side, or of a row or column of many digits what some of them fill."""
    shorter, longer = sorted(picture.shape[:2])
    extent: int = max(min(longer, ROW * shorter), longer // LONGEST_ROW)
    return extent


def ink_map(picture: Picture, towards_ink: NDArray[np.float32]) -> Ink:
    """How far each pixel lies in a direction of colour space, (channels,)."""
    return np.asarray(cv2.transform(picture.astype(np.float32), towards_ink[np.newaxis]), np.float32)


def ink_direction(picture: Picture) -> NDArray[np.float32]:
    """Find the unit vector in colour space, (channels,), that points from the paper to the ink.

    Ink is the rarer of the two, so what deviates from the local median is skewed towards it. The picture is
    continued by its mirror image, in which the rim of a sheet is as rare as in the picture itself.
    """
    small = shrink(picture, COLOUR_SIDE)
    room = max(_extent(small) // 2, 1)
    mirrored = np.asarray(cv2.copyMakeBorder(small, room, room, room, room, cv2.BORDER_REFLECT), np.uint8)
    paper = _paper(mirrored, _extent(small))[room:-room, room:-room]
    away = (small.astype(np.float32) - paper.reshape(small.shape)).reshape(-1, small.shape[2])
    skew = (away**2).sum(axis=1) @ away
    length = float(np.linalg.norm(skew))
    if length == 0:
        raise EmptyImage("The picture is blank: there is no ink on it.")
    towards_ink = np.asarray(skew / length, np.float32)
    out = np.asarray(away @ towards_ink, np.float32).reshape(small.shape[:2])
    return -towards_ink if _is_light_beside_shadow(out) else towards_ink


def _is_light_beside_shadow(out: Ink) -> bool:
    """Whether what stands out is paper in the light, and the digit lies in a shadow that covers the rest.

    Then all of it comes from the picture's edge, but not from all four, as a frame does; and what stands out
    the other way is within.
    """
    is_around, at_edge, within = _at_edge_and_within(out)
    if is_around or within >= NOTHING * at_edge:
        return False
    _, other_at_edge, other_within = _at_edge_and_within(-out)
    return other_at_edge < NOTHING * other_within and other_within > SOMETHING * at_edge


def _at_edge_and_within(out: Ink) -> tuple[bool, float, float]:
    """Whether what stands out reaches all four edges; the skew of what reaches any, and of the rest."""
    mask = out > STANDS_OUT * cv2.norm(out, cv2.NORM_INF)
    edge = np.ones_like(mask)
    edge[1:-1, 1:-1] = False
    at_edge = regions_around(edge, mask)
    skew_at_edge = float((out[at_edge] ** 3).sum())
    skew_within = float((out[mask] ** 3).sum()) - skew_at_edge
    return all(side.any() for side in sides(mask)), skew_at_edge, skew_within


def is_around_a_digit(ink: Ink) -> bool:
    """Whether what stands out is the paper around a bold digit that is cut out tightly, so as to fill most.

    Then it has the corners, and the digit reaches the edges between them. The light part of a picture
    that lies in shadow reaches the two edges beside one corner, a sheet in a frame none.
    """
    mask = ink > otsu(ink)
    if filled_share(mask) <= BOLD:
        return False
    corners = int(mask[[0, 0, -1, -1], [0, -1, 0, -1]].sum())
    reached = sum(side.all(axis=0).mean() < ALONG for side in sides(mask, 1 + max(mask.shape) // EDGE))
    return corners >= PAPER_CORNERS and reached >= REACHED_EDGES


def pen_width(ink: Ink) -> float:
    """Estimate the width of the strokes, in pixels, before shadows are gone.

    Against the median over a wide window, which keeps the edges of shadows, strokes alone stand out.
    """
    small = shrink(_eight_bits(ink)[:, :, np.newaxis], PAPER_SIDE)
    above = small[:, :, 0].astype(np.float32) - _paper(small, _extent(small))
    scale: float = max(ink.shape) / max(small.shape)
    return stroke_width(above > max(otsu(above), 0)) * scale


def _paper(picture: Picture, side: int) -> NDArray[np.uint8]:
    """The picture without its ink, which fills less than half of any wide window."""
    return np.asarray(cv2.medianBlur(picture, int(side * PAPER_WINDOW) // 2 * 2 + 1), np.uint8)


def stroke_width(mask: NDArray[np.bool_]) -> float:
    """Mean width of the strokes of a mask: four times the mean distance to the edge, as in a straight bar."""
    framed = cv2.copyMakeBorder(mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)  # 0 beside the mask
    return 4 * cv2.sumElems(depth)[0] / max(cv2.countNonZero(framed), 1)


def filled_share(mask: NDArray[np.bool_]) -> float:
    """What share of a mask is True."""
    return cv2.countNonZero(mask.view(np.uint8)) / mask.size


def without_shadows(ink: Ink, pen: float) -> Ink:
    """Take away what is much wider than the pen: shadows, rims of the sheet, the drift of light.

    This is the top-hat transform. Its square may stand out over the picture's edge.
    """
    side = 2 * _reach(pen) + 1
    return np.asarray(cv2.morphologyEx(ink, cv2.MORPH_TOPHAT, np.ones((side, side), np.uint8)), np.float32)


def _reach(pen: float) -> int:
    """How far from its middle a square reaches that is wider than strokes."""
    return round((SHADOW * pen + 1) / 2)


def without_shadows_at_the_edge(ink: Ink, pen: float) -> Ink:
    """Take away shadows, and their tips where they slant to the edge of the whole picture.

    No square fits into a tip unless the picture goes on beyond its edge. Then one fits along a stroke at the
    edge too, which is as dark as ink somewhere, and stays.
    """
    alone = without_shadows(ink, pen)
    strength = cv2.minMaxLoc(alone)[1]
    if all(side.max() <= SEEN * strength for side in sides(alone)):
        return alone
    (height, width), room = ink.shape, _reach(pen)
    larger = np.asarray(cv2.copyMakeBorder(ink, room, room, room, room, cv2.BORDER_REPLICATE), np.float32)
    going_on = without_shadows(larger, pen)[room : room + height, room : room + width]
    strokes = regions_around(alone > LIGHTER * strength, alone - going_on > SEEN * strength)
    return np.where(strokes, alone, going_on)


def sharpened(ink: Ink, pen: float) -> Ink:
    """Undo the blur of an enlargement or a lens, which fills the small holes of an 8: unsharp masking."""
    blurred = cv2.GaussianBlur(ink, (0, 0), max(BLUR * pen, 0.5))
    return np.asarray(2 * ink - blurred, np.float32)


def sides(picture: NDArray[Any], depth: int = 1) -> tuple[NDArray[Any], ...]:
    """The four sides of a picture, each (depth, length)."""
    return picture[:depth], picture[-depth:], picture[:, :depth].T, picture[:, -depth:].T


def regions_around(seeds: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the connected regions of a mask that hold a seed."""
    count, regions = cv2.connectedComponents(mask.view(np.uint8))
    kept = np.zeros(count, bool)
    kept[regions[seeds & mask]] = True
    return kept.take(np.asarray(regions, np.int32))  # in half the time of kept[regions]


def full_contrast(ink: Ink) -> Ink:
    """Let the paper's grain be 0 and the ink's usual strength 1."""
    low, high, _, _ = cv2.minMaxLoc(ink)
    step = (high - low) / LEVELS
    if step == 0:
        raise EmptyImage("The picture is blank: there is no ink on it.")
    # The medians of either side of Otsu's threshold, in a fifth of the time that NumPy's take.
    counts = np.asarray(cv2.calcHist([ink], [0], None, [LEVELS], [low, high + step / 2]), np.float32).ravel()
    first = round((otsu(ink) - low) / step)  # level of the ink
    grain, strength = (
        low + step * (level + 0.5) for level in (_median(counts[:first]), first + _median(counts[first:]))
    )
    if strength - grain < SMALLEST_CONTRAST:
        raise EmptyImage("The picture is blank: there is no ink on it.")
    return np.asarray(np.clip((ink - grain) / (strength - grain), 0, 1), np.float32)


def otsu(ink: Ink) -> float:
    """Otsu's threshold: the cut that leaves the least variance within its two sides."""
    low, high, _, _ = cv2.minMaxLoc(ink)
    threshold, _ = cv2.threshold(_eight_bits(ink), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return low + (threshold + 0.5) * (high - low) / 255


def _median(counts: NDArray[np.float32]) -> float:
    """The median of whole numbers from 0 on, by how often each of them occurs."""
    so_far, half = counts.cumsum(), counts.sum() / 2
    return (int(so_far.searchsorted(half)) + int(so_far.searchsorted(half, side="right"))) / 2


def _eight_bits(ink: Ink) -> NDArray[np.uint8]:
    """Stretch an ink map to 0-255, as OpenCV's thresholds and medians want it."""
    low, high, _, _ = cv2.minMaxLoc(ink)
    scale = 255 / max(high - low, 1e-6)
    return np.asarray(cv2.convertScaleAbs(ink, alpha=scale, beta=-low * scale - 0.5), np.uint8)
