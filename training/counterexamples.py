"""Images that are of no class any more: training images broken in ways that keep what they are made of.

A detector of strange images needs some to learn from, and must not be taught the very ones that it will be
judged on. These come from the training images alone ("negative data augmentation", Sinha et al. 2021) and,
for digits, from strokes drawn at random, as a pen makes much that is no digit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

from training.architectures import SIDE
from training.data import SOURCES
from training.randomness import choose
from training.resampling import resample
from training.scribbles import DIGIT_BOX, draw_scribbles

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from training.recipes import Recipe

REPLACED_SHARE: Final = 0.7
SCRIBBLES: Final = 3  # shares of the broken digits; more of them teach no more


def break_images(pixels: Tensor, recipe: Recipe) -> Tensor:
    """Return `pixels` [n, 28, 28] between 0 and 1, each broken in one way; equal shares of every way.

    Most of the broken digits are sized and centred anew, as uploads are, so that a detector cannot live by
    place and size alone. Randomness comes from PyTorch's generator of the pixels' device.
    """
    are_digits = SOURCES[recipe.dataset].canonical_form == "digit"
    ways = [*_WAYS, *([] if recipe.flip else [_mirror]), *([_scribble] * SCRIBBLES if are_digits else [])]
    parts = pixels.tensor_split(len(ways))
    broken = torch.cat([way(part) for way, part in zip(ways, parts, strict=True)])
    if are_digits:
        chosen = choose(broken, REPLACED_SHARE)
        broken = torch.where(chosen, place_digit(broken), broken)
    return broken


def place_digit(pixels: Tensor) -> Tensor:
    """Scale the ink's box into 20x20 and move its centre of mass to the middle, as MNIST does."""
    ink = pixels > 0.2  # fainter pixels are the blur of earlier resampling
    longer = torch.maximum(_extent(ink.any(1)), _extent(ink.any(2)))  # [n]
    scale = longer / DIGIT_BOX
    mass = pixels.sum((1, 2)).clamp(min=1e-6)
    places = torch.linspace(-1 + 1 / SIDE, 1 - 1 / SIDE, SIDE, device=pixels.device)
    centre = torch.stack(((pixels.sum(1) @ places) / mass, (pixels.sum(2) @ places) / mass), 1)  # [n, 2]
    placed = _resample(pixels, torch.diag_embed(torch.stack((scale, scale), 1)), centre)
    return placed / placed.amax((1, 2), keepdim=True).clamp(min=1e-6)


def _extent(filled: Tensor) -> Tensor:
    """Length from the first to the last True of each row of [n, 28]; 28 where there is none."""
    lines = filled.float()
    return SIDE - lines.argmax(1) - lines.flip(1).argmax(1)


def _turn(pixels: Tensor) -> Tensor:
    angle = _uniform(pixels, math.radians(45), math.radians(315))
    rotation = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), 1).view(-1, 2, 2)
    return _resample(pixels, rotation)


def _mirror(pixels: Tensor) -> Tensor:
    return torch.where(choose(pixels, 0.5), pixels.flip(2), pixels.flip(1))


def _join(pixels: Tensor) -> Tensor:
    """Put one side of each image beside the other side of another one."""
    return torch.where(_side(pixels), pixels, pixels.roll(1, 0))


def _cut(pixels: Tensor) -> Tensor:
    """Blank one side."""
    return pixels * _side(pixels)


def _shuffle_quarters(pixels: Tensor) -> Tensor:
    """Permute the four quarters of each image, and mirror half of them."""
    half = SIDE // 2
    quarters = pixels.unfold(1, half, half).unfold(2, half, half).reshape(-1, 4, half, half)
    order = torch.rand(len(pixels), 4, device=pixels.device).argsort(1)
    quarters = quarters[torch.arange(len(pixels), device=pixels.device)[:, None], order]
    mirrored = torch.rand(len(pixels), 4, 1, 1, device=pixels.device) < 0.5
    quarters = torch.where(mirrored, quarters.flip(3), quarters)
    return quarters.view(-1, 2, 2, half, half).transpose(2, 3).reshape(-1, SIDE, SIDE)


def _overlay(pixels: Tensor) -> Tensor:
    return torch.maximum(pixels, pixels.roll(1, 0))


def _bend(pixels: Tensor) -> Tensor:
    """Displace by three pixels and more, far beyond what keeps a label."""
    displacement = torch.randn(len(pixels), 2, 6, 6, device=pixels.device) * (3 * 2 / SIDE)
    smooth = functional.interpolate(displacement, size=(SIDE, SIDE), mode="bicubic", align_corners=True)
    upright = torch.eye(2, device=pixels.device).expand(len(pixels), 2, 2)
    return _resample(pixels, upright, displacement=smooth.permute(0, 2, 3, 1))


def _add_noise(pixels: Tensor) -> Tensor:
    strength = _uniform(pixels, 0.1, 0.6)[:, None, None]
    return (pixels + torch.randn_like(pixels) * strength).clamp(0, 1)


def _shuffle_pixels(pixels: Tensor) -> Tensor:
    """Permute the pixels, alike in all images."""
    return pixels.flatten(1)[:, torch.randperm(SIDE * SIDE, device=pixels.device)].view_as(pixels)


def _invert(pixels: Tensor) -> Tensor:
    return 1 - pixels


def _resize(pixels: Tensor) -> Tensor:
    """Shrink to about a half, or enlarge until parts are outside."""
    factor = torch.where(
        choose(pixels, 0.5)[:, 0, 0], _uniform(pixels, 0.4, 0.65), _uniform(pixels, 1.5, 2.2)
    )
    return _resample(pixels, torch.diag_embed(torch.stack((1 / factor, 1 / factor), 1)))


def _scribble(pixels: Tensor) -> Tensor:
    return draw_scribbles(len(pixels), pixels.device)


_WAYS: Final[list[Callable[[Tensor], Tensor]]] = [
    _turn,
    _join,
    _cut,
    _shuffle_quarters,
    _overlay,
    _bend,
    _add_noise,
    _shuffle_pixels,
    _invert,
    _resize,
]


def _uniform(pixels: Tensor, low: float, high: float) -> Tensor:
    return torch.empty(len(pixels), device=pixels.device).uniform_(low, high)


def _side(pixels: Tensor) -> Tensor:
    """Mark everything above, below, left or right of a line near the middle: [n, 28, 28] of bool."""
    places = torch.arange(SIDE, device=pixels.device)
    line = torch.randint(10, 18, (len(pixels), 1), device=pixels.device)
    before = (places < line) ^ (torch.rand(len(pixels), 1, device=pixels.device) < 0.5)  # [n, 28]
    rows, columns = before[:, :, None].expand(-1, -1, SIDE), before[:, None, :].expand(-1, SIDE, -1)
    return torch.where(choose(pixels, 0.5), rows, columns)


def _resample(
    pixels: Tensor, linear: Tensor, shift: Tensor | None = None, displacement: Tensor | None = None
) -> Tensor:
    """Take each new place's value from `linear` [n, 2, 2] times it, plus `shift` [n, 2], in half sides."""
    shift = torch.zeros(len(pixels), 2, device=pixels.device) if shift is None else shift
    maps = torch.cat((linear, shift[:, :, None]), 2)
    return resample(pixels, maps, displacement)
