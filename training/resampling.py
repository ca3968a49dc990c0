"""Images looked up at other places: what every change of place or shape comes down to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def resample(pixels: Tensor, maps: Tensor, displacement: Tensor | None = None) -> Tensor:
    """Look each image [n, 28, 28] up where its affine map [n, 2, 3] leads from the new places, bilinearly.

    Places are in halves of the side from the middle; `displacement` [n, 28, 28, 2] is added to them.
    """
    grid = functional.affine_grid(maps, [len(pixels), 1, *pixels.shape[1:]], align_corners=False)
    grid = grid if displacement is None else grid + displacement
    sampled: Tensor = functional.grid_sample(pixels[:, None], grid, mode="bilinear", align_corners=False)
    return sampled[:, 0]
