"""The shipped networks whose answers another one learns from.

G. Hinton, O. Vinyals, J. Dean: Distilling the Knowledge in a Neural Network, 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from training.artifacts import Artifact, read_artifact
from training.errors import ArtifactMissing, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from training.recipes import Recipe


@dataclass(frozen=True)
class Teacher:
    """An artifact that is asked about every augmented batch, by ONNX Runtime on the CPU."""

    name: str
    artifact: Artifact

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the calibrated probabilities [n, 10] of pixels from 0 to 1 [n, 28, 28], to 1/255."""
        images = pixels.mul(255).round_().to(torch.uint8).cpu().numpy()
        return torch.from_numpy(self.artifact.answer(images, len(images)).probabilities).to(pixels.device)


def load_teachers(recipe: Recipe, models: Path) -> list[Teacher]:
    """Return what `recipe.teachers` names of the artifacts in `models`.

    Raises:
        ArtifactMissing: one is not there.
        ArtifactDamaged: one cannot be opened.
        UsageError: one knows another dataset.
    """
    return [_load_teacher(name, recipe, models) for name in recipe.teachers]


def _load_teacher(name: str, pupil: Recipe, models: Path) -> Teacher:
    try:
        artifact = read_artifact(name, models, threads=torch.get_num_threads())
    except ArtifactMissing as exc:
        raise ArtifactMissing(f"{exc} It is to teach {pupil.name}: without it, add --teachers.") from exc
    if (dataset := artifact.metadata["dataset"]) != pupil.dataset:
        raise UsageError(
            f"{pupil.name} learns {pupil.dataset}; {name}, which is to teach it, knows {dataset}."
        )
    return Teacher(name, artifact)
