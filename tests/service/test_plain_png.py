"""The quick way for the plainest PNG gives what Pillow gives, or leaves the upload to it."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from service.plain_png import plain_grey

Pixels = NDArray[np.uint8]
MOST = 128 * 128


def saved(pixels: Pixels, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def drawn(seed: int, height: int, width: int) -> Pixels:
    """Smooth in places and noisy in others, so that rows are saved by different filters."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (height, width)).astype(np.uint8)
    pixels[: height // 2] = np.linspace(0, 255, width)
    return pixels


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    data: bytes, *, size: tuple[int, int] = (28, 28), form: bytes = b"\x08\0\0\0\0", after: bytes = b""
) -> bytes:
    """A PNG whose checksums are right, whatever its pixels are."""
    header = chunk(b"IHDR", struct.pack(">II", *size) + form)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + after + chunk(b"IEND", b"")


ROWS = bytes(28 * 29)
# The same 16 rows four times over, 1,040 bytes apart, in a stream that claims a window of 256 bytes.
REPEATED = zlib.compress(np.random.default_rng(0).integers(1, 5, (16, 65), np.uint8).tobytes() * 4)


@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    level=st.integers(0, 9),
)
def test_a_plain_png_is_decoded_as_pillow_decodes_it(seed: int, height: int, width: int, level: int) -> None:
    pixels = drawn(seed, height, width)
    found = plain_grey(saved(pixels, compress_level=level), MOST)
    assert found is not None
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("filter_of_row", range(5))
def test_rows_of_every_filter_are_read(filter_of_row: int) -> None:
    row = bytes([filter_of_row, *range(100, 128)])
    upload = png(zlib.compress(row * 28))
    found = plain_grey(memoryview(upload), MOST)
    with Image.open(io.BytesIO(upload)) as image:
        np.testing.assert_array_equal(found, np.asarray(image))


@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_png_with_one_byte_changed_is_left_to_pillow(place: int, value: int) -> None:
    upload = bytearray(saved(drawn(0, 28, 28)))
    upload[place % len(upload)] ^= value
    assert plain_grey(bytes(upload), MOST) is None


@given(st.integers(0, 900))
def test_a_png_that_is_cut_short_is_left_to_pillow(length: int) -> None:
    upload = saved(drawn(0, 28, 28))
    assert plain_grey(upload[: min(length, len(upload) - 1)], MOST) is None


@pytest.mark.parametrize(
    "upload",
    {
        "nothing": b"",
        "no deflate": png(b"no deflate at all"),
        "no pixels": png(b""),
        "a row missing": png(zlib.compress(ROWS[29:])),
        "a byte too many": png(zlib.compress(ROWS + b"\0")),
        "an unknown filter": png(zlib.compress(b"\x05" + ROWS[1:])),
        "a wrong checksum within": png(zlib.compress(ROWS)[:-1] + b"\xff"),
        "bytes after the pixels": png(zlib.compress(ROWS) + b"more"),
        "width of nothing": png(zlib.compress(b""), size=(0, 28)),
        "more pixels than asked for": png(zlib.compress(ROWS), size=(129, 128)),
        "a bomb": png(zlib.compress(bytes(10_000_000)), size=(28, 28)),
        "a chunk beside the pixels": png(zlib.compress(ROWS), after=chunk(b"tIME", bytes(7))),
        "sixteen bits": saved(np.full((28, 28), 300, np.uint16)),
        "colour": saved(np.zeros((28, 28, 3), np.uint8)),
        "a window too small": png(b"\x08\x1d" + REPEATED[2:], size=(64, 64)),
        "a palette": png(zlib.compress(ROWS), form=b"\x08\x03\0\0\0"),
        "interlaced": png(zlib.compress(ROWS), form=b"\x08\0\0\0\x01"),
    }.items(),
    ids=lambda named: named[0],
)
def test_what_is_not_whole_or_not_plain_is_left_to_pillow_without_a_word(
    upload: tuple[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    assert plain_grey(upload[1], MOST) is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shared", range(5))
def test_a_header_and_an_end_that_share_bytes_are_left_to_pillow(shared: int) -> None:
    header, end = png(b"")[:29], png(b"")[-12:]
    upload = header + end[shared:]
    assert upload[24:29] == header[24:29]
    assert upload[-12:] == end
    assert plain_grey(upload, MOST) is None


def test_a_small_window_that_holds_all_rows_will_do(
    capfd: pytest.CaptureFixture[str],
) -> None:
    small = zlib.compressobj(wbits=10)
    upload = png(small.compress(ROWS) + small.flush())
    found = plain_grey(upload, MOST)
    assert found is not None
    assert not found.any()
    assert capfd.readouterr() == ("", "")
