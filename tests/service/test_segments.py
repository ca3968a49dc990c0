"""Several digits on one picture are told from one digit whose strokes do not touch, and each is found."""

from __future__ import annotations

import io
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from service.errors import EmptyImage, SeveralDigits
from service.images import read_digits, read_image
from service.segments import Box
from tests.benchmarks.numbers import written_together

Drawing = NDArray[np.uint8]
MAX_PIXELS = 30_000_000


def paper(width: int = 300, height: int = 200) -> Drawing:
    return np.full((height, width), 255, np.uint8)


def write(drawing: Drawing, text: str, left: int, bottom: int, size: float = 2.5) -> Box:
    """Write in black with a plotter's pen; returns the box of the ink."""
    mask = np.zeros_like(drawing)
    cv2.putText(mask, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, size, 255, round(3 * size), cv2.LINE_AA)
    drawing[:] = np.minimum(drawing, 255 - mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)


def encode(drawing: Drawing, how: str = "PNG", orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[TiffImagePlugin.ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    Image.fromarray(drawing).save(file, how, quality=90, exif=exif)
    return file.getvalue()


def boxes(upload: bytes) -> list[Box]:
    return [segment.box for segment in read_digits(upload, MAX_PIXELS)]


def read(upload: bytes) -> Drawing:
    return read_image(upload, "digit", "auto", MAX_PIXELS)


def are_close(found: Box, drawn: Box, pixels: float) -> bool:
    return bool(np.abs(np.subtract(found, drawn)).max() <= pixels)


@pytest.mark.parametrize("text", ["42", "11", "17", "1234", "80", "55555"])
def test_several_digits_are_refused_with_422_and_told_what_to_do(text: str) -> None:
    drawing = paper(width=90 * len(text))
    write(drawing, text, 20, 150)
    with pytest.raises(SeveralDigits, match=rf"{len(text)} digits.*one digit.*segments=true") as refused:
        read(encode(drawing))
    assert refused.value.status == 422
    assert refused.value.code == "several_digits"


def test_each_digit_is_found_where_it_is_from_left_to_right() -> None:
    drawing = paper(500)
    drawn = [
        write(drawing, text, left, 150) for text, left in (("4", 30), ("1", 150), ("8", 270), ("2", 390))
    ]
    found = boxes(encode(drawing))
    assert all(are_close(*pair, 3) for pair in zip(found, drawn, strict=True)), (found, drawn)


def test_lines_come_one_after_the_other() -> None:
    drawing = paper(300, 340)
    drawn = [write(drawing, *place) for place in (("3", 150, 120), ("7", 40, 290), ("9", 200, 300))]
    found = boxes(encode(drawing))
    assert all(are_close(*pair, 3) for pair in zip(found, drawn, strict=True)), (found, drawn)


def test_a_small_digit_beside_a_large_one_is_a_digit() -> None:
    drawing = paper()
    drawn = [write(drawing, "6", 30, 150, 4), write(drawing, "5", 200, 150, 2.2)]
    found = boxes(encode(drawing))
    assert all(are_close(*pair, 3) for pair in zip(found, drawn, strict=True)), (found, drawn)


def test_digits_of_different_ink_are_all_found() -> None:
    drawing = paper()
    write(drawing, "5", 170, 150)
    drawing = np.maximum(drawing, 110)
    write(drawing, "6", 30, 150)
    assert len(boxes(encode(drawing))) == 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_in_pixels_of_the_upright_picture(orientation: int) -> None:
    upright = paper(900, 600)
    drawn = [write(upright, "2", 100, 400, 6), write(upright, "7", 500, 450, 8)]
    stored = Image.fromarray(upright)
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the inverse of what the tag asks for
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(turns[orientation]))
    found = boxes(encode(np.asarray(stored), "JPEG", orientation))
    assert all(are_close(*pair, 12) for pair in zip(found, drawn, strict=True)), (found, drawn)


def test_boxes_on_a_large_photograph_are_in_its_own_pixels() -> None:
    drawing = paper(4000, 3000)
    drawn = [write(drawing, "2", 500, 2000, 30), write(drawing, "3", 2000, 2100, 40)]
    found = boxes(encode(drawing, "JPEG"))
    assert all(are_close(*pair, 40) for pair in zip(found, drawn, strict=True)), (found, drawn)


def test_boxes_on_an_enlargement_of_whole_pixels_are_in_its_own_pixels() -> None:
    drawing = paper(60, 40)
    drawn = [write(drawing, text, left, 30, 0.8) for text, left in (("4", 5), ("2", 35))]
    found = boxes(encode(drawing.repeat(8, axis=0).repeat(8, axis=1)))
    wanted = [Box(*(8 * side for side in box)) for box in drawn]
    assert all(are_close(*pair, 16) for pair in zip(found, wanted, strict=True)), (found, wanted)


def test_one_digit_alone_has_the_same_pixels_either_way() -> None:
    drawing = paper()
    drawn = write(drawing, "8", 100, 150)
    [segment] = read_digits(encode(drawing), MAX_PIXELS)
    assert np.array_equal(segment.pixels, read(encode(drawing)))
    assert are_close(segment.box, drawn, 3)


def five_with_a_detached_bar(gap: int) -> Drawing:
    drawing = paper(200, 200)
    cv2.polylines(drawing, [np.array([[75, 50], [70, 95], [100, 88]])], isClosed=False, color=0, thickness=9)
    cv2.ellipse(drawing, (95, 120), (33, 33), 0, -80, 150, 0, 9, cv2.LINE_AA)
    cv2.line(drawing, (75 + gap + 9, 50), (130, 47), 0, 9, cv2.LINE_AA)
    return drawing


def eight_in_two_pieces() -> Drawing:
    drawing = paper(200, 240)
    for middle in (75, 145):
        cv2.ellipse(drawing, (100, middle), (28, 29), 0, 0, 360, 0, 8, cv2.LINE_AA)
    return drawing


def dashed_zero() -> Drawing:
    drawing = paper(200, 240)
    for start in range(0, 360, 40):
        cv2.ellipse(drawing, (100, 120), (45, 75), 0, start, start + 28, 0, 8, cv2.LINE_AA)
    return drawing


def one_with_a_gap() -> Drawing:
    drawing = paper(200, 240)
    cv2.line(drawing, (100, 40), (100, 110), 0, 10)
    cv2.line(drawing, (100, 126), (100, 200), 0, 10)
    return drawing


def four_with_a_loose_stem() -> Drawing:
    drawing = paper(200, 240)
    cv2.polylines(
        drawing, [np.array([[70, 50], [50, 130], [125, 130]])], isClosed=False, color=0, thickness=9
    )
    cv2.line(drawing, (115, 60), (115, 112), 0, 9, cv2.LINE_AA)
    cv2.line(drawing, (115, 142), (115, 200), 0, 9, cv2.LINE_AA)
    return drawing


def with_crumbs() -> Drawing:
    drawing = paper()
    write(drawing, "3", 100, 150)
    for x, y in ((30, 30), (250, 60), (220, 170)):
        cv2.circle(drawing, (x, y), 5, 0, -1)
    return drawing


ONE_DIGIT = {
    "a 5 with its bar aside": five_with_a_detached_bar(6),
    "a 5 with its bar farther aside": five_with_a_detached_bar(16),
    "an 8 of two rings": eight_in_two_pieces(),
    "a dashed 0": dashed_zero(),
    "a 1 with a gap": one_with_a_gap(),
    "a 4 of three strokes": four_with_a_loose_stem(),
    "a 3 among crumbs": with_crumbs(),
}


@pytest.mark.parametrize("name", ONE_DIGIT)
@pytest.mark.parametrize("ink", [0, 200])
def test_one_digit_of_strokes_that_do_not_touch_is_one_digit(name: str, ink: int) -> None:
    drawing = ONE_DIGIT[name]
    faint = (255 - (255 - drawing.astype(int)) * (255 - ink) // 255).astype(np.uint8)
    assert read(encode(faint)).any()


def test_a_blank_picture_has_no_digits_to_find() -> None:
    with pytest.raises(EmptyImage):
        read_digits(encode(paper()), MAX_PIXELS)


def digits_of_the_data_set(folder: Path) -> Drawing:
    content = (folder / "MNIST" / "raw" / "train-images-idx3-ubyte").read_bytes()
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)


@pytest.mark.data
def test_an_image_of_the_data_set_is_one_digit_as_it_is(data_folder: Path) -> None:
    for image in digits_of_the_data_set(data_folder)[:2000]:
        [segment] = read_digits(encode(image), MAX_PIXELS)
        assert np.array_equal(segment.pixels, image)
        x, y, width, height = segment.box
        assert image.sum() == image[y : y + height, x : x + width].sum()


@pytest.mark.data
def test_digits_of_the_data_set_written_together_are_told_apart(data_folder: Path) -> None:
    images, rng = digits_of_the_data_set(data_folder), np.random.default_rng(0)
    pictures = [written_together(images, rng) for _ in range(100)]
    counts = np.array([len(boxes(picture.upload)) for picture in pictures])
    wanted = np.array([len(picture.members) for picture in pictures])
    assert (counts > 1).mean() >= 0.98
    assert (counts == wanted).mean() >= 0.95


@pytest.mark.data
def test_digits_of_the_data_set_cut_by_a_gap_stay_one(data_folder: Path) -> None:
    rng = np.random.default_rng(0)
    several = 0
    for image in digits_of_the_data_set(data_folder)[:300]:
        large = cv2.resize(image, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
        y, x = np.mgrid[: large.shape[0], : large.shape[1]] / 8 - 14
        angle = rng.uniform(0, np.pi)
        gap = np.abs(np.cos(angle) * y + np.sin(angle) * x - rng.uniform(-6, 6)) < 0.5
        several += len(boxes(encode(np.where(gap, 0, large).astype(np.uint8)))) > 1
    assert several <= 6


def page(rows: int, columns: int) -> Drawing:
    """Lines of plotted digits, with room between them."""
    drawing = paper(40 * columns, 40 * rows)
    for row in range(rows):
        for column in range(columns):
            write(drawing, str((3 * row + column) % 10), 40 * column + 8, 40 * row + 30, 1.0)
    return drawing


@pytest.mark.parametrize(("rows", "columns"), [(13, 4), (25, 2), (7, 7)])
def test_more_digits_than_are_told_apart_are_refused_with_what_to_do(rows: int, columns: int) -> None:
    """25 lines of two digits make a column that is as narrow as a 1."""
    upload = encode(page(rows, columns))
    for way in (read, boxes):
        with pytest.raises(SeveralDigits, match="more than 48 digits, or a pattern: send a part of it"):
            way(upload)
    assert len(boxes(encode(page(6, 8)))) == 48


@pytest.mark.parametrize("columns", [16, 30, 40])
def test_a_long_row_is_looked_at_as_finely_as_a_short_one(columns: int) -> None:
    drawing = paper(40 * columns, 48)
    written = [write(drawing, str(k % 10), 40 * k + 8, 36, 1.0) for k in range(columns)]
    found = boxes(encode(drawing))
    assert len(found) == columns
    assert all(are_close(one, box, 4) for one, box in zip(found, written, strict=True))


def test_one_digit_between_many_low_strokes_is_one_digit() -> None:
    drawing = paper(300, 300)
    for row in range(10):
        for column in range(6):
            cv2.circle(drawing, (25 + 50 * column, 15 + 30 * row), 5, 0, -1)
    drawing[40:260, 90:210] = 255
    written = write(drawing, "5", 100, 230, 6.0)
    alone = paper(300, 300)
    write(alone, "5", 100, 230, 6.0)
    (found,) = boxes(encode(drawing))
    assert are_close(found, written, 4)
    np.testing.assert_allclose(read(encode(drawing)).astype(int), read(encode(alone)).astype(int), atol=8)


def test_a_texture_of_many_strokes_costs_little() -> None:
    """Which strokes are frames and lines was asked of each pair: three seconds for 1,500 bytes."""
    dots = np.random.default_rng(0).random((89, 89)) < 0.85
    drawing = paper(179, 179)
    drawing[1:-1:2, 1:-1:2][dots] = 0
    began = time.process_time()
    with pytest.raises(SeveralDigits):
        read(encode(drawing))
    assert time.process_time() - began < 1
