"""The canonical form: what the datasets' pixels look like, and which way brings a picture there."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from service.digits import draw_digit, draw_digits
from service.errors import EmptyImage
from service.garments import draw_garment
from service.ink import OPAQUE
from service.segments import Box, Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CanonicalForm = Literal["digit", "garment"]

SIDE = 28
SMALLEST_SIDE = 4

# Measured over all 70,000 images of each dataset. Every MNIST image has black corners, a brightest pixel of
# at least 254, a box of ink whose longer side is 19 or 20 pixels and a centre of mass from 13.48 to 14.50: it
# was made that way. Fashion-MNIST was made less strictly: the rule for garments holds for 99.957 % of it.
BRIGHTEST = 250
DIGIT_LONGER_SIDE = (19, 20)
DIGIT_CENTRE = (13.4, 14.6)
GARMENT_LONGER_SIDE = 26
GARMENT_CORNER = 2


def canonicalise(picture: NDArray[np.uint8], form: CanonicalForm) -> NDArray[np.uint8]:
    """Bring a picture into canonical form, or return its pixels unchanged where they have it already.

    Args:
        picture: uint8 of shape (height, width), or (height, width, 3 or 4) with colour and opacity.
        form: what the picture shows, and so which dataset defines the form.

    Returns:
        uint8 of shape (28, 28): 0 is background, 255 full ink or cloth.

    Raises:
        EmptyImage: there is nothing on the ground.
        SeveralDigits: there is more than one digit.
    """
    _refuse_tiny(picture)
    if (canonical := _canonical_pixels(picture, form)) is not None:
        return canonical
    picture = without_repetition(picture)
    if (canonical := _canonical_pixels(picture, form)) is not None:
        return canonical
    return _DRAW[form](picture)


def separate(picture: NDArray[np.uint8]) -> list[Segment]:
    """Bring each digit on a picture into canonical form: line by line, from left to right.

    A picture that is in canonical form is one digit. Boxes are in the picture's pixels.

    Raises:
        EmptyImage: there is nothing on the ground.
        SeveralDigits: there are too many to be told apart.
    """
    _refuse_tiny(picture)
    smaller = without_repetition(picture)
    factor = picture.shape[0] // smaller.shape[0]
    if (canonical := _canonical_pixels(smaller, "digit")) is not None:
        segments = [Segment(canonical, Box(*cv2.boundingRect(canonical)))]
    else:
        segments = draw_digits(smaller)
    return [segment._replace(box=Box(*(factor * side for side in segment.box))) for segment in segments]


def _refuse_tiny(picture: NDArray[np.uint8]) -> None:
    if min(picture.shape[:2]) < SMALLEST_SIDE:
        raise EmptyImage("The picture is too small to show anything: send one of at least 28x28 pixels.")


def _canonical_pixels(picture: NDArray[np.uint8], form: CanonicalForm) -> NDArray[np.uint8] | None:
    """The pixels of a picture that is in canonical form, else None."""
    if picture.shape[:2] != (SIDE, SIDE):
        return None
    grey = grey_plane(picture)
    return grey if grey is not None and _IS_CANONICAL[form](grey) else None


def without_repetition(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo an enlargement that repeated each pixel, so that its squares are not taken for strokes."""
    for lines in (slice(None, None, 1 + max(picture.shape) // 8), slice(None)):  # a few lines, then all
        across = _step(picture[lines], axis=1)
        if across == 1 or (factor := gcd(across, _step(picture[:, lines], axis=0))) == 1:
            return picture
    if min(picture.shape[:2]) < factor * SMALLEST_SIDE:
        return picture
    return np.ascontiguousarray(picture[::factor, ::factor])


def _step(picture: NDArray[np.uint8], axis: int) -> int:
    """The largest factor that all positions share at which the picture changes along an axis."""
    ahead = np.moveaxis(picture, axis, 0)
    changes = (ahead[1:] != ahead[:-1]).reshape(len(ahead) - 1, -1).any(axis=1)
    return int(np.gcd.reduce(np.append(np.flatnonzero(changes) + 1, len(ahead))))


def grey_plane(picture: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The one plane of a picture without colour or transparency, else None."""
    if picture.ndim == 2:
        return picture
    if picture.shape[2] != 3:
        return None
    first = cv2.extractChannel(picture, 0)  # OpenCV's planes are compared ten times faster than slices
    same = all(np.array_equal(first, cv2.extractChannel(picture, channel)) for channel in (1, 2))
    return np.asarray(first, np.uint8) if same else None


def joined(planes: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Make a picture of its one, three or four planes, each (height, width).

    An opacity that is full everywhere is left out, and colour where all is grey: both cost time later on.
    """
    if len(planes) == 4 and planes[3].min() == OPAQUE:
        planes = planes[:3]
    if len(planes) == 3 and all(np.array_equal(planes[0], plane) for plane in planes[1:]):
        planes = planes[:1]
    return planes[0] if len(planes) == 1 else np.asarray(cv2.merge(planes), np.uint8)


def refuse_blank(grey: NDArray[np.uint8]) -> None:
    if grey.min() == grey.max():
        raise EmptyImage("The picture is blank: there is nothing on it to classify.")


def _is_dataset_digit(grey: NDArray[np.uint8]) -> bool:
    if _grey_corners(grey) != (0, 0, 0, 0) or cv2.norm(grey, cv2.NORM_INF) < BRIGHTEST:
        return False
    if not DIGIT_LONGER_SIDE[0] <= max(cv2.boundingRect(grey)[2:]) <= DIGIT_LONGER_SIDE[1]:
        return False
    moments = cv2.moments(grey)
    low, high = (bound * moments["m00"] for bound in DIGIT_CENTRE)
    return low <= moments["m01"] <= high and low <= moments["m10"] <= high


def _is_dataset_garment(grey: NDArray[np.uint8]) -> bool:
    if sorted(_grey_corners(grey))[2] > GARMENT_CORNER or cv2.norm(grey, cv2.NORM_INF) < BRIGHTEST:
        return False
    return max(cv2.boundingRect(grey)[2:]) >= GARMENT_LONGER_SIDE


def _grey_corners(grey: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    return grey.item(0, 0), grey.item(0, -1), grey.item(-1, 0), grey.item(-1, -1)


_IS_CANONICAL = {"digit": _is_dataset_digit, "garment": _is_dataset_garment}
_DRAW = {"digit": draw_digit, "garment": draw_garment}
