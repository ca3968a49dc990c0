"""Each step of the canonicaliser by name, and how to switch it off."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from service import canonical, digits, garments, ink, segments, strokes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Steps = dict[str, Callable[[], AbstractContextManager[Any]]]


def without_colour(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey, and ink is dark."""
    return np.full(picture.shape[2], -1 / picture.shape[2], np.float32)


def edge_colour(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """One paper for the whole picture: the median of its edge."""
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return np.full_like(picture, np.median(edge, axis=0).astype(np.uint8)).squeeze()


def without_opacity(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture[:, :, :3] if picture.ndim == 3 else picture[:, :, np.newaxis]


def place_by_box(drawn: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Put the middle of the box, not the centre of mass, into the middle."""
    small = np.clip(digits.to_side(drawn, digits.BOX), 0, 1)
    canvas = np.zeros((digits.SIDE, digits.SIDE), np.uint8)
    top, left = ((digits.SIDE - side) // 2 for side in small.shape)
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = np.rint(small * 255)
    return canvas


def even_ground(colours: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """A ground of one colour, whatever the light."""
    edge = garments.edge_of(colours)
    ground = np.median(edge, axis=0)
    off = np.abs(edge - ground).max(axis=1)
    return np.full_like(colours, ground) if (off < garments.TOLERANCE).mean() > garments.PLAIN else None


_channels = garments.channels


def channels_without_opacity(picture: NDArray[np.uint8]) -> tuple[NDArray[np.float32], None]:
    colours, _ = _channels(picture[:, :, :3] if picture.ndim == 3 else picture)
    return colours, None


def off(module: object, name: str, instead: object) -> AbstractContextManager[Any]:
    return mock.patch.object(module, name, instead)


DIGIT_STEPS: Steps = {
    "repeated pixels": lambda: off(canonical, "without_repetition", lambda picture: picture),
    "opacity": lambda: off(ink, "on_ground", without_opacity),
    "colour, polarity": lambda: off(ink, "ink_direction", without_colour),
    "paper in the corners": lambda: off(ink, "is_around_a_digit", lambda _ink: False),
    "local paper": lambda: off(ink, "_paper", edge_colour),
    "light beside a shadow": lambda: off(ink, "_is_light_beside_shadow", lambda _out: False),
    "shadows": lambda: off(ink, "without_shadows", lambda ink, _pen: ink - ink.min()),
    "tips of shadows": lambda: off(ink, "without_shadows_at_the_edge", ink.without_shadows),
    "sharpening": lambda: off(ink, "sharpened", lambda ink, _pen: ink),
    "smears": lambda: off(ink, "SURELY_INK", ink.IS_INK),
    "specks": lambda: off(strokes, "SPECK", 0.0),
    "sheet on a desk": lambda: off(digits, "find_sheet", lambda _mask: None),
    "rules": lambda: off(strokes, "find_rules", lambda _mask: []),
    "frames": lambda: off(strokes, "without_frames", lambda strokes, _shape: strokes),
    "lines": lambda: off(strokes, "without_lines", lambda strokes, _shape: strokes),
    "underlines": lambda: off(strokes, "without_underline", lambda strokes: strokes),
    "what comes from the edge": lambda: off(strokes, "without_intruders", lambda strokes, _shape: strokes),
    "far from the digit": lambda: off(segments, "FAR", np.inf),
    "strokes that belong together": lambda: off(segments, "_belong_together", lambda *_: False),
    "second look": lambda: off(digits, "only", lambda drawn, _digit: drawn),
    "even pen": lambda: off(digits, "even_pen", lambda drawn: drawn),
    "centre of mass": lambda: off(digits, "place", place_by_box),
}
GARMENT_STEPS: Steps = {
    "repeated pixels": lambda: off(canonical, "without_repetition", lambda picture: picture),
    "opacity": lambda: off(garments, "channels", channels_without_opacity),
    "plain ground": lambda: off(garments, "plain_ground", lambda _colours: None),
    "slope of light": lambda: off(garments, "plain_ground", even_ground),
    "GrabCut": lambda: off(garments, "grab_cut", lambda colours: np.zeros(colours.shape[:2], bool)),
    "colours of the rim": lambda: off(garments, "RIM_NEAR", 0.0),
    "shading": lambda: off(garments, "SHADING", 1.0),
    "joints of a floor": lambda: off(garments, "without_joints", lambda cut: cut),
    "scraps": lambda: off(garments, "pieces", lambda mask: mask),
    "rim": lambda: off(garments, "even_rim", lambda values, _cloth: values),
    "white cloth as its shape": lambda: off(garments, "MOST_CONTRAST", float("inf")),
    "negative": lambda: off(garments, "bright", lambda light, cloth: light * cloth),
}
