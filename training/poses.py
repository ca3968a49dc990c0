"""Garments as photographs show them and catalogues do not: shoes in pairs, sleeves spread wide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

from training.resampling import resample

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from training.recipes import Recipe

# indices of Fashion-MNIST's labels
SHOES: Final = (5, 7, 9)  # sandal, sneaker, ankle boot
SLEEVED: Final = (2, 4, 6)  # pullover, coat, shirt

SHOULDER_WIDTH: Final = 0.42  # half of a body's width, in halves of the image's side
SHOULDER_HEIGHT: Final = -0.6  # above the middle, in the same unit


def pose(pixels: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Return `pixels` [batch, 28, 28] with some shoes in pairs and some sleeves spread, by the recipe's odds.

    `labels` [batch] are indices of Fashion-MNIST's labels.
    """
    if recipe.pairs:
        pixels = change_some(pixels, labels, SHOES, recipe.pairs, _paired)
    if recipe.sleeves:
        pixels = change_some(pixels, labels, SLEEVED, recipe.sleeves, _spread)
    return pixels


def change_some(
    pixels: Tensor, labels: Tensor, of: tuple[int, ...], odds: float, change: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return a copy in which this share of the images with the labels `of` is changed."""
    wanted = torch.isin(labels, torch.tensor(of, device=labels.device))
    places = (wanted & (torch.rand(len(labels), device=labels.device) < odds)).nonzero()[:, 0]
    if len(places) == 0:
        return pixels
    return pixels.index_copy(0, places, change(pixels.index_select(0, places)))


def _paired(pixels: Tensor) -> Tensor:
    """Put each shoe beside its mirror image, seen from above, or behind another like it."""
    return torch.where(_drawn(pixels, 1, 1) < 0.7, _from_above(pixels), _one_behind(pixels))


def _from_above(pixels: Tensor) -> Tensor:
    """Turn each shoe by a quarter, give most the outline and the opening of one seen from above, and pair it.

    Seen from above a shoe is about as wide on one side as on the other, round at both ends, and open at the
    heel; from the side, as catalogues show it, it is none of this.
    """
    toe = torch.where(_drawn(pixels, 1, 1) < 0.5, 1.0, -1.0)  # which way it points: down or up
    upright = torch.where(toe > 0, pixels.rot90(1, (1, 2)), pixels.rot90(-1, (1, 2)))
    shoe = _filling_width(upright)
    shoe = torch.where(_drawn(pixels, 1, 1) < 0.7, torch.maximum(shoe, shoe.flip(2)), shoe)
    shoe = shoe * (_sole(pixels, toe) | (_drawn(pixels, 1, 1) > 0.6))
    shoe = torch.where(_drawn(pixels, 1, 1) < 0.6, _opened(shoe, toe), shoe)
    return _side_by_side(shoe)


def _filling_width(pixels: Tensor) -> Tensor:
    """Stretch each image until its shoe is as wide as it."""
    middle, width = _extent(pixels)
    return resample(pixels, _map_of(pixels, across=(width / 2, 0.0, middle)))


def _sole(pixels: Tensor, toe: Tensor) -> Tensor:
    """Draw which pixels [n, 28, 28] a sole covers: a superellipse, narrower at the heel."""
    across, down = _places(pixels)
    wide = 0.92 + 0.3 * down * toe * _drawn(pixels, 1, 1) - 0.15 * _drawn(pixels, 1, 1)
    roundness = 2.5 + 2 * _drawn(pixels, 1, 1)
    return (across / wide).abs() ** 2.5 + down.abs() ** roundness < 1


def _opened(shoe: Tensor, toe: Tensor) -> Tensor:
    """Darken or paint over an ellipse near the heel, where one sees into a shoe."""
    across, down = _places(shoe)
    from_heel = down + toe * (0.3 + 0.25 * _drawn(shoe, 1, 1))
    width, length = 0.4 + 0.35 * _drawn(shoe, 1, 1), 0.2 + 0.35 * _drawn(shoe, 1, 1)
    inside = (across / width) ** 2 + (from_heel / length) ** 2 < 1
    tone = _drawn(shoe, 1, 1)
    painted = torch.where(_drawn(shoe, 1, 1) < 0.5, shoe * tone, tone)
    return torch.where(inside & (shoe > 0.1), painted, shoe)


def _side_by_side(shoe: Tensor) -> Tensor:
    """Set each shoe, which fills the width, beside its mirror image, and turn half of the pairs a little."""
    half_width = 0.28 + 0.22 * _drawn(shoe)  # with half of the image's side both fill it
    apart = half_width * (0.95 + 0.4 * _drawn(shoe) ** 2)
    slant = 0.4 * (_drawn(shoe) - 0.5)
    one = resample(shoe, _map_of(shoe, across=(1 / half_width, slant, -apart / half_width)))
    ahead = 0.25 * (_drawn(shoe) - 0.5) * (_drawn(shoe) < 0.5)
    other = resample(one, _map_of(shoe, down=(0.0, 1.0, ahead))).flip(2)
    angle = math.radians(50) * (_drawn(shoe) - 0.5) * (_drawn(shoe) < 0.5)
    size = 0.95 + 0.2 * _drawn(shoe)
    cosine, sine = angle.cos() * size, angle.sin() * size
    return resample(
        torch.maximum(one, other), _map_of(shoe, across=(cosine, -sine, 0.0), down=(sine, cosine, 0.0))
    )


def _map_of(
    pixels: Tensor,
    across: tuple[Tensor | float, Tensor | float, Tensor | float] = (1.0, 0.0, 0.0),
    down: tuple[Tensor | float, Tensor | float, Tensor | float] = (0.0, 1.0, 0.0),
) -> Tensor:
    """Return affine maps [n, 2, 3] of these rows, each of a number for all images or of one [n] for each."""
    nothing = torch.zeros(len(pixels), device=pixels.device)
    return torch.stack([nothing + entry for entry in (*across, *down)], 1).view(-1, 2, 3)


def _places(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return where columns [1, 1, 28] and rows [1, 28, 1] are, in halves of the side from the middle."""
    side = pixels.shape[2]
    along = torch.linspace(-1 + 1 / side, 1 - 1 / side, side, device=pixels.device)
    return along[None, None, :], along[None, :, None]


def _extent(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middle and the width [n] of the columns that hold a shoe, in halves of the side."""
    side = pixels.shape[2]
    filled = (pixels > 0.1).any(1).float()  # [n, side]
    first, last = filled.argmax(1), side - filled.flip(1).argmax(1)
    return (first + last) / side - 1, (last - first) * 2 / side


def _one_behind(pixels: Tensor) -> Tensor:
    """Draw each shoe smaller twice, the one behind shifted up and aside and a little darker."""
    size = 0.75 + 0.15 * _drawn(pixels)
    aside = 0.25 * (_drawn(pixels) - 0.5)
    up = 0.12 + 0.25 * _drawn(pixels)

    def shoe(sign: float) -> Tensor:
        across, down = (1 / size, 0.0, sign * aside / size), (0.0, 1 / size, sign * up / size)
        return resample(pixels, _map_of(pixels, across, down))

    front, behind = shoe(-1.0), shoe(1.0)
    return torch.where(front > 0.1, front, 0.85 * behind)


def _spread(pixels: Tensor) -> Tensor:
    """Turn both sleeves outwards about the shoulders, after making room for them at the sides."""
    across, _ = _places(pixels)
    body = pixels * (across.abs() <= SHOULDER_WIDTH)
    sleeve = pixels * (across > SHOULDER_WIDTH)  # the right one; the left one is its mirror's
    other = pixels.flip(2) * (across > SHOULDER_WIDTH)
    size = 0.6 + 0.2 * _drawn(pixels)
    angle = math.radians(20) + math.radians(60) * _drawn(pixels)
    turned = _turned_about_shoulder(angle, size)
    left = resample(other, turned).flip(2)
    sleeves = torch.maximum(resample(sleeve, turned), left)
    smaller = _map_of(pixels, across=(1 / size, 0.0, 0.0), down=(0.0, 1 / size, 0.0))
    return torch.maximum(resample(body, smaller), sleeves)


def _turned_about_shoulder(angle: Tensor, size: Tensor) -> Tensor:
    """Return [n, 2, 3], from places in the new image to those in the old: a sleeve that hung is raised."""
    cosine, sine = angle.cos() / size, angle.sin() / size
    x, y = SHOULDER_WIDTH, SHOULDER_HEIGHT
    # old = R (new / size - shoulder) + shoulder, with R the turn that takes a raised sleeve back down
    rows = (cosine, -sine, x - x * angle.cos() + y * angle.sin())
    columns = (sine, cosine, y - x * angle.sin() - y * angle.cos())
    return torch.stack((*rows, *columns), 1).view(-1, 2, 3)


def _drawn(pixels: Tensor, *shape: int) -> Tensor:
    """Draw numbers between 0 and 1, as many as there are images."""
    return torch.rand(len(pixels), *shape, device=pixels.device)
