"""What a training draws: each epoch's order of images from one seed, all else from a seed for every step.

Nothing random outlives a step, so that a training can go on from any step as if it had never stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from training import distributed

if TYPE_CHECKING:
    from torch import Tensor

    from training.recipes import Recipe


def order_of_images(recipe: Recipe, epoch: int, images: int) -> Tensor:
    """Return the places of all images in the order in which an epoch takes them: one for all processes."""
    if not recipe.shuffle:
        return torch.arange(images)
    (seed,) = _seeds(recipe.seed, epoch, 0, count=1)
    return torch.randperm(images, generator=torch.Generator().manual_seed(seed))


def seeds_of_steps(recipe: Recipe, epoch: int, steps: int) -> list[int]:
    """Return this process's own seed for each step of an epoch."""
    return _seeds(recipe.seed, epoch, 1 + distributed.rank(), count=steps)


def seed_device(seed: int, device: torch.device) -> None:
    """Seed the device's generator alone: torch.manual_seed looks for every backend, 0.25 ms a step."""
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def choose(pixels: Tensor, share: float) -> Tensor:
    """Choose this share of the images [n, 28, 28]: [n, 1, 1] of bool, from their device's generator."""
    return torch.rand(len(pixels), 1, 1, device=pixels.device) < share


def hills(pixels: Tensor, points: int) -> Tensor:
    """Draw a smooth field [n, 28, 28] for each image: normal at points x points places, joined bilinearly."""
    coarse = torch.randn(len(pixels), 1, points, points, device=pixels.device)
    return functional.interpolate(coarse, size=pixels.shape[1:], mode="bilinear", align_corners=True)[:, 0]


def _seeds(*numbers: int, count: int) -> list[int]:
    """Return well-mixed seeds of 32 bits: PyTorch's CPU generator looks at no more of its seed."""
    seeds: list[int] = np.random.SeedSequence(numbers).generate_state(count).tolist()
    return seeds
