"""What the tests of training share, as fixtures."""

from __future__ import annotations

import pytest
import torch
from tiny_training import TINY, draw_bars

from training.data import Splits
from training.recipes import Recipe


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> Recipe:
    return TINY


@pytest.fixture
def bars() -> Splits:
    """Images whose label is the row of a bright bar, in noise: 200 to train on, 100 to validate on."""
    return Splits(draw_bars(200, seed=1), draw_bars(100, seed=2))
