"""The rows that train a network of a recipe, or count its weights."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

from training import by_hand
from training.architectures import build, count_weights
from training.data import load_test, load_training
from training.fit import fit, predict_logits
from training.recipes import RECIPES
from training.reproduce.material import (
    MLP_16_WEIGHTS,
    QUICKSTART,
    QUICKSTART_SEEDS,
    QUICKSTART_TOLERANCE,
    TANH_LOSSES,
    Quickstart,
)
from training.reproduce.outcome import Bench, Outcome, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

    from training.data import Split, Splits
    from training.recipes import Recipe
    from training.state import EpochResult

TANH_STEPS: Final = 100
TEST_BATCH: Final = 64


class AfterEpoch:
    """An observer that calls a function with every finished epoch's figures."""

    def __init__(self, call: Callable[[EpochResult], None]) -> None:
        self._call = call

    def on_start(self, _step: int, _steps: int, /) -> None:
        """Nothing: no epoch is done."""

    def on_step(self, _step: int, _loss: float, _accuracy: float, /) -> None:
        """Nothing: an epoch is waited for."""

    def on_epoch(self, result: EpochResult, _step: int, _step_losses: list[float], /) -> None:
        self._call(result)


def tanh_mlp(bench: Bench, steps: int = TANH_STEPS) -> Outcome:
    """Compare the loss before each printed step below `steps`, by two roads that share the first weights."""
    recipe = replace(RECIPES["mnist-mlp-tanh"], epochs=steps)
    splits = load_training(recipe.dataset, recipe.validation_images, bench.data)
    roads = (_losses_by_hand(recipe, splits.training, bench), _losses_by_autograd(recipe, splits, bench))
    lines = []
    for step, printed in TANH_LOSSES.items():
        if step < steps:
            ours = [f"{losses[step]:.4f}" for losses in roads]
            same = all(loss == printed for loss in ours)
            lines.append((str(step), printed, *ours, verdict(agrees=same)))
    return Outcome(("before step", "the material", "by hand", "by autograd", "verdict"), lines)


def _losses_by_hand(recipe: Recipe, training: Split, bench: Bench) -> list[float]:
    """Train in NumPy, from the weights W1, W2, W3 that one generator draws in this order."""
    bench.series.begin("tanh MLP by hand")
    generator = torch.Generator().manual_seed(recipe.seed)
    shapes = ((784, 100), (100, 100), (100, 10))
    network = by_hand.tanh_mlp([torch.randn(shape, generator=generator).numpy() for shape in shapes])
    pixels = training.images.flatten(1).float().div(255).numpy()  # [60000, 784]
    losses = by_hand.train_tanh_mlp(
        network, pixels, training.labels.numpy(), steps=recipe.epochs, learning_rate=recipe.learning_rate
    )
    return list(_tell("by hand", losses, bench))


def _tell(road: str, losses: Iterable[float], bench: Bench) -> Iterable[float]:
    for step, loss in enumerate(losses):
        _say_printed_step(road, step, loss, bench)
        yield loss


def _losses_by_autograd(recipe: Recipe, splits: Splits, bench: Bench) -> list[float]:
    """Train the recipe through fit(): all images are one batch, so an epoch is one step with one loss."""
    bench.series.begin("tanh MLP by autograd")
    teller = AfterEpoch(
        lambda result: _say_printed_step("by autograd", result.epoch - 1, result.training_loss, bench)
    )
    network = build(recipe).to(bench.device)
    _, history = fit(network, splits.to(bench.device), recipe, observers=[bench.series, teller])
    return [result.training_loss for result in history]


def _say_printed_step(road: str, step: int, loss: float, bench: Bench) -> None:
    if step in TANH_LOSSES:
        bench.series.say(f"{road}: loss before step {step} {loss:.4f}, printed {TANH_LOSSES[step]}")


def quickstart(bench: Bench, seeds: int = QUICKSTART_SEEDS) -> Outcome:
    """Compare the means over the seeds with the printed test losses; the accuracies vary too much to judge.

    Nothing is chosen by these readings of the test set: the recipe is the material's, and so are its epochs.
    """
    recipe = replace(RECIPES["fashion-mnist-mlp-quickstart"], epochs=max(QUICKSTART))  # its rate is constant
    splits = load_training(recipe.dataset, recipe.validation_images, bench.data).to(bench.device)
    test = load_test(recipe.dataset, bench.data).to(bench.device)
    runs = [_quickstart_run(replace(recipe, seed=seed), splits, test, bench) for seed in range(1, seeds + 1)]
    lines = []
    for printed, ours, epoch in zip(QUICKSTART.values(), zip(*runs, strict=True), QUICKSTART, strict=True):
        losses, accuracies = zip(*ours, strict=True)
        difference = fmean(losses) - printed.test_loss
        lines.append(
            (
                str(epoch),
                f"{printed.test_loss:.6f}",
                f"{fmean(losses):.4f} ± {stdev(losses):.4f}",
                f"{difference:+.4f}",
                f"{printed.test_accuracy:.1f} %",
                f"{fmean(accuracies):.1f} ± {stdev(accuracies):.1f} %",
                verdict(agrees=abs(difference) <= QUICKSTART_TOLERANCE),
            )
        )
    columns = (
        "after epoch",
        "test loss, the material",
        f"ours, mean ± deviation of {seeds} seeds",
        "difference",
        "test accuracy, the material",
        "ours",
        f"verdict on the loss, within {QUICKSTART_TOLERANCE}",
    )
    return Outcome(columns, lines)


def _quickstart_run(recipe: Recipe, splits: Splits, test: Split, bench: Bench) -> list[Quickstart]:
    """Train with one seed; return what the test images say after each epoch."""
    bench.series.begin(f"quickstart, seed {recipe.seed}")
    network = build(recipe).to(bench.device)
    figures: list[Quickstart] = []

    def look(result: EpochResult) -> None:
        loss, accuracy = figure = ask_test_images(network, test)
        figures.append(figure)
        printed = QUICKSTART[result.epoch]
        bench.series.say(
            f"seed {recipe.seed}, epoch {result.epoch}: test loss {loss:.4f}, accuracy {accuracy:.1f} %; "
            f"printed {printed.test_loss:.4f}, {printed.test_accuracy:.1f} %"
        )

    fit(network, splits, recipe, observers=[bench.series, AfterEpoch(look)])
    return figures


def ask_test_images(network: nn.Module, test: Split) -> Quickstart:
    """Return the figures as the material makes them: each batch's mean loss counts the same."""
    logits = predict_logits(network, test.images)
    losses = functional.cross_entropy(logits, test.labels, reduction="none")
    batches = [losses[first : first + TEST_BATCH].mean() for first in range(0, len(test), TEST_BATCH)]
    accuracy = float((logits.argmax(1) == test.labels).float().mean())
    return Quickstart(float(torch.stack(batches).mean()), 100 * accuracy)


def mlp_16(_bench: Bench) -> Outcome:
    """Count the weights and biases of 784-16-16-10."""
    ours = count_weights(build(RECIPES["mnist-mlp-16"]))
    line = ("weights and biases", f"{MLP_16_WEIGHTS:,}", f"{ours:,}", verdict(agrees=ours == MLP_16_WEIGHTS))
    return Outcome(("figure", "the material", "ours", "verdict"), [line])
