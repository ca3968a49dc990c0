"""Digits as people photograph them: marked by hand, beside print, a finger, a pen or the desk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from .scene import BLACK, WHITE, enlarge, paint, ramp, save

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .scene import Map

ROOM = 0.6  # of the digit's image, on each side of it


def circled(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Marked by an ellipse, closed or nearly."""
    ink, pen = _on_paper(digit, rng)
    middle, side = [length / 2 for length in ink.shape[::-1]], min(ink.shape)
    axes = side * rng.uniform(0.34, 0.46, 2)
    points = [
        middle + axes * (np.cos(angle), np.sin(angle)) + rng.normal(0, side / 200, 2)
        for angle in rng.uniform(0, 6) + np.linspace(0, 2 * np.pi * rng.uniform(0.9, 1.05), 40)
    ]
    cv2.polylines(ink, [np.rint(points).astype(np.int32)], isClosed=False, color=1.0, thickness=pen)
    return _photograph(ink, rng)


def boxed_by_hand(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """In a box of four strokes that hardly meet."""
    ink, pen = _on_paper(digit, rng)
    near, far = 0.12, 0.88
    for start, end in (((near, near), (far, near)), ((far, near), (far, far)),
                       ((far, far), (near, far)), ((near, far), (near, near))):  # fmt: skip
        _stroke(ink, rng.normal(start, 0.015), rng.normal(end, 0.015), pen)
    return _photograph(ink, rng)


def underlined(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    ink, pen = _on_paper(digit, rng)
    height = rng.uniform(0.8, 0.9)
    _stroke(
        ink, (rng.uniform(0.05, 0.2), height), (rng.uniform(0.8, 0.95), height + rng.normal(0, 0.01)), pen
    )
    return _photograph(ink, rng)


def beside_words(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """The field of a form, with its printed name."""
    ink, _ = _on_paper(digit, rng)
    side = ink.shape[0]
    ink = np.pad(ink, ((0, 0), (side, 0)))
    word = str(rng.choice(["Answer:", "Points", "No.", "Total"]))
    corner = (round(0.1 * side), round(rng.uniform(0.4, 0.7) * side))
    printed = np.zeros(ink.shape, np.uint8)
    cv2.putText(
        printed, word, corner, cv2.FONT_HERSHEY_COMPLEX, side / 200, 255, 1 + side // 200, cv2.LINE_AA
    )
    ink = np.maximum(ink, printed.astype(np.float32) / 255)
    return _photograph(ink, rng)


def finger(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """The tip of a finger, which holds the paper, comes in from an edge."""
    ink, _ = _on_paper(digit, rng)
    cover = np.zeros_like(ink)
    _stroke(cover, (rng.uniform(0, 1), 1.1), (rng.uniform(0.1, 0.9), 0.93), round(0.12 * ink.shape[0]))
    skin = np.array([0.8, 0.6, 0.5]) * rng.uniform(0.5, 1)
    return _photograph(ink, rng, np.rot90(cover, int(rng.integers(0, 4))), skin)


def pen_on_the_paper(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """A pen lies across a corner of the paper."""
    ink, _ = _on_paper(digit, rng)
    cover = np.zeros_like(ink)
    start, end = (rng.uniform(0.75, 0.95), -0.1), (1.1, rng.uniform(0.5, 0.9))
    _stroke(cover, start, end, round(rng.uniform(0.03, 0.06) * ink.shape[0]))
    return _photograph(ink, rng, np.rot90(cover, int(rng.integers(0, 4))), rng.uniform(0, 0.4, 3))


def beside_the_desk(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """The paper ends within the picture, at one edge of it or at two."""
    ink, _ = _on_paper(digit, rng)
    cover = np.zeros_like(ink)
    for turn in range(int(rng.integers(1, 3))):
        near, far = rng.uniform(0.04, 0.14, 2) * len(cover)
        corners = np.rint([(0, 0), (len(cover), 0), (len(cover), far), (0, near)]).astype(np.int32)
        desk = cv2.fillPoly(np.zeros_like(cover), [corners], 1.0)
        cover = np.maximum(cover, np.rot90(desk, turn))
    return _photograph(ink, rng, np.rot90(cover, int(rng.integers(0, 4))), rng.uniform(0.1, 0.5, 3))


def _on_paper(digit: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Map, int]:
    """The digit with room around it, square, and the width of the pen for what is added by hand."""
    ink = enlarge(digit, rng, 6, 14)
    room = round(ROOM * len(ink))
    ink = np.pad(ink, room)
    return ink, max(2, round(rng.uniform(0.01, 0.025) * len(ink)))


def _stroke(ink: Map, start: tuple[float, float], end: tuple[float, float], width: int) -> None:
    """Draw a straight line from one place to another, as shares of the sides (right, down)."""
    ends = [tuple(round(float(share) * ink.shape[0]) for share in place) for place in (start, end)]
    cv2.line(ink, *ends, 1.0, width, cv2.LINE_AA)


def _photograph(
    ink: Map, rng: np.random.Generator, cover: Map | None = None, colour: NDArray[np.float64] = BLACK
) -> bytes:
    """Light that falls off, what covers the paper, blur, grain, JPEG."""
    scene = paint(ink, rng.uniform(0.8, 0.97) * WHITE, rng.uniform(0, 0.35, 3))
    if cover is not None:
        scene = paint(cover, scene, colour)
    scene *= 1 - rng.uniform(0, 0.25) * ramp(ink.shape, rng)[:, :, np.newaxis]
    scene = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.4, 1.0))
    return save(scene + rng.normal(0, 0.012, scene.shape), "JPEG", quality=int(rng.integers(65, 92)))


SURROUNDINGS = (
    circled,
    boxed_by_hand,
    underlined,
    beside_words,
    finger,
    pen_on_the_paper,
    beside_the_desk,
)
