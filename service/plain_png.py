"""The plainest PNG, eight bits of grey and nothing beside: what datasets are saved as, and programs send.

OpenCV decodes it in a quarter of Pillow's time, but prints what it thinks of a corrupt file. So it is given
none: whatever is not whole, or not as plain, is left to Pillow.
"""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

# Signature and header, one chunk of pixels, the end: PNG (third edition), sections 5 and 11.
_BEGIN = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PLAIN = b"\x08\0\0\0\0"  # 8 bits a pixel, grey, the one compression, the one set of filters, not interlaced
_END = b"\0\0\0\0IEND\xaeB`\x82"
_HEADER, _PIXELS, _FRAME = 16, 41, 57  # where they begin, and all the bytes around the pixels
_LAST_FILTER = 4


def plain_grey(upload: bytes | memoryview, most_pixels: int) -> NDArray[np.uint8] | None:
    """The pixels (height, width) of a whole, plain PNG of at most so many; None for any other upload."""
    if len(upload) < _FRAME or upload[:_HEADER] != _BEGIN or upload[24:29] != _PLAIN or upload[-12:] != _END:
        return None
    width, height, _, _, length, kind = struct.unpack_from(">II5sII4s", upload, _HEADER)
    if kind != b"IDAT" or length + _FRAME != len(upload) or not 0 < width * height <= most_pixels:
        return None
    is_sound = _checksum(upload, 29) == zlib.crc32(upload[12:29]) and (
        _checksum(upload, _PIXELS + length) == zlib.crc32(upload[37 : _PIXELS + length])
    )
    if not is_sound or not _has_rows(upload[_PIXELS : _PIXELS + length], width, height):
        return None
    return np.asarray(cv2.imdecode(np.frombuffer(upload, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)


def _checksum(upload: bytes | memoryview, place: int) -> int:
    (checksum,) = struct.unpack_from(">I", upload, place)
    return int(checksum)


def _has_rows(compressed: bytes | memoryview, width: int, height: int) -> bool:
    """Whether it inflates to exactly these rows, each a filter and then its pixels.

    libpng, unlike zlib, refuses distances beyond the window that the first byte claims (RFC 1950, section
    2.2), so all rows have to lie within it.
    """
    size = height * (1 + width)
    inflating = zlib.decompressobj()
    try:
        rows = inflating.decompress(compressed, size + 1)
    except zlib.error:
        return False
    whole = len(rows) == size and inflating.eof and not inflating.unused_data
    return whole and size <= 256 << (compressed[0] >> 4) and max(rows[:: 1 + width]) <= _LAST_FILTER
