"""Our quickest way to 99.0 % on MNIST's validation images: a small CNN, large rates, one short cycle.

python -m tests.benchmarks.quick_training --data data
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from torch import nn

from training.architectures import build
from training.data import Split, load_test, load_training
from training.fit import evaluate, fit
from training.recipes import Recipe
from training.state import EpochResult

QUICK = Recipe(
    name="mnist-cnn-quick",
    dataset="mnist",
    architecture="cnn",
    widths=(16, 32, 64),
    batch_norm=True,
    standardise=True,
    epochs=2,
    batch_size=128,
    optimiser="adamw",
    learning_rate=1e-2,
    schedule="one-cycle",
    weight_decay=0.01,
    precision="bfloat16",
)


class Reached(Exception):
    """The validation images say so."""


class Checker:
    """Validates whenever so many images were trained on since the last time, or at most 0.2 s later."""

    def __init__(
        self, network: nn.Module, validation: Split, batch_size: int, every: int, target: float
    ) -> None:
        self._network, self._validation, self._target = network, validation, target
        self._batch_size, self._every, self._checked = batch_size, every, 0
        self.seen = 0

    def on_start(self, _step: int, _steps: int, /) -> None:
        """Nothing."""

    def on_step(self, step: int, _loss: float, _accuracy: float, /) -> None:
        self.seen = step * self._batch_size
        if self.seen - self._checked >= self._every:
            self._checked = self.seen
            self._say(evaluate(self._network, self._validation)[1])
            self._network.train()

    def on_epoch(self, result: EpochResult, _step: int, _step_losses: list[float], /) -> None:
        assert result.validation_accuracy is not None
        self._say(result.validation_accuracy)

    def _say(self, accuracy: float) -> None:
        print(f"validation {self.seen} {accuracy}", flush=True)
        if accuracy >= self._target:
            raise Reached


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DIGITSERVE_DATA", "data")))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", type=float, default=0.99)
    parser.add_argument("--images-between-checks", type=int, default=12_800)
    options = parser.parse_args()
    recipe = replace(QUICK, seed=options.seed)
    data = load_training("mnist", recipe.validation_images, options.data)
    network = build(recipe)
    checker = Checker(
        network, data.validation, recipe.batch_size, options.images_between_checks, options.target
    )
    try:
        fit(network, data, recipe, observers=[checker])
    except Reached:
        test = load_test("mnist", options.data)
        print(f"test {checker.seen} {evaluate(network, test)[1]}", flush=True)


if __name__ == "__main__":
    main()
