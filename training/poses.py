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
    """Put each shoe beside its mirror image: seen from above, toes up or down, or one behind the other."""
    return torch.where(_drawn(pixels, 1, 1) < 0.7, _from_above(pixels), _one_behind(pixels))


def _from_above(pixels: Tensor) -> Tensor:
    """Turn each shoe by a quarter, give it the width of a sole, and join it and its mirror image."""
    upright = torch.where(_drawn(pixels, 1, 1) < 0.5, pixels.rot90(1, (1, 2)), pixels.rot90(-1, (1, 2)))
    middle, width = _extent(upright)
    wanted = 0.34 + 0.14 * _drawn(pixels)  # half of the image's side is as wide as both can be
    apart = wanted + 0.08 * _drawn(pixels)
    narrowing, slant = width / 2 / wanted, 0.25 * (_drawn(pixels) - 0.5)
    nothing, one = torch.zeros_like(wanted), torch.ones_like(wanted)
    rows = (narrowing, slant, middle - apart * narrowing, nothing, one, nothing)
    one_shoe = resample(upright, torch.stack(rows, 1).view(-1, 2, 3))
    return torch.maximum(one_shoe, one_shoe.flip(2))


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
    nothing = torch.zeros_like(size)

    def shoe(sign: float) -> Tensor:
        rows = (1 / size, nothing, sign * aside / size, nothing, 1 / size, sign * up / size)
        return resample(pixels, torch.stack(rows, 1).view(-1, 2, 3))

    front, behind = shoe(-1.0), shoe(1.0)
    return torch.where(front > 0.1, front, 0.85 * behind)


def _spread(pixels: Tensor) -> Tensor:
    """Turn both sleeves outwards about the shoulders, after making room for them at the sides."""
    side = pixels.shape[2]
    across = torch.linspace(-1 + 1 / side, 1 - 1 / side, side, device=pixels.device)
    body = pixels * (across.abs() <= SHOULDER_WIDTH)
    sleeve = pixels * (across > SHOULDER_WIDTH)  # the right one; the left one is its mirror's
    other = pixels.flip(2) * (across > SHOULDER_WIDTH)
    size = 0.6 + 0.2 * _drawn(pixels)
    angle = math.radians(20) + math.radians(60) * _drawn(pixels)
    nothing = torch.zeros_like(size)
    plain = torch.stack((1 / size, nothing, nothing, nothing, 1 / size, nothing), 1).view(-1, 2, 3)
    turned = _turned_about_shoulder(angle, size)
    left = resample(other, turned).flip(2)
    sleeves = torch.maximum(resample(sleeve, turned), left)
    return torch.maximum(resample(body, plain), sleeves)


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
