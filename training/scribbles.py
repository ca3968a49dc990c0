"""Strokes drawn at random: what a pen makes when it writes no digit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from training.architectures import SIDE

if TYPE_CHECKING:
    from torch import Tensor

DIGIT_BOX: Final = 20  # pixels of the square that MNIST's digits are in, and so are the strokes
STROKES: Final = (2, 4)  # the fewest and the most
HALF_WIDTH: Final = (1.2, 2.5)  # pixels from the middle of a stroke to where its ink ends
POINTS: Final = 33  # along a stroke, near enough for the width to bridge


def draw_scribbles(count: int, device: torch.device) -> Tensor:
    """Return so many images [count, 28, 28] between 0 and 1, each of a few strokes of one width.

    Half of the strokes are straight and half are bent, half begin where the one before ended, and their ends
    lie about the corners of a coarse grid, as those of written signs do.
    """
    fewest, most = STROKES
    columns = torch.randint(3, (count, most, 2), device=device) / 2
    rows = torch.randint(4, (count, most, 2), device=device) / 3
    ends = torch.stack((columns, rows), 3) + torch.randn(count, most, 2, 2, device=device) * 0.04
    for stroke in range(1, most):
        joined = torch.rand(count, 1, device=device) < 0.5
        ends[:, stroke, 0] = torch.where(joined, ends[:, stroke - 1, 1], ends[:, stroke, 0])
    points = _curves(ends)  # [count, strokes, points, across and down]
    narrow = torch.empty(count, 1, 1, device=device).uniform_(0.4, 1)
    points[..., 0] = (points[..., 0] - 0.5) * narrow + 0.5
    strokes = torch.randint(fewest, most + 1, (count, 1), device=device)
    half_width = torch.empty(count, device=device).uniform_(*HALF_WIDTH)
    return _ink(points, torch.arange(most, device=device) < strokes, half_width)


def _curves(ends: Tensor) -> Tensor:
    """Return points on quadratic Bezier curves from `ends` [count, strokes, 2, 2], half of them straight."""
    shape = (*ends.shape[:2], 1)
    bent = torch.rand(shape, device=ends.device) < 0.5
    control = ends.mean(2) + torch.randn_like(ends[:, :, 0]) * 0.35 * bent
    along = torch.linspace(0, 1, POINTS, device=ends.device)[:, None]
    start, control, end = ends[:, :, None, 0], control[:, :, None], ends[:, :, None, 1]
    curves: Tensor = (1 - along) ** 2 * start + 2 * along * (1 - along) * control + along**2 * end
    return curves


def _ink(points: Tensor, drawn: Tensor, half_width: Tensor) -> Tensor:
    """Return images of round dots, `half_width` [count] pixels wide, at `points` of the `drawn` strokes."""
    places = torch.arange(SIDE, device=points.device)
    margin = (SIDE - DIGIT_BOX) / 2
    distance = (margin + DIGIT_BOX * points)[..., None] - places  # [count, strokes, points, 2, 28]
    image = torch.zeros(len(points), SIDE, SIDE, device=points.device)
    for stroke in range(points.shape[1]):
        across, down = distance[:, stroke].square().unbind(2)  # [count, points, 28]
        nearest = (down[..., None] + across[:, :, None]).amin(1).sqrt()  # [count, 28, 28]
        ink = (half_width[:, None, None] - nearest).clamp(0, 1)
        image = torch.maximum(image, ink * drawn[:, stroke, None, None])
    return image
