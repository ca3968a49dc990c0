"""Pictures that are none of a model's ten classes, to judge its doubt by; nothing is ever fitted on them."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.architectures import SIDE
from training.data import SOURCES, load_test

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES: Final = 1_000
FONTS: Final = (  # matplotlib brings them
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSansMono",
    "STIXGeneral",
    "STIXGeneralItalic",
    "cmr10",
)
LETTERS: Final = string.ascii_uppercase + string.ascii_lowercase
CANVAS: Final = 200  # pixels that a letter is drawn on before it is made small
LONGER_SIDE: Final = {"digit": 20, "garment": SIDE}  # of what is on the picture, in canonical form


def draw_families(dataset: str, data: Path | None) -> dict[str, NDArray[np.uint8]]:
    """Return uint8 [n, 28, 28] by name: what a model of `dataset` should call out of distribution."""
    (other,) = SOURCES.keys() - {dataset}
    return {
        other: load_test(other, data).images[:IMAGES].numpy(),
        "uniform noise": np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE), dtype=np.uint8),
        "checkerboards": draw_checkerboards(),
        "letters": draw_letters(SOURCES[dataset].canonical_form),
    }


def draw_checkerboards() -> NDArray[np.uint8]:
    """Squares of 1 to 8 pixels, at four offsets, in three contrasts, both ways round: 192 images."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    boards = []
    for side in range(1, 9):
        for offset in range(4):
            squares = ((rows + offset * side // 4) // side + (columns + offset * side // 2) // side) % 2
            for dark, bright in ((0, 255), (60, 200), (0, 128)):
                boards += [np.where(squares, bright, dark), np.where(squares, dark, bright)]
    return np.stack(boards).astype(np.uint8)


def draw_letters(form: str) -> NDArray[np.uint8]:
    """A to Z and a to z in nine fonts, 468 images in the canonical form `digit` or `garment`.

    About one in four is a digit to anybody who sees it alone: I, l, O, o, S, s, Z, z, B, b, g, q, D.
    """
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    fonts: list[ImageFont.FreeTypeFont | ImageFont.ImageFont] = [ImageFont.load_default(120)]
    fonts += [ImageFont.truetype(folder / f"{name}.ttf", 120) for name in FONTS]
    return np.stack([_place(_draw(letter, font), form) for font in fonts for letter in LETTERS])


def _draw(letter: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    """Draw white on black, and crop to the ink."""
    canvas = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(canvas).text((CANVAS / 2, CANVAS / 2), letter, font=font, fill=255, anchor="mm")
    return canvas.crop(canvas.getbbox())


def _place(glyph: Image.Image, form: str) -> NDArray[np.uint8]:
    """Scale as the datasets do, and centre: a digit by its mass, a garment by its box."""
    scale = LONGER_SIDE[form] / max(glyph.size)
    width, height = (max(1, round(side * scale)) for side in glyph.size)
    ink = np.asarray(glyph.resize((width, height), Image.Resampling.BOX), dtype=float)
    ink *= 255 / ink.max()
    middle = ((height - 1) / 2, (width - 1) / 2)
    if form == "digit":
        middle = (ink.sum(1) @ np.arange(height) / ink.sum(), ink.sum(0) @ np.arange(width) / ink.sum())
    top, left = (
        min(max(round((SIDE - 1) / 2 - centre), 0), SIDE - side)
        for centre, side in zip(middle, ink.shape, strict=True)
    )
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[top : top + height, left : left + width] = np.rint(ink)
    return image
