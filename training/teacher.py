"""The trained network whose answers another one learns from.

G. Hinton, O. Vinyals, J. Dean: Distilling the Knowledge in a Neural Network, 2015.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.architectures import build
from training.errors import RunUnavailable, UsageError
from training.fit import finished
from training.recipes import RECIPES
from training.runs import CHECKPOINT
from training.state import load_checkpoint, start

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from training.recipes import Recipe


def load_teacher(recipe: Recipe, runs: Path, device: torch.device) -> nn.Module | None:
    """Return the network of the newest finished run of `recipe.teacher`, or None where no teacher is named.

    Raises:
        UsageError: there is no such recipe, or it knows another dataset.
        RunUnavailable: it has no finished run.
        CheckpointRejected: the run is damaged, or had other settings than the recipe of its name has now.
    """
    if not recipe.teacher:
        return None
    teacher = RECIPES.get(recipe.teacher)
    if teacher is None or teacher.dataset != recipe.dataset:
        raise UsageError(
            f"{recipe.name} can only learn from a recipe for {recipe.dataset}, not {recipe.teacher!r}."
        )
    for checkpoint in sorted((runs / teacher.name).glob(f"*/{CHECKPOINT}"), reverse=True):
        state = start(build(teacher).to(device), teacher)
        state.restore(load_checkpoint(checkpoint, teacher))
        if finished(state, teacher):
            return state.chosen.eval().requires_grad_(requires_grad=False)
    raise RunUnavailable(
        f"{teacher.name} has no finished run in {runs}: train it first, by "
        f"python -m training fit {teacher.name}."
    )
