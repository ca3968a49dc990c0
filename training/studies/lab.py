"""What a study works with: images, trainings with a line of progress each, and several seeds."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from training.architectures import build
from training.data import Split, Splits, load_training
from training.errors import TrainingDiverged
from training.fit import evaluate, fit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray
    from torch import nn

    from training.recipes import Recipe
    from training.series import Series
    from training.state import EpochResult
    from training.studies.catalogue import Size

VALIDATION_IMAGES: Final = 10_000


@dataclass(frozen=True)
class Training:
    """One network and how it came about."""

    network: nn.Module
    history: list[EpochResult]  # of the epochs that were finished
    step_losses: NDArray[np.float64]  # [steps] of those epochs, of each batch before its step
    seconds: float  # validation included
    accuracy: float  # of the network on the validation images, in percent; NaN where training diverged

    @property
    def validation_losses(self) -> list[float]:
        return [result.validation_loss for result in self.history if result.validation_loss is not None]

    @property
    def validation_accuracies(self) -> list[float]:
        return [r.validation_accuracy for r in self.history if r.validation_accuracy is not None]


@dataclass(frozen=True)
class Findings:
    """A table, and what its figures say in words."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    sentences: Sequence[str]


@dataclass(frozen=True)
class Lab:
    """The size of a study, where its images are, and who watches."""

    size: Size
    data: Path | None
    device: torch.device
    series: Series
    _loaded: dict[str, Splits] = field(default_factory=dict)

    def load(self, dataset: str, images: int | None = None) -> Splits:
        """Return the study's training images, or the first `images` of them, and the validation images."""
        if dataset not in self._loaded:
            self._loaded[dataset] = load_training(dataset, VALIDATION_IMAGES, self.data).to(self.device)
        training, validation = self._loaded[dataset]
        wanted = self.size.images if images is None else images
        return Splits(Split(training.images[:wanted], training.labels[:wanted]), validation)

    def train(self, recipe: Recipe, data: Splits, label: str) -> Training:
        """Train one network; that it diverges is a result too."""
        self.series.begin(label)
        record = _Record()
        network: nn.Module = build(recipe).to(self.device)
        accuracy = math.nan
        began = time.monotonic()
        try:
            network, _ = fit(network, data, recipe, observers=[self.series, record])
            accuracy = 100 * evaluate(network, data.validation)[1]
        except TrainingDiverged:
            pass  # and the accuracy stays NaN
        seconds = time.monotonic() - began
        self.series.advance()
        outcome = "diverged" if math.isnan(accuracy) else f"validation accuracy {accuracy:.2f} %"
        self.series.say(f"{label}: {outcome}, {seconds:.1f} s")
        return Training(network, record.history, np.array(record.step_losses), seconds, accuracy)

    def train_seeds(self, recipe: Recipe, data: Splits, label: str) -> list[Training]:
        """Train the recipe once with each of the study's seeds."""
        return [
            self.train(replace(recipe, seed=seed), data, f"{label}, seed {seed}")
            for seed in range(1, self.size.seeds + 1)
        ]


class _Record:
    """Collects the figures of every epoch and the loss at every step."""

    def __init__(self) -> None:
        self.history: list[EpochResult] = []
        self.step_losses: list[float] = []

    def on_start(self, _step: int, _steps: int, /) -> None:
        """Nothing: no step is done."""

    def on_step(self, _step: int, _loss: float, _accuracy: float, /) -> None:
        """Nothing: every step's loss comes with its epoch."""

    def on_epoch(self, result: EpochResult, _step: int, step_losses: list[float], /) -> None:
        self.history.append(result)
        self.step_losses += step_losses


def smooth(losses: NDArray[np.float64], steps: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the running mean of the losses over so many steps, and the step that each mean ends with.

    A short training is smoothed over a tenth of its steps at most.
    """
    steps = max(1, min(steps, len(losses) // 10))
    means = np.convolve(losses, np.ones(steps) / steps, mode="valid")
    return np.arange(steps, len(losses) + 1), means


def mean_and_spread(values: Sequence[float]) -> str:
    """Return "mean ± standard deviation" over seeds, or the one value; NaN stands for one that diverged."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if len(finite) < len(values):
        return f"{len(values) - len(finite)} of {len(values)} diverged"
    return f"{finite.mean():.2f}" + (f" ± {finite.std(ddof=1):.2f}" if len(finite) > 1 else "")
