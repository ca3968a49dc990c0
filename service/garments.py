"""A picture of a garment becomes Fashion-MNIST-like pixels: drop the ground, trim, negate, scale, centre."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

from service.errors import EmptyImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Colours = NDArray[np.float32]  # (height, width, 3), from 0 to 1
    Map = NDArray[np.float32]  # (height, width), from 0 to 1
    Mask = NDArray[np.bool_]  # (height, width)

Kind = TypeVar("Kind", bound=np.generic)

SIDE = 28
WORKING_SIDE = 128  # at least so many pixels of the longer side are worked on
CUT_SIDE = 96  # and so many where a photograph's ground has to be told from the garment
CUT_ROUNDS = 4
GROUND_RIM = 0.05  # of each side that is surely ground in a photograph
RIM_COLOURS = 4  # that a photograph's ground has
RIM_NEAR = (
    12  # units of CIELAB in 8 bits: at the rim so near to its colours is probably ground, inside less so
)
SHADING = 0.75  # what a difference in lightness counts of one in colour: light changes the former more
JOINT = 5  # pixels of the working picture: what is no wider belongs to the floor, as the joints of tiles do
TOLERANCE = 0.05  # of full scale, in any colour, within which a pixel is plain ground
PLAIN = 0.9  # of the picture's edge has the ground's colour, or the ground is not plain
GRAIN = 1.0  # pixels: deviation of the Gaussian that takes away the grain of the edge
FIT_ROUNDS = 3
SCRAP = 0.05  # of the largest piece's area: what is smaller is no part of the garment
DARK = 0.1  # ground that is darker than this shows garments as the data set does, bright on black
MOST_CONTRAST = 5  # times the picture's: white cloth without a shade is drawn as its shape, not its grain
GARMENT_SHARE = (0.05, 0.9)  # of a photograph: a cut of another size has failed
OPAQUE = 0.5
CUT_OUT = 0.97  # of a picture is opaque at most where its garment was cut out; screenshots have round corners
COLOUR = 3  # channels, and dimensions of an array that has them
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def draw_garment(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw the garment on a picture as Fashion-MNIST would: uint8 (28, 28), bright on a ground of 0.

    Transparent and plain grounds are known by their opacity or colour, the ground of a photograph by GrabCut.
    A picture that is nearly all opaque, as a screenshot with round corners is, was not cut out.
    """
    colours, opacity = channels(picture)
    opaque = np.ones(colours.shape[:2], bool) if opacity is None else opacity >= OPAQUE
    is_cut_out = float(opaque.mean()) <= CUT_OUT
    cloth = pieces(opaque if is_cut_out else opaque & cloth_mask(colours))
    rows, columns = np.flatnonzero(cloth.any(axis=1)), np.flatnonzero(cloth.any(axis=0))
    if not rows.size:
        raise EmptyImage("The picture is blank: there is no garment on it.")
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    values, cloth = bright(colours @ LUMINANCE, cloth)[box], cloth[box]
    return place(full_contrast(even_rim(values, cloth), cloth))


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
    """Find the garment on an opaque picture: what differs from a plain ground, else by GrabCut."""
    ground = plain_ground(colours)
    if ground is None and min(colours.shape[:2]) >= SIDE:
        cut = grab_cut(colours)
        if GARMENT_SHARE[0] < float(cut.mean()) < GARMENT_SHARE[1]:
            return cut
    if ground is None:
        ground = np.median(edge_of(colours), axis=0)
    red, green, blue = cv2.split(cv2.absdiff(colours, np.broadcast_to(ground, colours.shape)))
    return without_lines_to_the_edge(np.asarray(cv2.max(cv2.max(red, green), blue) > TOLERANCE))


def plain_ground(colours: Colours) -> Colours | None:
    """The ground as a colour that changes evenly with the light, or None where it is not plain."""
    height, width = colours.shape[:2]
    plane = np.ones_like(colours)  # and, from -1 to 1, how far down and how far right
    plane[:, :, 1], plane[:, :, 2] = np.linspace(-1, 1, height)[:, np.newaxis], np.linspace(-1, 1, width)
    smooth = np.asarray(cv2.GaussianBlur(colours, (0, 0), GRAIN), np.float32)
    edge, places = edge_of(smooth), edge_of(plane)
    off = np.abs(edge - np.median(edge, axis=0)).max(axis=1)
    for _ in range(FIT_ROUNDS):  # the garment may reach the edge, so the fit forgets what lies far off it
        near = off <= 2 * np.median(off) + TOLERANCE
        slopes = np.linalg.lstsq(places[near], edge[near], rcond=None)[0]
        off = np.abs(edge - places @ slopes).max(axis=1)
    if float((off < TOLERANCE).mean()) < PLAIN:
        return None
    ground = np.asarray(plane @ slopes, np.float32)
    return np.clip(ground, 0, 1, out=ground)


def edge_of(picture: NDArray[Kind]) -> NDArray[Kind]:
    return np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])


def grab_cut(colours: Colours) -> Mask:
    """Tell a garment from a floor, bed or carpet by colours learnt from the picture's rim and its inside.

    C. Rother, V. Kolmogorov and A. Blake: GrabCut, ACM Transactions on Graphics 23 (2004), 309.
    """
    small = shrink(np.rint(colours * 255).astype(np.uint8), CUT_SIDE)
    lab = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), np.uint8)
    lab[:, :, 0] = np.rint(lab[:, :, 0] * SHADING)
    mask = np.full(small.shape[:2], cv2.GC_PR_FGD, np.uint8)
    rim = [max(1, round(size * GROUND_RIM / 2)) for size in small.shape[:2]]
    mask[: rim[0]] = mask[-rim[0] :] = mask[:, : rim[1]] = mask[:, -rim[1] :] = cv2.GC_BGD
    ground = mask == cv2.GC_BGD
    like_ground = ~ground & (_away_from_rim(lab, ground) < RIM_NEAR)
    if (like_ground | ground).all():  # GrabCut needs some of both to learn from
        return np.zeros(colours.shape[:2], bool)
    mask[like_ground] = cv2.GC_PR_BGD
    cv2.setRNGSeed(0)  # k-means starts the colour models: the same picture gets the same answer
    unused = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(lab, mask, (0, 0, 0, 0), *unused, CUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    cloth = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    cut = np.asarray(cv2.resize(cloth, colours.shape[1::-1], interpolation=cv2.INTER_LINEAR) >= OPAQUE)
    return without_joints(cut)


def without_joints(cut: Mask) -> Mask:
    """Take from a cut whatever is too narrow for a round brush of JOINT pixels."""
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (JOINT, JOINT))
    return np.asarray(cv2.morphologyEx(cut.view(np.uint8), cv2.MORPH_OPEN, brush) > 0)


def without_lines_to_the_edge(differs: Mask) -> Mask:
    """Take away what is narrow where some of it reaches the picture's edge: a floor's joints, no straps."""
    at_edge = edge_of(differs)
    if not at_edge.any():
        return differs
    broad = without_joints(differs)
    return broad if (at_edge & ~edge_of(broad)).any() and broad.any() else differs


def _away_from_rim(lab: NDArray[np.uint8], rim: Mask) -> Map:
    """How unlike the rim's colours each pixel is; more so towards the middle, where ground is rarer."""
    colours = lab[rim].astype(np.float32)
    unused = np.zeros((len(colours), 1), np.int32)
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_MAX_ITER, 10, 0)
    _, _, centres = cv2.kmeans(colours, RIM_COLOURS, unused, stop, 1, cv2.KMEANS_PP_CENTERS)
    away = np.linalg.norm(lab[:, :, np.newaxis] - centres, axis=3).min(axis=2)
    down, right = np.meshgrid(*(np.linspace(-1, 1, side) for side in rim.shape), indexing="ij")
    outward = np.maximum(np.maximum(np.abs(down), np.abs(right)), 1e-6)
    return np.asarray(away / outward, np.float32)


def pieces(mask: Mask) -> Mask:
    """Keep of a mask the large connected pieces."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStatsWithAlgorithm(
        mask.view(np.uint8), 8, cv2.CV_16U, cv2.CCL_DEFAULT
    )
    areas = boxes[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return np.asarray((areas > SCRAP * areas.max())[labels])


def bright(light: Map, cloth: Mask) -> Map:
    """Put the cloth on a ground of 0 as the data set has it: negative, unless its ground is black."""
    ground = float(np.median(light[~cloth])) if not cloth.all() else 1.0
    values = light if ground < min(DARK, float(np.median(light[cloth]))) else 1 - light
    return np.asarray(values * cloth, np.float32)


def even_rim(values: Map, cloth: Mask) -> Map:
    """Make the rim no brighter than the cloth beside it, as ground shines through there.

    The rim is a pixel wide of the 28 that the longer side becomes.
    """
    width = max(cloth.shape) // SIDE
    rim, beyond = (np.ones((2 * reach + 1, 2 * reach + 1), np.uint8) for reach in (width, width + 1))
    inner = cv2.erode(cloth.view(np.uint8), rim, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    beside = cv2.dilate(np.where(inner, values, np.float32(-1)), beyond)
    return np.asarray(np.where(beside < 0, values, np.minimum(values, beside)), np.float32)


def full_contrast(values: Map, cloth: Mask) -> Map:
    """Make the brightest cloth 1: by a factor or, where all is nearly black, by more light everywhere."""
    brightest = float(values.max())
    contrast = min(MOST_CONTRAST, 1 / max(brightest, 1 / 255))
    return np.asarray((1 - contrast * (brightest - values)) * cloth, np.float32)


def place(values: Map) -> NDArray[np.uint8]:
    """Scale the longer side to 28 pixels and centre the shorter one; the brightest cloth becomes 255."""
    scale = SIDE / max(values.shape)
    height, width = (max(1, round(side * scale)) for side in values.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.clip(cv2.resize(values, (width, height), interpolation=how), 0, 1)
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    canvas[top : top + height, left : left + width] = np.rint(small * (255 / small.max()))
    return canvas
