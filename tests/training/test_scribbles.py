"""Scribbles are strokes as wide as a pen's, all over the box of a digit, each another."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from training.scribbles import draw_scribbles

CPU = torch.device("cpu")


def scribbles(count: int = 300, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return draw_scribbles(count, CPU)


def test_every_scribble_is_another_with_full_ink_on_empty_ground() -> None:
    drawn = scribbles()
    assert drawn.shape == (300, 28, 28)
    assert drawn.min() == 0
    assert drawn.amax((1, 2)).min() > 0.9
    assert len(drawn.flatten(1).unique(dim=0)) == 300
    assert torch.equal(drawn, scribbles())


def test_a_stroke_has_no_gaps_and_a_scribble_no_more_parts_than_strokes() -> None:
    parts = [cv2.connectedComponents((image > 0.3).astype(np.uint8))[0] - 1 for image in scribbles().numpy()]
    assert max(parts) <= 4
    assert np.mean(parts) < 2


def test_strokes_are_as_wide_as_a_pens() -> None:
    half_widths = [
        cv2.distanceTransform((i > 0.5).astype(np.uint8), cv2.DIST_L2, 5).max() for i in scribbles().numpy()
    ]
    assert 1.4 < np.median(half_widths) < 3.5  # where strokes cross they are wider
