"""What people send: an image of the dataset drawn again with other pens, papers, cameras and file formats.

Each rendering takes canonical pixels, uint8 (28, 28), and a random generator, and returns an upload's bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from .scene import WHITE, enlarge, on_canvas, paint, ramp, save, skeleton

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Rendering = Callable[[NDArray[np.uint8], np.random.Generator], bytes]


def scaled(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    return save(enlarge(digit, rng))


def inverted(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    return save(1 - enlarge(digit, rng))


def inverted_28(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    return save(1 - digit / 255)


def shifted(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    return save(1 - on_canvas(enlarge(digit, rng), rng, spare=2.0))


def small_on_canvas(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """A digit of a fifth to an eighth of the canvas."""
    return save(1 - on_canvas(np.pad(enlarge(digit, rng, 3, 5), 150), rng, spare=0.7))


def touching_the_edge(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    ink = enlarge(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], rng)
    room = [[0, int(rng.integers(0, 100))] for _ in range(2)]
    return save(1 - np.pad(ink, [rng.permutation(sides) for sides in room]))


def coloured(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Any ink on any paper whose colours lie at least a third of the way from black to white apart."""
    paper, pen = rng.random((2, 3))
    while np.linalg.norm(paper - pen) < np.sqrt(3) / 3:
        paper, pen = rng.random((2, 3))
    return save(paint(on_canvas(enlarge(digit, rng), rng), paper, pen))


def coloured_jpeg(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    paper, pen = rng.random((2, 3))
    while np.linalg.norm(paper - pen) < np.sqrt(3) / 3:
        paper, pen = rng.random((2, 3))
    return save(paint(on_canvas(enlarge(digit, rng), rng), paper, pen), "JPEG", quality=50)


def jpeg_50(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    return save(1 - on_canvas(enlarge(digit, rng), rng), "JPEG", quality=50)


def noisy(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Grain of the camera: up to a tenth of full scale at every pixel."""
    picture = paint(on_canvas(enlarge(digit, rng), rng), 0.85 * WHITE, 0.2 * WHITE)
    return save(picture + rng.normal(0, rng.uniform(0.03, 0.1), picture.shape), "JPEG", quality=50)


def textured(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Paper with fibres, folds and stains: noise at several scales."""
    ink = on_canvas(enlarge(digit, rng), rng)
    size = ink.shape[::-1]
    texture = sum(
        cv2.resize(rng.normal(0, 0.04, (n, n)), size, interpolation=cv2.INTER_CUBIC) for n in (4, 16, 64)
    )
    return save(paint(ink, 0.8 * WHITE, 0.25 * WHITE) + texture[:, :, np.newaxis], "JPEG", quality=70)


def shaded(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Light that falls off across the paper by up to two thirds."""
    ink = on_canvas(enlarge(digit, rng), rng)
    across = ramp(ink.shape, rng)
    light = 1 - rng.uniform(0.3, 0.65) * across
    return save(paint(ink, 0.9 * WHITE, 0.15 * WHITE) * light[:, :, np.newaxis], "JPEG", quality=80)


def shadow_edge(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """The edge of a shadow crosses the paper, softly, often through the digit."""
    ink = on_canvas(enlarge(digit, rng), rng)
    across = ramp(ink.shape, rng) - rng.uniform(0.25, 0.75)
    light = 1 - rng.uniform(0.25, 0.5) / (1 + np.exp(-across * rng.uniform(15, 60)))
    return save(paint(ink, 0.9 * WHITE, 0.15 * WHITE) * light[:, :, np.newaxis], "JPEG", quality=80)


def faint(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Pencil: a twelfth to a fifth of full scale between ink and paper, with a little grain."""
    picture = paint(on_canvas(enlarge(digit, rng), rng), 0.9 * WHITE, (0.9 - rng.uniform(0.08, 0.2)) * WHITE)
    return save(picture + rng.normal(0, 0.01, picture.shape), "JPEG", quality=85)


def thick(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """A marker: strokes widened by two to three pixels of 28."""
    ink = enlarge(np.pad(digit, 3), rng)
    side = round(ink.shape[0] / 34 * rng.uniform(2, 3))
    ink = cv2.dilate(ink, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    return save(1 - on_canvas(ink, rng))


def thin(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """A pen one pixel wide on a canvas of a thousand pixels; the digit is a quarter to a half of it."""
    lines = skeleton(cv2.resize(digit, None, fx=9, fy=9, interpolation=cv2.INTER_CUBIC) > 110)
    if rng.random() < 0.5:
        lines = lines.repeat(2, axis=0).repeat(2, axis=1)
    room = 1000 - np.array(lines.shape)
    top, left = (int(rng.integers(0, side + 1)) for side in room)
    return save(1 - np.pad(lines, ((top, room[0] - top), (left, room[1] - left))).astype(np.float32))


def thin_28(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """A pen one pixel wide in a paint program's 28x28."""
    return save(1 - skeleton(digit > 110).astype(np.float32))


def ruled(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Lined or squared paper: lines thinner and paler than the pen."""
    ink = on_canvas(enlarge(digit, rng, 8, 16), rng)
    colours = paint(ink, 0.95 * WHITE, np.array([0.1, 0.1, 0.35]))
    unit = max(ink.shape) // int(rng.integers(5, 12))
    line = 0.95 - rng.uniform(0.1, 0.3) * np.array([1.0, 0.6, 0.2])
    width = max(1, unit // 25)
    for offset in range(width):
        colours[offset::unit] = np.minimum(colours[offset::unit], line)
        if unit % 2:
            colours[:, offset::unit] = np.minimum(colours[:, offset::unit], line)
    return save(colours, "JPEG", quality=80)


def framed(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """A box drawn around the digit, or a border of another colour around the paper."""
    picture = paint(on_canvas(enlarge(digit, rng), rng, 0.4), 0.95 * WHITE, 0.1 * WHITE)
    border = int(picture.shape[0] * rng.uniform(0.02, 0.15)) + 1
    outside = int(rng.integers(0, 2)) * int(picture.shape[0] * rng.uniform(0.02, 0.1))
    for width, colour in ((border, rng.uniform(0.0, 0.5)), (outside, 0.95)):
        picture = np.pad(picture, ((width, width), (width, width), (0, 0)), constant_values=colour)
    return save(picture)


def specks(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Crumbs, dust and dead pixels, as dark as the ink."""
    ink = on_canvas(enlarge(digit, rng, 6, 20), rng)
    ink = np.maximum(ink, rng.random(ink.shape) < 0.002)
    for _ in range(int(rng.integers(1, 6))):
        y, x = (int(rng.integers(0, side)) for side in ink.shape)
        cv2.circle(ink, (x, y), max(1, ink.shape[0] // 100), 1.0, -1)
    return save(1 - ink)


def broken(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Strokes that do not touch: gaps of one to two pixels of 28 across the digit."""
    ink = enlarge(digit, rng)
    unit = ink.shape[0] / 28
    for _ in range(2):
        row = int(rng.uniform(8, 20) * unit)
        ink[row : row + max(1, round(rng.uniform(0.6, 1.4) * unit))] = 0
    return save(1 - on_canvas(ink, rng))


def transparent(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Ink of any colour on nothing; what hides under full transparency is black or white."""
    ink = on_canvas(enlarge(digit, rng), rng)
    colours = np.where(ink[:, :, np.newaxis] > 0, rng.random(3), float(rng.integers(0, 2)))
    return save(np.dstack([colours, ink]))


def blurred(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Out of focus by up to a pixel of 28."""
    ink = on_canvas(enlarge(digit, rng), rng)
    return save(1 - cv2.GaussianBlur(ink, (0, 0), ink.shape[0] / 28 * rng.uniform(0.2, 0.7)))


def photographed(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """All at once: coloured pen, textured and shaded paper, grain, blur, JPEG."""
    ink = cv2.GaussianBlur(on_canvas(enlarge(digit, rng, 8, 24), rng, 1.5), (0, 0), rng.uniform(0.5, 3))
    paper = rng.uniform(0.6, 0.95) * (1 - rng.uniform(0, 0.25, 3))
    picture = paint(ink, paper, paper * rng.uniform(0.1, 0.55, 3))
    light = 1 - rng.uniform(0.1, 0.5) * ramp(ink.shape, rng)
    texture = cv2.resize(rng.normal(0, 0.02, (32, 32)), ink.shape[::-1], interpolation=cv2.INTER_CUBIC)
    picture = (picture + texture[:, :, np.newaxis]) * light[:, :, np.newaxis]
    return save(picture + rng.normal(0, 0.02, picture.shape), "JPEG", quality=int(rng.integers(40, 90)))


def on_desk(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """A sheet of paper lies askew on a darker, grained desk."""
    ink, (width, height) = sheet_and_table(digit, rng)
    grain = cv2.resize(rng.normal(0, 0.06, (64, 6)), (width, height), interpolation=cv2.INTER_CUBIC)
    return laid_on(rng.uniform(0.2, 0.6, 3) + grain[:, :, np.newaxis], ink, rng)


def on_wood(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """A sheet of paper on a plain table of any colour, or on wood striped light and dark."""
    ink, (width, height) = sheet_and_table(digit, rng)
    table = rng.uniform(0.1, 0.7, 3) * np.ones((height, width, 1))
    if rng.random() < 0.5:
        stripes = np.sin(ramp((height, width), rng) * rng.uniform(30, 120) + rng.uniform(0, 6))
        table = np.array([0.6, 0.42, 0.28]) * (1 + rng.uniform(0.1, 0.35) * stripes[:, :, np.newaxis])
    return laid_on(table, ink, rng)


def sheet_and_table(
    digit: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """What is written on a sheet, and width and height of a table with room for it."""
    ink = np.pad(on_canvas(enlarge(digit, rng, 5, 8), rng, 1.0), 20)
    return ink, (2 * ink.shape[1], 2 * ink.shape[0])


def laid_on(table: NDArray[np.float64], ink: NDArray[np.float32], rng: np.random.Generator) -> bytes:
    """Write on a light sheet, and photograph that as it lies askew on a table."""
    height, width = ink.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-12, 12), rng.uniform(1.0, 1.4))
    turn[:, 2] += width / 2, height / 2
    sheet = paint(ink, rng.uniform(0.8, 1.0) * WHITE, rng.uniform(0.0, 0.35, 3))
    size = table.shape[1::-1]
    covered = cv2.warpAffine(np.ones_like(ink), turn, size, flags=cv2.INTER_AREA)[:, :, np.newaxis]
    picture = table * (1 - covered) + cv2.warpAffine(sheet, turn, size) * covered
    return save(picture + rng.normal(0, 0.01, picture.shape), "JPEG", quality=80)


def squared(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Squared paper whose thin lines are half as dark as the pen."""
    ink = on_canvas(enlarge(digit, rng, 8, 16), rng)
    colours = paint(ink, 0.95 * WHITE, 0.1 * WHITE)
    unit, line = max(ink.shape) // int(rng.integers(6, 14)), rng.uniform(0.5, 0.7) * WHITE
    first = int(rng.integers(0, unit))
    for offset in range(max(1, unit // 25)):
        colours[first + offset :: unit] = np.minimum(colours[first + offset :: unit], line)
        colours[:, first + offset :: unit] = np.minimum(colours[:, first + offset :: unit], line)
    return save(colours, "JPEG", quality=80)


def chalk(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Chalk on a smeared board: light on dark, the stroke itself crumbly."""
    ink = on_canvas(enlarge(digit, rng, 6, 16), rng)
    crumbs = cv2.GaussianBlur(rng.random(ink.shape).astype(np.float32), (0, 0), 1.2)
    ink = ink * np.clip(0.6 + 6 * (crumbs - 0.5), 0.1, 1)
    smears = cv2.resize(rng.normal(0, 0.05, (6, 12)), ink.shape[::-1], interpolation=cv2.INTER_CUBIC)
    picture = paint(ink, np.array([0.15, 0.25, 0.2]), 0.85 * WHITE) + smears[:, :, np.newaxis]
    return save(picture, "JPEG", quality=80)


def cut_out(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """A digit of a photograph, cut out so tightly that strokes lie along or across the picture's edge."""
    rows, columns = (np.flatnonzero((digit > 110).any(axis=axis)) for axis in (1, 0))
    ink = enlarge(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], rng)
    unit = ink.shape[0] / np.ptp(rows)
    ink = np.pad(ink, rng.integers(0, int(2 * unit) + 1, (2, 2)) * rng.integers(0, 2, (2, 2)))
    light = 1 - rng.uniform(0, 0.3) * ramp(ink.shape, rng)
    picture = paint(ink, rng.uniform(0.7, 0.95, 3), rng.uniform(0.05, 0.3, 3)) * light[:, :, np.newaxis]
    return save(picture + rng.normal(0, 0.01, picture.shape), "JPEG", quality=80)


def ruled_through(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Lined or squared paper, not quite level: lines about as dark as the pen run through the digit."""
    ink = on_canvas(enlarge(digit, rng, 8, 16), rng)
    unit, side = ink.shape[0] / 28, max(ink.shape)
    apart, width = rng.uniform(6, 14) * unit, rng.uniform(0.3, 1.0) * unit
    angle = np.radians(rng.uniform(-2, 2))
    down, right = np.mgrid[: ink.shape[0], : ink.shape[1]].astype(np.float32)
    along = right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)
    directions = along[int(rng.integers(0, 2)) :]
    lines = [np.clip(width / 2 + 0.5 - np.abs((at + side) % apart - apart / 2), 0, 1) for at in directions]
    dark = rng.uniform(0.7, 1) * np.max(lines, axis=0)
    return save(paint(np.maximum(ink, dark), 0.95 * WHITE, np.array([0.1, 0.1, 0.3])), "JPEG", quality=80)


def shaded_at_the_edge(digit: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """A hand or a phone darkens a side or a corner of the paper, up to the picture's edge."""
    ink = on_canvas(np.pad(enlarge(digit, rng, 6, 16), 20), rng)
    across = ramp(ink.shape, rng) - rng.uniform(0.75, 0.95)
    light = 1 - rng.uniform(0.2, 0.5) / (1 + np.exp(-across * rng.uniform(15, 100)))
    return save(paint(ink, 0.9 * WHITE, 0.15 * WHITE) * light[:, :, np.newaxis], "JPEG", quality=80)


RENDERINGS: tuple[Rendering, ...] = (
    scaled,
    inverted,
    inverted_28,
    shifted,
    small_on_canvas,
    touching_the_edge,
    coloured,
    coloured_jpeg,
    jpeg_50,
    noisy,
    textured,
    shaded,
    shadow_edge,
    faint,
    thick,
    thin,
    thin_28,
    ruled,
    framed,
    specks,
    broken,
    transparent,
    blurred,
    photographed,
    on_desk,
    squared,
    chalk,
    cut_out,
    ruled_through,
    on_wood,
    shaded_at_the_edge,
)
