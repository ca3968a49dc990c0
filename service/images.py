"""The bytes of an upload become canonical pixels: sniff, header limits, decode, canonicalise.

The only file that imports Pillow. Whatever the bytes are, the caller gets pixels or an `ImageRejected`.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from service import deep_grey
from service.canonical import (
    SIDE,
    CanonicalForm,
    canonicalise,
    grey_plane,
    joined,
    refuse_blank,
    separate,
)
from service.errors import (
    EmptyUpload,
    ImageRejected,
    ImageTooLarge,
    NotCanonical,
    UndecodableImage,
    UnsupportedFormat,
)
from service.plain_png import plain_grey
from service.segments import Box, Segment

if TYPE_CHECKING:
    from numpy.typing import NDArray

CanonicalMode = Literal["auto", "never"]

# What a picture is reduced to before anything else looks at it, in pixels along its shorter side. A digit
# that fills a tenth of a photograph still has twice the resolution of the 20x20 box that it goes into.
WORKING_SIDE = 256
LONGEST_SIDE = 4096
STRIP_PIXELS = 1 << 20  # that are converted at once

# What is read within a millisecond or two on one core. A garment of 128x128 pixels that has to be cut out of
# a photograph takes 46.
SMALL_PIXELS = 128 * 128
SMALL_GARMENT_PIXELS = 32 * 32
SMALL_BYTES = 64 * 2**10

# A progressive JPEG brings its pixels in about ten scans. Each costs time for the whole picture, and a file
# has room for a million: 200 of 41 million pixels took 0.8 s on one core, where its own six took 0.2 s.
MOST_SCANS = 64
_SCAN = b"\xff\xda"

READABLE = "PNG, JPEG, WebP, AVIF, GIF, BMP and TIFF are read"

_HEAD = 256  # bytes that tell the format
_PNG = b"\x89PNG\r\n\x1a\n"
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}

_SIGNATURES: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (_PNG, PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"GIF87a", GifImagePlugin.GifImageFile),
    (b"GIF89a", GifImagePlugin.GifImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"II+\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0+", TiffImagePlugin.TiffImageFile),
)

# Two flips or a quarter turn each, by the value of EXIF's orientation tag.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = {5, 6, 7, 8}


def read_image(
    upload: bytes | memoryview, form: CanonicalForm, mode: CanonicalMode, max_pixels: int
) -> NDArray[np.uint8]:
    """Turn the bytes of one upload into canonical pixels, uint8 of shape (28, 28).

    Mode `never` takes 28x28 grey pixels as they are. Mode `auto` lets a picture that is already in canonical
    form pass unchanged and brings every other one into it.

    Raises:
        ImageRejected: in the class that says why, whatever the bytes are.
    """
    picture, _ = _decode(upload, max_pixels, exact=mode == "never")
    if mode == "never":
        return _as_it_is(picture)
    return canonicalise(picture, form)


def read_digits(upload: bytes | memoryview, max_pixels: int) -> list[Segment]:
    """Find the digits on one upload: canonical pixels, and boxes in pixels of the upright upload.

    Raises:
        ImageRejected: in the class that says why, whatever the bytes are.
    """
    picture, size = _decode(upload, max_pixels, exact=False)
    scale = np.divide(size, picture.shape[1::-1])  # (2,): across, down
    return [segment._replace(box=_enlarged(segment.box, scale)) for segment in separate(picture)]


def _enlarged(box: Box, scale: NDArray[np.float64]) -> Box:
    x, y = np.floor(scale * box[:2]).astype(int).tolist()
    right, bottom = np.ceil(scale * (box.x + box.width, box.y + box.height)).astype(int).tolist()
    return Box(x, y, right - x, bottom - y)


def is_large(upload: bytes | memoryview, form: CanonicalForm) -> bool:
    """Whether reading this upload takes longer than a millisecond or so, judged by its size and header."""
    if len(upload) > SMALL_BYTES:
        return True
    try:
        if bytes(upload[:8]) == _PNG:  # most uploads, and worth not opening twice
            width, height = _png_size(upload)
        else:
            with _sniff(bytes(upload[:_HEAD]))(io.BytesIO(upload)) as image:
                width, height = image.size
    except Exception:  # noqa: BLE001  # as in _decode; what cannot be read is refused at once
        return False
    return bool(width * height > (SMALL_PIXELS if form == "digit" else SMALL_GARMENT_PIXELS))


def is_image(upload: bytes | memoryview) -> bool:
    """Whether the content begins like a format that is read here."""
    try:
        _sniff(bytes(upload[:_HEAD]))
    except UnsupportedFormat:
        return False
    return True


def _sniff(head: bytes) -> type[ImageFile.ImageFile]:
    """Find the decoder by the first bytes; names and declared types are never asked."""
    for signature, decoder in _SIGNATURES:
        if head.startswith(signature):
            return decoder
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if head[4:8] == b"ftyp":
        brands = _brands(head)
        if brands & _AVIF_BRANDS:
            return AvifImagePlugin.AvifImageFile
        if brands & _HEIC_BRANDS:
            raise UnsupportedFormat(
                f"HEIC is not read: send the picture as JPEG (on an iPhone: Settings, Camera, Formats, "
                f"Most Compatible). {READABLE}."
            )
    raise UnsupportedFormat(f"The content is no image that we read. {READABLE}.")


def _brands(head: bytes) -> set[bytes]:
    """Major and compatible brands of the `ftyp` box of an ISO base media file."""
    end = min(len(head), int.from_bytes(head[:4]))
    return {head[8:12]} | {head[i : i + 4] for i in range(16, end, 4)}


def _decode(
    upload: bytes | memoryview, max_pixels: int, *, exact: bool
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode the first frame, upright and reduced to the working size unless `exact`.

    Returns uint8 of shape (height, width) where the picture is grey, or (height, width, 3 or 4) with colour
    and, in the fourth channel, opacity; and the width and height of the whole picture, upright.
    """
    if not upload:
        raise EmptyUpload("The upload is empty: send the bytes of a picture.")
    if (grey := plain_grey(upload, min(SMALL_PIXELS, max_pixels))) is not None:
        height, width = grey.shape
        if exact:
            _check_canonical_size(width, height)
        return grey, (width, height)
    decoder = _sniff(bytes(upload[:_HEAD]))
    try:
        if decoder is PngImagePlugin.PngImageFile:  # Pillow opens none whose pixels are missing
            _check_size(*_png_size(upload), max_pixels)
        if decoder is JpegImagePlugin.JpegImageFile:
            _check_scans(bytes(upload).count(_SCAN))
        with decoder(io.BytesIO(upload)) as image:
            _check_size(*image.size, max_pixels)
            if exact:
                _check_canonical_size(*image.size)
                _check_canonical_depth(image)
            return _load(image)
    except ImageRejected:
        raise
    except Image.DecompressionBombError as exc:
        raise ImageTooLarge(f"The picture is larger than {max_pixels} pixels: send a smaller one.") from exc
    except Exception as exc:  # Pillow's plugins raise almost every built-in exception on corrupt bytes
        raise UndecodableImage(
            f"The {decoder.format} picture is corrupt or cut short: send it whole."
        ) from exc


def _png_size(upload: bytes | memoryview) -> tuple[int, int]:
    """Width and height as a PNG's first chunk claims them; raises struct.error where that is cut short."""
    width, height = struct.unpack_from(">II", upload, 16)
    return width, height


def _check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse by the size that the header claims, before a pixel is decoded."""
    if width < 1 or height < 1:
        raise UndecodableImage("The picture has no pixels.")
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"The picture has {width}x{height} pixels; at most {max_pixels} are read: send a smaller one."
        )


def _check_scans(count: int) -> None:
    if count > MOST_SCANS:
        raise UndecodableImage(f"The JPEG has {count} scans; at most {MOST_SCANS} are read: save it anew.")


def _check_canonical_size(width: int, height: int) -> None:
    if (width, height) != (SIDE, SIDE):
        raise NotCanonical(f"canonical=never needs 28x28 pixels, and the picture has {width}x{height}.")


def _check_canonical_depth(image: Image.Image) -> None:
    if _is_deep(image):
        raise NotCanonical("canonical=never needs pixels of 8 bits, and the picture has deeper ones.")


def _load(file: ImageFile.ImageFile) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    width, height = file.size
    shorter = min(file.size)
    if shorter >= 2 * WORKING_SIDE:
        # A JPEG is decoded at a half, a quarter or an eighth of its size at a fraction of the cost.
        file.draft(None, (WORKING_SIDE, WORKING_SIDE))
    file.load()
    orientation = _orientation(file)
    factor = max(min(file.size) // WORKING_SIDE, max(file.size) // LONGEST_SIDE)
    image = _plain_mode(file) if factor <= 1 else _reduced(file, factor)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    pixels = joined([np.asarray(plane) for plane in image.split()])
    return pixels, (height, width) if orientation in _QUARTER_TURNS else (width, height)


def _orientation(file: ImageFile.ImageFile) -> Any:
    """EXIF's orientation tag; a broken EXIF block is no reason to refuse a picture that decodes."""
    if not file.info:  # there is nothing beside the pixels, and asking for it takes as long as decoding 28x28
        return None
    try:
        return file.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001  # see _decode: corrupt bytes raise anything
        return None


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """Average blocks of pixels in a plain mode, some rows at a time, without a second copy."""
    width, height = image.size
    rows = factor * max(1, STRIP_PIXELS // (width * factor))
    strips = (image.crop((0, top, width, min(top + rows, height))) for top in range(0, height, rows))
    if _is_deep(image):
        smaller = [deep_grey.averaged(np.asarray(strip), factor) for strip in strips]
        return Image.fromarray(deep_grey.stretched(np.concatenate(smaller)))
    return Image.fromarray(
        np.concatenate([np.asarray(_plain_mode(strip).reduce(factor)) for strip in strips])
    )


def _plain_mode(image: Image.Image) -> Image.Image:
    """Convert any of Pillow's modes to 8 bits of grey (L), colour (RGB), or colour and opacity (RGBA)."""
    if image.mode == "L" and "transparency" not in image.info:  # a canonical image; the rest takes 7 us
        return image
    if _is_deep(image):
        return Image.fromarray(deep_grey.stretched(np.asarray(image)))
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "LAB":
        return image.getchannel("L")  # Pillow converts LAB only through a colour profile
    return image.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def _as_it_is(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 28x28 grey pixels untouched."""
    grey = grey_plane(picture)
    if grey is None:
        raise NotCanonical("canonical=never needs opaque grey pixels, and the picture has colour.")
    refuse_blank(grey)
    return grey
