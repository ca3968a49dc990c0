"""Any bytes become canonical pixels or a refusal that says what to change."""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageChops, TiffImagePlugin

from service import images
from service.errors import (
    EmptyImage,
    EmptyUpload,
    ImageRejected,
    ImageTooLarge,
    NotCanonical,
    UndecodableImage,
    UnsupportedFormat,
)
from service.images import (
    LONGEST_SIDE,
    MOST_SCANS,
    SMALL_BYTES,
    WORKING_SIDE,
    CanonicalForm,
    is_image,
    is_large,
    read_digits,
    read_image,
)

Pixels = NDArray[np.uint8]
MAX_PIXELS = 30_000_000
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
}
LOSSY: dict[str, dict[str, Any]] = {"JPEG": {"quality": 90}, "AVIF": {"quality": 90}}
FORMATS = LOSSLESS | LOSSY


def seven(side: int = 100) -> Image.Image:
    """A black seven on white, off the middle."""
    pixels = np.full((side, side), 255, np.uint8)
    corners = np.array([[0.2, 0.2], [0.6, 0.2], [0.35, 0.8]]) * side
    cv2.polylines(pixels, [corners.astype(np.int32)], isClosed=False, color=0, thickness=max(1, side // 15))
    return Image.fromarray(pixels)


def encode(image: Image.Image, how: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, how, **options)
    return file.getvalue()


def read(upload: bytes, form: CanonicalForm = "digit") -> Pixels:
    return read_image(upload, form, "auto", MAX_PIXELS)


def as_they_are(upload: bytes) -> Pixels:
    return read_image(upload, "digit", "never", MAX_PIXELS)


def differ(one: Pixels, other: Pixels) -> float:
    """Mean absolute difference of the pixels, of 255."""
    return float(np.abs(one.astype(int) - other).mean())


SEVEN = read(encode(seven()))


WITHOUT_PIXELS = 33  # bytes of a PNG before the chunk of its pixels


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends before its first pixel."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )


def test_the_seven_of_these_tests_is_drawn_as_mnist_draws() -> None:
    rows, columns = np.flatnonzero(SEVEN.any(axis=1)), np.flatnonzero(SEVEN.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    middle = (
        SEVEN.sum(axis=1) @ np.arange(28) / SEVEN.sum(),
        SEVEN.sum(axis=0) @ np.arange(28) / SEVEN.sum(),
    )
    assert np.abs(np.array(middle) - 14).max() < 1
    assert SEVEN.max() > 250


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_format_is_read_by_its_content(how: str, mode: str) -> None:
    assert differ(read(encode(seven().convert(mode), how, **FORMATS[how])), SEVEN) < 2


@pytest.mark.parametrize("how", FORMATS)
def test_the_first_frame_counts(how: str) -> None:
    if how in ("JPEG", "BMP"):
        pytest.skip("holds one frame")
    later = ImageChops.invert(seven()).transpose(Image.Transpose.ROTATE_90)
    upload = encode(seven(), how, save_all=True, append_images=[later], **FORMATS[how])
    assert differ(read(upload), SEVEN) < 2


def modes() -> dict[str, Image.Image]:
    """The seven in every mode that a file can bring along."""
    grey = seven()
    ink = ImageChops.invert(grey)
    sixteen_bits = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    twelve_bits = Image.fromarray(np.asarray(grey).astype(np.uint16) * 16)
    palette = Image.fromarray((np.asarray(grey) > 128).astype(np.uint8), "L")
    palette.putpalette([20, 30, 90, 250, 240, 200])
    transparent = {
        name: Image.merge("RGBA", [Image.new("L", grey.size, level)] * 3 + [ink])
        for name, level in (("dark on nothing", 10), ("light on nothing", 245))
    }
    return {
        "1": grey.convert("1", dither=Image.Dither.NONE),
        "L": grey,
        "light on dark": ink,
        "LA": Image.merge("LA", [Image.new("L", grey.size, 0), ink]),
        "P": palette,
        "RGB, red on green of the same lightness": Image.merge(
            "RGB", [ink, grey.point(lambda v: v // 2), grey]
        ),
        "RGBA, opaque": grey.convert("RGBA"),
        **transparent,
        "I;16": sixteen_bits,
        "I;16 with 12 bits": twelve_bits,
    }


@pytest.mark.parametrize("name", modes())
def test_every_mode_of_a_png_is_read(name: str) -> None:
    assert differ(read(encode(modes()[name])), SEVEN) < 4


@pytest.mark.parametrize("mode", ["CMYK", "I", "F", "LAB", "I;16", "1", "YCbCr"])
def test_every_mode_of_a_tiff_is_read(mode: str) -> None:
    image = seven()
    image = image.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else image
    if mode == "LAB":
        image = Image.merge(
            "LAB", [seven(), Image.new("L", (100, 100), 128), Image.new("L", (100, 100), 128)]
        )
    elif mode == "I;16":
        image = Image.fromarray(np.asarray(seven()).astype(np.uint16) * 257)
    elif mode in ("I", "F"):
        image = image.convert(mode).point(lambda level: level * 0.01 + 3)
    elif mode == "1":
        image = image.convert("1", dither=Image.Dither.NONE)
    assert differ(read(encode(image, "TIFF")), SEVEN) < 4


def test_a_cmyk_jpeg_is_read() -> None:
    assert differ(read(encode(seven().convert("CMYK"), "JPEG", quality=95)), SEVEN) < 4


def test_a_palette_with_a_transparent_colour_is_read() -> None:
    image = Image.fromarray((np.asarray(seven()) > 128).astype(np.uint8), "L")
    image.putpalette([0, 0, 0, 0, 0, 0])  # the ground is told from the ink by its transparency alone
    assert differ(read(encode(image, transparency=1)), SEVEN) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("how", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_rotated_picture_is_set_upright(how: str, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = seven().transpose(undo[orientation]) if orientation in undo else seven()
    exif = Image.Exif()
    exif[TiffImagePlugin.ExifTags.Base.Orientation] = orientation
    assert differ(read(encode(stored, how, exif=exif, quality=95)), SEVEN) < 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's word about it
def test_a_broken_exif_block_is_ignored() -> None:
    assert differ(read(encode(seven(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff", quality=95)), SEVEN) < 3


def test_an_exif_block_that_is_none_is_ignored() -> None:
    assert differ(read(encode(seven(), "PNG", exif=b"Exif\0\0no TIFF header")), SEVEN) < 3


def refusal(upload: bytes, max_pixels: int = MAX_PIXELS) -> ImageRejected:
    """The error that `upload` is refused with, which is a sentence."""
    with pytest.raises(ImageRejected) as refused:
        read_image(upload, "digit", "auto", max_pixels)
    assert re.fullmatch(r"[A-Z].*[a-z].*\.", refused.value.message)
    return refused.value


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"seven", "no image"),
        (b"%PDF-1.7\n1 0 obj", "no image"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "no image"),
        (b"GIF90a" + bytes(100), "no image"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "no image"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "no image"),
        (b"\0\0\0\x14ftypmp42\0\0\0\0isomheic", "no image"),  # the list of brands ends before the last
        (b"\0\0\0\x18heicheic\0\0\0\0mif1heic", "no image"),
        (b"\0\0\0\x10ftypheic\0\0\0\0", "HEIC.*JPEG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC.*JPEG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heix", "HEIC.*JPEG"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0heixisom", "HEIC.*JPEG"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isheicom", "no image"),  # no brand of its own
        (b"\0\0\0\x1cftypmp42\0\0\0\0isommp41heix", "HEIC.*JPEG"),
        (b"\xff\xff\xff\xffftypmp42\0\0\0\0heic", "HEIC.*JPEG"),
    ],
)
def test_what_is_no_picture_is_refused_with_415(content: bytes, says: str) -> None:
    refused = refusal(content)
    assert isinstance(refused, UnsupportedFormat)
    assert refused.status == 415
    assert re.search(says, refused.message)
    assert "PNG, JPEG, WebP" in refused.message
    assert not is_image(content)
    assert not is_large(content, "digit")


@pytest.mark.parametrize("how", FORMATS)
def test_a_picture_is_known_by_its_first_bytes(how: str) -> None:
    assert is_image(encode(seven(), how, **FORMATS[how])[:256])


def test_an_empty_upload_is_refused_with_400() -> None:
    assert isinstance(refusal(b""), EmptyUpload)


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_picture_is_refused_with_422(how: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(
        0, 256, (64, 64, 3), dtype=np.uint8
    )  # fills the file to its end
    upload = encode(Image.fromarray(noise), how, **FORMATS[how])
    refused = refusal(upload[: int(len(upload) * share)])
    assert isinstance(refused, UndecodableImage)
    assert refused.status == 422
    assert refused.message.startswith(f"The {how} picture is corrupt or cut short")


@pytest.mark.parametrize("how", FORMATS)
def test_more_pixels_than_allowed_are_refused_with_413(how: str) -> None:
    upload = encode(seven(), how, **FORMATS[how])
    refused = refusal(upload, 9999)
    assert isinstance(refused, ImageTooLarge)
    assert "100x100 pixels; at most 9999" in refused.message
    read_image(upload, "digit", "auto", 10_000)


@pytest.mark.parametrize("side", [20_000, 2_000_000_000, 4_000_000_000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    for upload in (png_header(side, side), png_header(side, side)[:WITHOUT_PIXELS]):
        assert isinstance(refusal(upload), ImageTooLarge)


def test_a_bomb_that_pillow_refuses_to_open_is_refused_like_one_that_it_opens() -> None:
    side = (16_383).to_bytes(3, "little")
    refused = refusal(b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + side + side, 10**9)
    assert isinstance(refused, ImageTooLarge)
    assert f"larger than {10**9} pixels" in refused.message


def test_a_jpeg_of_more_scans_than_any_picture_needs_is_refused() -> None:
    upload = encode(seven(), "JPEG", quality=90)
    scan = b"\xff\xda"
    assert upload.count(scan) == 1
    assert differ(read(upload + scan * (MOST_SCANS - 1)), SEVEN) < 2
    refused = refusal(upload + scan * MOST_SCANS)
    assert isinstance(refused, UndecodableImage)
    assert f"has {MOST_SCANS + 1} scans; at most {MOST_SCANS}" in refused.message


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 10), (10, 0)])
def test_a_picture_of_zero_size_is_refused_with_422(width: int, height: int) -> None:
    refused = refusal(png_header(width, height))
    assert isinstance(refused, UndecodableImage)
    assert "has no pixels" in refused.message


@pytest.mark.parametrize("form", ["digit", "garment"])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 28), (28, 28), (300, 300)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_is_refused_with_422(form: CanonicalForm, size: tuple[int, int], level: int) -> None:
    with pytest.raises(EmptyImage):
        read(encode(Image.new("L", size, level)), form)


@pytest.mark.parametrize("form", ["digit", "garment"])
def test_a_wholly_transparent_picture_is_refused_with_422(form: CanonicalForm) -> None:
    hidden = seven().convert("RGBA")
    hidden.putalpha(0)
    with pytest.raises(EmptyImage):
        read(encode(hidden), form)


@pytest.mark.parametrize("quality", [30, 90])
def test_paper_without_ink_is_refused_although_it_has_grain(quality: int) -> None:
    grain = np.random.default_rng(0).normal(220, 1.5, (480, 640))
    with pytest.raises(EmptyImage):
        read(encode(Image.fromarray(grain.astype(np.uint8)), "JPEG", quality=quality))


@pytest.mark.parametrize("how", LOSSLESS)
def test_canonical_never_takes_pixels_as_they_are(how: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    for image in (Image.fromarray(pixels), Image.fromarray(pixels).convert("RGB")):
        upload = encode(image.convert("L") if how == "GIF" else image, how, **FORMATS[how])
        assert np.array_equal(as_they_are(upload), pixels)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (Image.new("L", (27, 28)), "27x28"),
        (Image.new("L", (2800, 2800)), "2800x2800"),
        (Image.effect_noise((28, 28), 50).convert("HSV").convert("RGB"), None),
        (Image.merge("RGB", [Image.effect_noise((28, 28), 50) for _ in range(3)]), "colour"),
        (Image.new("LA", (28, 28), (90, 120)), "opaque"),
        (Image.fromarray(np.full((28, 28), 300, np.uint16)), "8 bits"),
    ],
)
def test_canonical_never_refuses_what_it_cannot_take(image: Image.Image, says: str | None) -> None:
    if says is None:
        as_they_are(encode(image))
        return
    with pytest.raises(NotCanonical, match=rf"^canonical=never needs .*{says}.*\.$"):
        as_they_are(encode(image))


def test_canonical_never_refuses_blank_pixels() -> None:
    with pytest.raises(EmptyImage):
        as_they_are(encode(Image.new("L", (28, 28))))


@pytest.mark.parametrize("how", FORMATS)
def test_a_tiny_picture_is_read_inline_and_a_huge_one_in_a_thread(how: str) -> None:
    assert not is_large(encode(seven(28), how, **FORMATS[how]), "digit")
    assert is_large(encode(seven(2000), how, **FORMATS[how]), "digit")


def test_a_picture_of_huge_size_and_few_bytes_is_large() -> None:
    assert is_large(png_header(5000, 5000), "digit")
    assert is_large(png_header(5000, 5000)[:WITHOUT_PIXELS], "digit")


@pytest.mark.parametrize("how", FORMATS)
def test_a_picture_of_128x128_pixels_in_64_kib_is_the_largest_that_is_read_inline(how: str) -> None:
    largest = encode(Image.new("L", (128, 128)), how, **FORMATS[how])
    assert not is_large(largest.ljust(SMALL_BYTES, b"\0"), "digit")
    assert is_large(largest.ljust(SMALL_BYTES + 1, b"\0"), "digit")
    assert is_large(encode(Image.new("L", (128, 129)), how, **FORMATS[how]), "digit")


def test_a_garment_that_may_have_to_be_cut_out_is_large_sooner() -> None:
    assert not is_large(png_header(32, 32), "garment")
    assert is_large(png_header(32, 33), "garment")
    assert not is_large(png_header(32, 33), "digit")


def reduced_to(image: Image.Image, how: str = "PNG", **options: Any) -> tuple[int, ...]:
    """Width and height of what a picture is reduced to before anything looks at it."""
    pixels, size = images._decode(encode(image, how, **options), MAX_PIXELS, exact=False)
    assert size == image.size
    return pixels.shape[1::-1]


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((511, 2000), (511, 2000)),
        ((512, 700), (256, 350)),
        ((1000, 767), (500, 384)),
        ((1000, 768), (334, 256)),
        ((20, 2 * LONGEST_SIDE - 1), (20, 2 * LONGEST_SIDE - 1)),
        ((20, 2 * LONGEST_SIDE), (10, LONGEST_SIDE)),
    ],
)
def test_a_picture_is_reduced_by_the_factor_that_leaves_the_working_side(
    mode: str, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    assert WORKING_SIDE == 256
    assert reduced_to(Image.new("RGB" if mode == "RGB" else "L", size).convert(mode)) == wanted


@pytest.mark.parametrize(("side", "wanted"), [(500, 500), (900, 450), (1500, 375), (3000, 375)])
def test_a_large_jpeg_is_decoded_at_a_half_a_quarter_or_an_eighth_of_its_size(side: int, wanted: int) -> None:
    assert reduced_to(Image.new("L", (side, side)), "JPEG") == (wanted, wanted)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.integers(2, 5), st.integers(0, 2**32))
def test_a_picture_reduced_some_rows_at_a_time_is_as_if_reduced_at_once(
    mode: str, size: tuple[int, int], factor: int, seed: int
) -> None:
    levels = np.random.default_rng(seed).integers(0, 256, (*size, 4), dtype=np.uint8)
    image = Image.fromarray(levels, "RGBA").convert("L" if mode == "I;16" else mode).convert(mode)
    at_once = np.asarray(images._reduced(image, factor))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "STRIP_PIXELS", 100)
        some_rows = np.asarray(images._reduced(image, factor))
    assert np.array_equal(at_once, some_rows)
    if mode != "I;16":
        assert np.array_equal(at_once, np.asarray(image.reduce(factor)))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("side", [100, 700])
def test_the_box_of_a_digit_is_in_whole_pixels_of_the_upload_whatever_its_mode(mode: str, side: int) -> None:
    image = seven(side).convert(mode)
    if mode != "L":
        image.putpixel((0, 0), (250, 255, 255))  # one pixel of a colour, so that the channels stay
    [segment] = read_digits(encode(image), MAX_PIXELS)
    assert all(type(number) is int for number in segment.box)
    drawn = cv2.boundingRect(255 - np.asarray(seven(side)))
    assert np.abs(np.subtract(segment.box, drawn)).max() <= 0.04 * side


SAMPLES = [encode(seven(40), how, **options) for how, options in FORMATS.items()]
SAMPLES += [encode(modes()[name]) for name in ("P", "LA", "I;16")]
SAMPLES += [encode(seven(40), "TIFF", compression=how) for how in ("tiff_lzw", "jpeg", "tiff_deflate")]


def gives_pixels_or_a_refusal(upload: bytes) -> None:
    for form in ("digit", "garment"):
        try:
            pixels = read_image(upload, form, "auto", 1_000_000)
        except ImageRejected:
            continue
        assert pixels.shape == (28, 28)
        assert pixels.dtype == np.uint8
        assert pixels.any()


@given(st.binary(max_size=300), st.sampled_from([b"", *(sample[:16] for sample in SAMPLES)]))
def test_any_bytes_give_pixels_or_a_refusal(body: bytes, head: bytes) -> None:
    is_large(head + body, "digit")
    gives_pixels_or_a_refusal(head + body)


@settings(max_examples=300)
@given(st.sampled_from(SAMPLES), st.data())
def test_any_damage_to_a_picture_gives_pixels_or_a_refusal(sample: bytes, data: st.DataObject) -> None:
    damaged = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 8))):
        # Headers are short and matter most, so half of the damage goes there.
        last = data.draw(st.sampled_from([min(64, len(damaged)) - 1, len(damaged) - 1]))
        damaged[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    gives_pixels_or_a_refusal(bytes(damaged[: data.draw(st.integers(1, len(damaged)))]))


@settings(max_examples=200)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.sampled_from(["L", "RGB", "RGBA", "LA", "1"]),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
@example((4, 90), "L", 0.01, 0)
def test_any_pixels_give_canonical_ones_or_a_refusal(
    size: tuple[int, int], mode: str, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    levels = np.where(rng.random((*size[::-1], 4)) < share, rng.integers(0, 256, 4), rng.integers(0, 256, 4))
    image = Image.fromarray(levels.astype(np.uint8), "RGBA").convert(mode)
    gives_pixels_or_a_refusal(encode(image))


@pytest.mark.parametrize("size", [(1, 50), (50, 1)])
def test_a_line_of_pixels_is_too_small_and_not_corrupt(size: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, "GIF")
    with pytest.raises(EmptyImage, match="too small"):
        read_image(buffer.getvalue(), "digit", "auto", 1_000)


def test_a_grey_png_with_a_transparent_grey_is_not_opaque() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(784, dtype=np.uint16).reshape(28, 28).astype(np.uint8)).save(
        buffer, "PNG", transparency=0
    )
    with pytest.raises(NotCanonical, match="opaque"):
        read_image(buffer.getvalue(), "digit", "never", 1_000)


def test_the_lightness_of_a_lab_picture_is_its_grey() -> None:
    lightness = Image.fromarray(np.arange(784, dtype=np.uint16).reshape(28, 28).astype(np.uint8))
    buffer = io.BytesIO()
    Image.merge("LAB", [lightness, Image.new("L", (28, 28), 128), Image.new("L", (28, 28), 128)]).save(
        buffer, "TIFF"
    )
    read = read_image(buffer.getvalue(), "digit", "never", 1_000)
    np.testing.assert_array_equal(read, np.asarray(lightness))


def test_sixteen_bits_of_grey_are_read_in_their_full_range() -> None:
    shirt = np.zeros((28, 28), np.uint16)
    shirt[1:28, 6:22] = np.linspace(1_000, 65_535, 27 * 16).reshape(27, 16)
    buffer = io.BytesIO()
    Image.fromarray(shirt).save(buffer, "PNG")
    with Image.open(buffer) as saved:
        assert saved.mode == "I;16"
    read = read_image(buffer.getvalue(), "garment", "auto", 1_000)
    np.testing.assert_allclose(read, shirt / 257, atol=1)
