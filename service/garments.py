"""A picture of a garment becomes Fashion-MNIST-like pixels: drop the ground, trim, negate, scale, centre."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from service.errors import EmptyImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Colours = NDArray[np.float32]  # (height, width, 3), from 0 to 1
    Map = NDArray[np.float32]  # (height, width), from 0 to 1
    Mask = NDArray[np.bool_]  # (height, width)

SIDE = 28
WORKING_SIDE = 256  # at least so many pixels of the longer side are worked on
CUT_SIDE = 96  # and so many where a photograph's ground has to be told from the garment
CUT_ROUNDS = 4
GROUND_RIM = 0.05  # of each side that is surely ground in a photograph
TOLERANCE = 0.05  # of full scale, in any colour, within which a pixel may be plain ground
PLAIN = 0.8  # of the picture's edge has the ground's colour within twice that, or the ground is not plain
SCRAP = 0.02  # of the largest piece's area: what is smaller is no part of the garment
GARMENT_SHARE = (0.05, 0.9)  # of a photograph: a cut of another size has failed
OPAQUE = 0.5
COLOUR = 3  # channels, and dimensions of an array that has them
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def draw_garment(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw the garment on a picture as Fashion-MNIST would: uint8 (28, 28), bright on a ground of 0.

    Transparent and plain grounds are known by their opacity or colour, the ground of a photograph by GrabCut.
    """
    colours, opacity = channels(picture)
    cloth = cloth_mask(colours) if opacity is None else opacity >= OPAQUE
    cloth = pieces(cloth)
    rows, columns = np.flatnonzero(cloth.any(axis=1)), np.flatnonzero(cloth.any(axis=0))
    if not rows.size:
        raise EmptyImage("The picture is blank: there is no garment on it.")
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return place(bright(colours @ LUMINANCE, cloth)[box])


def channels(picture: NDArray[np.uint8]) -> tuple[Colours, Map | None]:
    """Split a picture into its colours, over white where transparent, and its opacity if it has any."""
    picture = shrink(picture, WORKING_SIDE)
    if picture.ndim < COLOUR:
        picture = np.repeat(picture[:, :, np.newaxis], COLOUR, axis=2)
    scaled = picture.astype(np.float32) / np.float32(255)
    if picture.shape[2] == COLOUR:
        return scaled, None
    opacity = scaled[:, :, COLOUR]
    return scaled[:, :, :COLOUR] * opacity[:, :, np.newaxis] + (1 - opacity[:, :, np.newaxis]), opacity


def shrink(picture: NDArray[np.uint8], longer_side: int) -> NDArray[np.uint8]:
    """Reduce by a whole factor as long as the longer side keeps so many pixels."""
    factor = max(picture.shape[:2]) // longer_side
    if factor <= 1:
        return picture
    size = tuple(max(1, side // factor) for side in picture.shape[1::-1])
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def cloth_mask(colours: Colours) -> Mask:
    """Find the garment on an opaque picture."""
    edge = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    ground = np.median(edge, axis=0)
    differs = np.abs(colours - ground).max(axis=2) > TOLERANCE
    is_plain = float((np.abs(edge - ground).max(axis=1) < 2 * TOLERANCE).mean()) > PLAIN
    if is_plain or min(colours.shape[:2]) < SIDE:
        return np.asarray(differs)
    cut = grab_cut(colours)
    return cut if GARMENT_SHARE[0] < float(cut.mean()) < GARMENT_SHARE[1] else np.asarray(differs)


def grab_cut(colours: Colours) -> Mask:
    """Tell a garment from a floor, bed or carpet by colours learnt from the picture's rim and its inside.

    C. Rother, V. Kolmogorov and A. Blake: GrabCut, ACM Transactions on Graphics 23 (2004), 309.
    """
    small = shrink(np.rint(colours * 255).astype(np.uint8), CUT_SIDE)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    mask = np.full(small.shape[:2], cv2.GC_PR_FGD, np.uint8)
    rim = [max(1, round(size * GROUND_RIM / 2)) for size in small.shape[:2]]
    mask[: rim[0]] = mask[-rim[0] :] = mask[:, : rim[1]] = mask[:, -rim[1] :] = cv2.GC_BGD
    cv2.setRNGSeed(0)  # k-means starts the colour models: the same picture gets the same answer
    unused = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(lab, mask, (0, 0, 0, 0), *unused, CUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    cloth = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return np.asarray(cv2.resize(cloth, colours.shape[1::-1], interpolation=cv2.INTER_LINEAR) >= OPAQUE)


def pieces(mask: Mask) -> Mask:
    """Keep of a mask the large connected pieces."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = boxes[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return np.asarray((areas > SCRAP * areas.max())[labels])


def bright(light: Map, cloth: Mask) -> Map:
    """Make the cloth bright on a ground of 0: the negative, unless the ground is darker than the cloth."""
    ground = float(np.median(light[~cloth])) if not cloth.all() else 1.0
    values = light if float(np.median(light[cloth])) > ground else 1 - light
    return np.asarray(values * cloth, np.float32)


def place(values: Map) -> NDArray[np.uint8]:
    """Scale the longer side to 28 pixels and centre the shorter one; the brightest cloth becomes 255."""
    scale = SIDE / max(values.shape)
    height, width = (max(1, round(side * scale)) for side in values.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.clip(cv2.resize(values, (width, height), interpolation=how), 0, 1)
    brightest = float(small.max())
    if brightest == 0:
        raise EmptyImage("The garment has the colour of its ground: there is nothing to see.")
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    canvas[top : top + height, left : left + width] = np.rint(small * (255 / brightest))
    return canvas
