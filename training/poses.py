"""Garments as photographs show them and catalogues do not: shoes in pairs, sleeves spread wide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

from training.randomness import choose, hills
from training.resampling import resample

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from training.recipes import Recipe

# indices of Fashion-MNIST's labels
SANDAL, SNEAKER, BOOT = 5, 7, 9
SHOES: Final = (SANDAL, SNEAKER, BOOT)
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
    pixels: Tensor,
    labels: Tensor,
    of: tuple[int, ...],
    odds: float,
    change: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return a copy in which this share of the images with the labels `of` is changed; `change` sees both."""
    wanted = torch.isin(labels, torch.tensor(of, device=labels.device))
    places = (wanted & (torch.rand(len(labels), device=labels.device) < odds)).nonzero()[:, 0]
    if len(places) == 0:
        return pixels
    return pixels.index_copy(
        0, places, change(pixels.index_select(0, places), labels.index_select(0, places))
    )


def _paired(pixels: Tensor, labels: Tensor) -> Tensor:
    """Put each shoe beside its mirror image, seen from above, or behind another like it."""
    return torch.where(choose(pixels, 0.7), _from_above(pixels, labels), _one_behind(pixels))


def _from_above(pixels: Tensor, labels: Tensor) -> Tensor:
    """Draw each shoe anew as one looks down on it, and pair it.

    A catalogue's side view holds nothing of this: a shoe that is round at both ends and narrower at the
    heel, on a sandal the sole and straps across it, on the others laces, and a hole that the foot goes into.
    """
    across, down = _places(pixels)
    along = down * torch.where(choose(pixels, 0.5), 1.0, -1.0)  # from -1 at the heel to 1 at the toe
    across = across - 0.3 * (_drawn(pixels, 1, 1) - 0.5) * (1 - along**2)
    wide = _between(pixels, 0.75, 1.0) + _between(pixels, 0.0, 0.25) * along
    from_middle = (across / wide).abs() ** 2.5 + along.abs() ** _between(pixels, 1.8, 4.0)  # 1 at the edge
    sandal = labels[:, None, None].eq(SANDAL)
    shoe = torch.where(sandal, _straps(across, along, pixels), _upper(across, along, from_middle, labels))
    light = hills(pixels, 5)
    shoe = shoe * (1 + _between(pixels, 0.0, 0.25) * light + 0.05 * torch.randn_like(pixels))
    return _side_by_side(shoe.clamp(0.1, 1) * (from_middle < 1))


def _straps(across: Tensor, along: Tensor, pixels: Tensor) -> Tensor:
    """Draw a sole and one to four straps across it, each at its odds and within its bounds of place."""
    sole, step = _between(pixels, 0.15, 0.95), _between(pixels, 0.2, 0.6)
    step = torch.where(choose(pixels, 0.5), step, -step)
    strap = torch.where((sole + step > 1) | (sole + step < 0.1), sole - step, sole + step)
    sandal = sole + _between(pixels, -0.2, 0.2) * along
    for odds, first, last in ((1.0, 0.1, 0.7), (0.6, 0.0, 0.6), (0.3, -0.4, 0.3), (0.5, -0.8, -0.3)):
        line = _between(pixels, first, last) + _between(pixels, -0.4, 0.4) * across
        band = (along - line).abs() < _between(pixels, 0.06, 0.22)
        sandal = torch.where(band & choose(pixels, odds), strap, sandal)
    return sandal


def _upper(across: Tensor, along: Tensor, from_middle: Tensor, labels: Tensor) -> Tensor:
    """Draw what covers a foot: a rim, a toecap and laces, each on some shoes, and the hole at the heel.

    Boots are of less different tones, and mostly dark, which is bright in a canonical image.
    """
    boot = labels[:, None, None].eq(BOOT)
    leather = torch.where(boot, _between(labels, 0.5, 1.0), _between(labels, 0.2, 1.0))
    contrast = torch.where(boot, _between(labels, 0.1, 0.6), _between(labels, 0.4, 1.0))
    laced = (
        (across.abs() < _between(labels, 0.25, 0.5)) & (along > -0.3) & (along < _between(labels, 0.2, 0.5))
    )
    lace = (along * _between(labels, 3.0, 5.0) + _drawn(labels, 1, 1)) % 1 < 0.5
    hole = (across / _between(labels, 0.4, 0.75)) ** 2 + (
        (along + _between(labels, 0.35, 0.6)) / _between(labels, 0.2, 0.5)
    ) ** 2 < 1
    parts = (  # and on how many sneakers and boots there are such
        (from_middle > _between(labels, 0.5, 0.8), 0.6, 0.2),
        (along > _between(labels, 0.4, 0.7), 0.4, 0.2),
        (laced, 0.6, 0.5),
        (laced & lace, 0.8, 0.5),
        (hole, 1.0, 1.0),
    )
    upper = leather
    for part, on_sneakers, on_boots in parts:
        tone = torch.lerp(leather, _drawn(labels, 1, 1), contrast)
        odds = torch.where(boot, on_boots, on_sneakers)
        upper = torch.where(part & (_drawn(labels, 1, 1) < odds), tone, upper)
    return upper


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


def _spread(pixels: Tensor, _labels: Tensor) -> Tensor:
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


def _between(pixels: Tensor, low: float, high: float) -> Tensor:
    """Draw a number [n, 1, 1] for each image."""
    return low + (high - low) * _drawn(pixels, 1, 1)
