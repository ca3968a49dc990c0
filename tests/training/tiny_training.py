"""A tiny recipe, and labelled images that a tiny network can learn; what conftest.py makes fixtures of."""

from __future__ import annotations

from dataclasses import replace

import torch

from training.data import Split
from training.recipes import Recipe

TINY = Recipe(
    name="tiny",
    dataset="mnist",
    architecture="mlp",
    widths=(16,),
    epochs=3,
    batch_size=32,
    learning_rate=0.1,
)


def draw_bars(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    images = torch.randint(60, (count, 28, 28), generator=generator)
    rows = torch.arange(28)[None, :, None]
    images += 150 * ((rows // 2 - 2) == labels[:, None, None])
    return Split(images.to(torch.uint8), labels)


def weights_of(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([tensor.double().flatten() for tensor in network.state_dict().values()])


def changed(recipe: Recipe, **fields: object) -> Recipe:
    return replace(recipe, **fields)
