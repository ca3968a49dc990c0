"""Random changes that keep the label, made to a whole batch of pixels at once on its device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

from training.hands import write_elsewhere
from training.poses import pose
from training.randomness import choose, hills
from training.resampling import resample

if TYPE_CHECKING:
    from torch import Tensor

    from training.recipes import Recipe

GAP_WIDTH: Final = (0.6, 1.6)  # pixels
GAP_REACH: Final = 7.0  # pixels, from the middle of the image


def augment(pixels: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Return changed copies of `pixels` [batch, 28, 28] between 0 and 1, as the recipe's fields say.

    `labels` [batch] are class indices: some changes suit some classes alone. Randomness comes from PyTorch's
    generator of the pixels' device.
    """
    if recipe.flip:
        pixels = torch.where(choose(pixels, 0.5), pixels.flip(2), pixels)
    plain = pixels
    pixels = write_elsewhere(pose(pixels, labels, recipe), labels, recipe)
    pixels = _with_another_pen(pixels, recipe)
    if _moves(recipe):
        pixels = _warp(pixels, recipe)
    if recipe.blur:
        pixels = torch.lerp(pixels, _blurred(pixels), _upto(pixels, recipe.blur, 1, 1))
    if recipe.tone:
        pixels = pixels ** _uniform(pixels, recipe.tone, 1, 1).exp()
    if recipe.grain:
        pixels = pixels * (1 + torch.randn_like(pixels) * _upto(pixels, recipe.grain, 1, 1))
        pixels = pixels.clamp(0, 1)
    if recipe.residue:
        pixels = _leave_ground(pixels, recipe.residue)
    if recipe.plain:
        pixels = torch.where(choose(pixels, recipe.plain), plain, pixels)
    if recipe.erasing:
        pixels = _erase(pixels, recipe.erasing)
    return pixels


def _moves(recipe: Recipe) -> bool:
    return any(
        (
            recipe.shift_pixels,
            recipe.rotation_degrees,
            recipe.shear_degrees,
            recipe.scaling,
            recipe.elastic_pixels,
        )
    )


def _uniform(pixels: Tensor, limit: float, *shape: int) -> Tensor:
    """Draw numbers between -limit and limit."""
    return (torch.rand(len(pixels), *shape, device=pixels.device) * 2 - 1) * limit


def _upto(pixels: Tensor, limit: float, *shape: int) -> Tensor:
    """Draw numbers between 0 and limit."""
    return torch.rand(len(pixels), *shape, device=pixels.device) * limit


def _with_another_pen(pixels: Tensor, recipe: Recipe) -> Tensor:
    if recipe.stroke:
        pixels = _change_strokes(pixels, recipe.stroke)
    if recipe.gaps:
        pixels = torch.where(choose(pixels, recipe.gaps), _with_gaps(pixels), pixels)
    return pixels


def _change_strokes(pixels: Tensor, share: float) -> Tensor:
    """Blend each image with its dilation or its erosion over a 3x3 cross, by a random share of it.

    Erosion goes half as far: in full it would wipe out a stroke two pixels wide.
    """
    images = pixels[:, None]  # [batch, 1, 28, 28]
    amount = torch.empty(len(pixels), 1, 1, device=pixels.device).uniform_(-share / 2, share)
    dilated = torch.maximum(
        functional.max_pool2d(images, (3, 1), stride=1, padding=(1, 0)),
        functional.max_pool2d(images, (1, 3), stride=1, padding=(0, 1)),
    )[:, 0]
    eroded = -torch.maximum(
        functional.max_pool2d(-images, (3, 1), stride=1, padding=(1, 0)),
        functional.max_pool2d(-images, (1, 3), stride=1, padding=(0, 1)),
    )[:, 0]
    target = torch.where(amount > 0, dilated, eroded)
    return torch.lerp(pixels, target, amount.abs())


def _with_gaps(pixels: Tensor) -> Tensor:
    """Blank a straight line across each image, and in half of them another one."""
    batch, side, _ = pixels.shape
    places = torch.arange(side, device=pixels.device) - (side - 1) / 2
    for share in (1.0, 0.5):
        angle = _uniform(pixels, math.pi, 1, 1)
        across = _uniform(pixels, GAP_REACH, 1, 1)
        width = torch.empty(batch, 1, 1, device=pixels.device).uniform_(*GAP_WIDTH)
        away = (places[:, None] * angle.cos() + places * angle.sin() - across).abs()  # [batch, 28, 28]
        kept = (away - width / 2 + 0.5).clamp(0, 1)
        pixels = torch.where(choose(pixels, share), pixels * kept, pixels)
    return pixels


def _warp(pixels: Tensor, recipe: Recipe) -> Tensor:
    """Resample each image once through its own affine map and smooth displacement."""
    batch, side, _ = pixels.shape
    maps = _affine_maps(pixels, recipe)
    displacement: Tensor | None = None
    if recipe.elastic_pixels:
        # Random displacements at 7x7 points, joined smoothly, bend strokes without breaking them.
        coarse = torch.randn(batch, 2, 7, 7, device=pixels.device) * (recipe.elastic_pixels * 2 / side)
        smooth = functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)
        displacement = smooth.permute(0, 2, 3, 1)  # [batch, 28, 28, 2]
    return resample(pixels, maps, displacement)


def _affine_maps(pixels: Tensor, recipe: Recipe) -> Tensor:
    """Return [batch, 2, 3]: from places in the new image to places in the old, in units of half the side."""
    angle = _uniform(pixels, math.radians(recipe.rotation_degrees))
    shear = torch.tan(_uniform(pixels, math.radians(recipe.shear_degrees)))
    stretch = (1 + recipe.scaling) ** _uniform(pixels, 1.0, 2)
    shift = _uniform(pixels, recipe.shift_pixels * 2 / pixels.shape[1], 2)
    cosine, sine = angle.cos(), angle.sin()
    rows = torch.stack(
        (
            torch.stack((cosine, -sine + shear * cosine), 1) * stretch[:, :1],
            torch.stack((sine, cosine + shear * sine), 1) * stretch[:, 1:],
        ),
        1,
    )  # [batch, 2, 2]
    return torch.cat((rows, shift[:, :, None]), 2)


def _blurred(pixels: Tensor) -> Tensor:
    """Blur as a Gaussian of one pixel's standard deviation does: by binomial weights, rows then columns."""
    weights = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=pixels.device) / 16
    rows = functional.conv2d(pixels[:, None], weights.view(1, 1, 5, 1), padding=(2, 0))
    return functional.conv2d(rows, weights.view(1, 1, 1, 5), padding=(0, 2))[:, 0]


def _leave_ground(pixels: Tensor, probability: float) -> Tensor:
    """Put smooth blobs beside the subject, all of one brightness, as a careless cut leaves of a floor."""
    heights = hills(pixels, 6)
    chosen = choose(pixels, probability)
    blobs = chosen & (heights > 0.6 + _upto(pixels, 0.8, 1, 1))
    return torch.maximum(pixels, blobs * _upto(pixels, 1.0, 1, 1))


def _erase(pixels: Tensor, probability: float) -> Tensor:
    """Blank a random rectangle of 2 to 40 % of the area (Zhong et al. 2017, "Random Erasing")."""
    batch, side, _ = pixels.shape
    device = pixels.device
    area = torch.empty(batch, device=device).uniform_(0.02, 0.4) * side * side
    aspect = torch.exp(_uniform(pixels, math.log(3.0)))
    height, width = (area * aspect).sqrt(), (area / aspect).sqrt()
    top = torch.rand(batch, device=device) * (side - height)
    left = torch.rand(batch, device=device) * (side - width)
    places = torch.arange(side, device=device) + 0.5
    inside_rows = (places > top[:, None]) & (places < (top + height)[:, None])  # [batch, 28]
    inside_columns = (places > left[:, None]) & (places < (left + width)[:, None])
    chosen = choose(pixels, probability)
    return pixels.masked_fill(chosen & inside_rows[:, :, None] & inside_columns[:, None, :], 0.0)
