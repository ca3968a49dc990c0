"""The trained networks whose answers another one learns from.

G. Hinton, O. Vinyals, J. Dean: Distilling the Knowledge in a Neural Network, 2015.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from training.architectures import build
from training.errors import CheckpointRejected, RunUnavailable, UsageError
from training.fit import finished
from training.recipes import RECIPES
from training.runs import CHECKPOINT
from training.state import load_checkpoint, start

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from training.recipes import Recipe


def load_teachers(recipe: Recipe, runs: Path, device: torch.device) -> list[nn.Module]:
    """Return the network of the newest finished run of each of `recipe.teachers`.

    Raises:
        UsageError: there is no such recipe, or it knows another dataset.
        RunUnavailable: it has no finished run with the settings that the recipe of its name has now.
    """
    return [_load_teacher(name, recipe, runs, device) for name in recipe.teachers]


def _load_teacher(name: str, pupil: Recipe, runs: Path, device: torch.device) -> nn.Module:
    teacher = RECIPES.get(name)
    if teacher is None or teacher.dataset != pupil.dataset:
        raise UsageError(f"{pupil.name} can only learn from a recipe for {pupil.dataset}, not {name!r}.")
    for checkpoint in sorted((runs / name).glob(f"*/{CHECKPOINT}"), reverse=True):
        state = start(build(teacher).to(device), teacher)
        with contextlib.suppress(CheckpointRejected):  # an experiment of other settings is passed over
            state.restore(load_checkpoint(checkpoint, teacher))
        if finished(state, teacher):
            return state.finish().requires_grad_(requires_grad=False)
    raise RunUnavailable(
        f"{name} has no finished run of its recipe in {runs}: train it first, by "
        f"python -m training fit {name}."
    )
