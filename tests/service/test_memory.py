"""Reading one upload takes no more memory than README says, whatever its format and mode."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from real_server import ROOT

SIDES = (2400, 1600)
BESIDE_BYTES = 24 * 2**20  # allocators keep some
READ_AND_TELL_PEAK = """
import io, sys
from pathlib import Path
from PIL import Image
from service.images import read_digits, read_image

small = io.BytesIO()
paper = Image.new("L", (300, 300), 255)
paper.paste(0, (100, 50, 150, 250))
paper.save(small, "PNG")
read_image(small.getvalue(), "garment", "auto", 10**9)  # what is loaded once is not counted
upload = Path(sys.argv[1]).read_bytes()
Path("/proc/self/clear_refs").write_text("5")  # the peak is from here on

def peak_kib():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before = peak_kib()
for form in ("digit", "garment"):
    read_image(upload, form, "auto", 10**9)
read_digits(upload, 10**9)
print(1024 * (peak_kib() - before))
"""


def grey() -> Image.Image:
    levels = np.full(SIDES[::-1], 230, np.uint8)
    levels[400:1200, 900:1300] = 20
    return Image.fromarray(levels)


def transparent() -> Image.Image:
    return Image.merge("RGBA", [grey(), grey(), grey(), grey().point(lambda level: 255 - level)])


PROGRESSIVE = {"progressive": True, "subsampling": 0}
KINDS: dict[str, tuple[Callable[[], Image.Image], str, dict[str, Any]]] = {
    "PNG, grey and opacity": (lambda: Image.merge("LA", [grey(), grey()]), "PNG", {}),
    "PNG, colour and opacity": (transparent, "PNG", {"compress_level": 1}),
    "PNG, palette with transparency": (lambda: grey().convert("P"), "PNG", {"transparency": 3}),
    "PNG, 16 bits": (lambda: Image.fromarray(np.asarray(grey()).astype(np.uint16) * 200), "PNG", {}),
    "JPEG, progressive": (lambda: grey().convert("RGB"), "JPEG", PROGRESSIVE),
    "JPEG, progressive CMYK": (lambda: grey().convert("CMYK"), "JPEG", PROGRESSIVE),
    "WebP": (transparent, "WEBP", {"method": 0}),
    "WebP, lossless": (transparent, "WEBP", {"lossless": True, "method": 0}),
    "AVIF": (transparent, "AVIF", {"speed": 10}),
    "GIF": (grey, "GIF", {}),
    "BMP": (lambda: grey().convert("RGB"), "BMP", {}),
    "TIFF, floats": (lambda: grey().convert("F"), "TIFF", {}),
    "TIFF, 32 bits": (lambda: grey().convert("I"), "TIFF", {}),
    "TIFF, CMYK": (lambda: grey().convert("CMYK"), "TIFF", {}),
}


def documented_bytes_a_pixel() -> int:
    found = re.search(r"at most (\d+) bytes of memory a pixel", (ROOT / "README.md").read_text())
    assert found
    return int(found[1])


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is asked of /proc")
@pytest.mark.parametrize("kind", KINDS)
def test_reading_an_upload_takes_no_more_memory_than_documented(kind: str, tmp_path: Path) -> None:
    make, how, options = KINDS[kind]
    file = tmp_path / "upload"
    make().save(file, how, **options)
    told = subprocess.run(
        [sys.executable, "-c", READ_AND_TELL_PEAK, file], cwd=ROOT, check=True, capture_output=True, text=True
    )
    taken = int(told.stdout) - BESIDE_BYTES
    assert taken <= documented_bytes_a_pixel() * SIDES[0] * SIDES[1]
