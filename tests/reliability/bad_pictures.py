"""Bad pictures: real ones of every format, mutated; and bombs, each small to send and large to open."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def seeds() -> dict[str, bytes]:
    """Real files of every format that is read, in the variants that take other ways through the decoders."""
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (40, 56), dtype=np.uint8))
    colour = Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8))
    clear = Image.fromarray(rng.integers(0, 256, (40, 56, 4), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (40, 56), dtype=np.uint16))
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b" * 200, zip=True)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    frames: dict[str, Any] = {"save_all": True, "append_images": [colour, colour]}

    def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
        out = io.BytesIO()
        image.save(out, kind, **options)
        return out.getvalue()

    return {
        "png": saved(grey, "PNG", pnginfo=text, exif=exif, icc_profile=b"i" * 300),
        "png-palette": saved(colour.quantize(16), "PNG", transparency=3),
        "png-16": saved(deep, "PNG"),
        "png-alpha": saved(clear, "PNG"),
        "jpeg": saved(colour, "JPEG", exif=exif),
        "jpeg-progressive": saved(colour, "JPEG", progressive=True),
        "jpeg-cmyk": saved(colour.convert("CMYK"), "JPEG"),
        "webp": saved(clear, "WEBP", exif=exif),
        "webp-lossless": saved(colour, "WEBP", lossless=True),
        "webp-frames": saved(colour, "WEBP", **frames),
        "gif": saved(colour.quantize(64), "GIF", **frames),
        "bmp": saved(colour, "BMP"),
        "bmp-palette": saved(colour.quantize(16), "BMP"),
        "tiff-lzw": saved(colour, "TIFF", compression="tiff_lzw", exif=exif),
        "tiff-deflate": saved(deep, "TIFF", compression="tiff_deflate"),
        "tiff-jpeg": saved(colour, "TIFF", compression="jpeg"),
        "tiff-pages": saved(grey, "TIFF", **frames),
        "avif": saved(colour, "AVIF"),
    }


def mutants(seed: int) -> Iterator[bytes]:
    """Real pictures, each broken in one to eight places, for ever; the same for the same seed."""
    rng = random.Random(seed)
    pictures = list(seeds().values())
    while True:
        content = bytearray(rng.choice(pictures))
        for _ in range(rng.choice([1, 1, 2, 4, 8])):
            rng.choice(MUTATIONS)(content, rng, pictures)
        yield bytes(content)


def _flip_bit(content: bytearray, rng: random.Random, _: list[bytes]) -> None:
    if content:
        content[_early(content, rng)] ^= 1 << rng.randrange(8)


def _overwrite_number(content: bytearray, rng: random.Random, _: list[bytes]) -> None:
    kind = rng.choice(["<H", ">H", "<I", ">I"])
    number = struct.pack(kind, rng.choice(INTERESTING) & (0xFFFF if kind[1] == "H" else 0xFFFFFFFF))
    at = _early(content, rng)
    content[at : at + len(number)] = number


def _cut(content: bytearray, rng: random.Random, _: list[bytes]) -> None:
    del content[_early(content, rng) :]


def _remove(content: bytearray, rng: random.Random, _: list[bytes]) -> None:
    at = _early(content, rng)
    del content[at : at + rng.randrange(1, 64)]


def _repeat(content: bytearray, rng: random.Random, _: list[bytes]) -> None:
    at = _early(content, rng)
    content[at:at] = content[at : at + rng.randrange(1, 64)] * rng.choice([1, 2, 100])


def _noise(content: bytearray, rng: random.Random, _: list[bytes]) -> None:
    at = _early(content, rng)
    content[at : at + 16] = rng.randbytes(rng.randrange(1, 32))


def _splice(content: bytearray, rng: random.Random, pictures: list[bytes]) -> None:
    other = rng.choice(pictures)
    content[_early(content, rng) :] = other[_early(other, rng) :]


def _early(content: bytes | bytearray, rng: random.Random) -> int:
    """A place, more often near the beginning, where formats keep their numbers."""
    return min(int(rng.random() ** 3 * (len(content) + 1)), max(0, len(content) - 1))


MUTATIONS: list[Callable[[bytearray, random.Random, list[bytes]], None]] = [
    _flip_bit,
    _flip_bit,
    _overwrite_number,
    _overwrite_number,
    _cut,
    _remove,
    _repeat,
    _noise,
    _splice,
]


# Bombs


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *between: bytes, pixels: bytes | None = None) -> bytes:
    """A grey PNG with chunks before its pixels, which are black unless given, compressed."""
    packed = pixels if pixels is not None else zlib.compress(bytes((width + 1) * height), 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    zeros = zlib.compress(bytes(100 * 2**20), 9)
    good = seeds()
    loop = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + struct.pack("<HHII", 256, 3, 1, 28)
    jpeg = good["jpeg-progressive"]
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return {
        "pixels claimed": png(50_000, 50_000, pixels=zlib.compress(b"")),
        "pixels there": png(7_000, 7_000),
        "more pixels than claimed": png(28, 28, pixels=zeros),
        "text": png(28, 28, chunk(b"zTXt", b"a\0\0" + zeros)),
        "texts": png(28, 28, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20)))] * 200),
        "international text": png(28, 28, chunk(b"iTXt", b"a\0\x01\0\0\0" + zeros)),
        "colour profile": png(28, 28, chunk(b"iCCP", b"a\0\0" + zeros)),
        "animation": png(28, 28, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        "exif": png(28, 28, chunk(b"eXIf", loop + struct.pack("<I", 8))),
        "large exif": good["jpeg"][:2]
        + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)) * 400
        + good["jpeg"][2:],
        "large profile": good["jpeg"][:2]
        + (b"\xff\xe2\xff\xffICC_PROFILE\0\x01\xff" + bytes(65_519)) * 255
        + good["jpeg"][2:],
        "scans": jpeg[:-2] + scan * 50_000 + jpeg[-2:],
        "GIF frames": good["gif"][:-1] + good["gif"][800:-1] * 2_000 + b";",
        "GIF screen": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + good["gif"][10:],
        "TIFF directory that names itself": loop + struct.pack("<I", 8),
        "TIFF directories": b"II*\0"
        + struct.pack("<I", 8)
        + b"".join(struct.pack("<HHHIII", 1, 256, 3, 1, 28, 8 + 18 * n) for n in range(1, 200_000)),
        "TIFF entries": b"II*\0"
        + struct.pack("<IH", 8, 65_535)
        + struct.pack("<HHII", 270, 2, 9, 9) * 65_535,
        "TIFF strips": b"II*\0"
        + struct.pack("<IH", 8, 2)
        + struct.pack("<HHII", 273, 4, 2**30, 8) * 2
        + bytes(4),
        "BMP of negative height": b"BM"
        + struct.pack("<IHHIIiiHH", 54, 0, 0, 54, 40, 28, -(2**31), 1, 24)
        + bytes(24),
        "WebP canvas": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0"
        + b"\xff" * 6
        + b"ANIM\x06\0\0\0"
        + bytes(6),
        "nothing but a signature": b"\x89PNG\r\n\x1a\n",
    }


def polyglots() -> dict[str, bytes]:
    """Files that are a picture and something else, or nothing that they seem."""
    good = seeds()
    return {
        "PNG and ZIP": good["png"] + b"PK\x05\x06" + bytes(18),
        "GIF and script": good["gif"].replace(b"GIF89a", b"GIF89a/*", 1) + b"*/=1;alert(1)",
        "JPEG and HTML": good["jpeg"][:2]
        + b"\xff\xfe\x00\x1f<script>alert(document.URL)</script"[:33]
        + good["jpeg"][2:],
        "PDF and PNG": b"%PDF-1.7\n" + good["png"],
        "PNG in TIFF": b"II*\0" + good["png"],
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n",
        "ZIP": b"PK\x03\x04" + bytes(40),
        "ELF": b"\x7fELF" + bytes(60),
        "pickle": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os\x94",
        "NumPy": b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
    }
