"""The training loop: a network, the data on its device, and a recipe give trained weights."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final, Protocol

import torch
from torch.nn import functional

from training import distributed
from training.augment import augment
from training.devices import gains_by_bfloat16
from training.errors import Interrupted, TrainingDiverged
from training.interrupts import deferred_signals
from training.randomness import order_of_images, seed_device, seeds_of_steps
from training.state import EpochResult, load_checkpoint, save_checkpoint, start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from training.data import Split, Splits
    from training.recipes import Recipe
    from training.state import State

WARM_UP_SHARE: Final = 0.15  # of a one-cycle schedule
REPORT_SECONDS: Final = 0.2
EVALUATION_BATCH: Final = 1_000


class Observer(Protocol):
    """Watches a training run: draws a progress bar, writes events."""

    def on_start(self, step: int, steps: int, /) -> None:
        """Hear how many steps an earlier run had done, and how many there are."""

    def on_step(self, step: int, loss: float, accuracy: float, /) -> None:
        """Hear, a few times a second, how many steps are done and the epoch's running loss and accuracy."""

    def on_epoch(self, result: EpochResult, step: int, step_losses: list[float], /) -> None:
        """Hear the figures of a finished epoch and the loss at each of its steps."""


def fit(  # noqa: PLR0913  what a training is made of, each once
    network: nn.Module,
    data: Splits,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    observers: Sequence[Observer] = (),
    load_teachers: Callable[[], Sequence[Callable[[Tensor], Tensor]]] = tuple,
) -> tuple[nn.Module, list[EpochResult]]:
    """Train `network` in place as the recipe says; return the network to export and every epoch's figures.

    Network and data are on one device. If `checkpoint` exists, training goes on from it, even in the middle
    of an epoch; it is written after every epoch and when a signal asks to stop. Nothing random outlives a
    step: each draws from its own seed, made of the recipe's seed and the step's number, so that a training
    that was interrupted and resumed gives exactly the weights of one that was not.

    Where several processes train together, all of them call this, each with all of the data; the batch is
    divided among them, so that a recipe means the same whatever their number. The first one validates, and
    it alone is given a checkpoint and observers.

    `load_teachers` gives functions from pixels [n, 28, 28] to probabilities [n, 10] (see the recipe's
    `teacher_share`), and is asked where steps remain.

    Raises:
        TrainingDiverged: the loss is not finite. The checkpoint keeps the last good epoch.
        Interrupted: SIGINT or SIGTERM came; the step under way was finished and the checkpoint written.
        CheckpointRejected: `checkpoint` is damaged or another recipe's.
    """
    state = start(network, recipe)
    saved = load_checkpoint(checkpoint, recipe) if checkpoint is not None and checkpoint.exists() else None
    if (saved := distributed.from_leader(saved)) is not None:
        state.restore(saved)
    if not finished(state, recipe):
        state.teachers = load_teachers()
    for observer in observers:
        observer.on_start(state.step, recipe.epochs * steps_per_epoch(recipe, len(data.training)))
    with deferred_signals() as stop_requested:
        while not finished(state, recipe):
            is_whole = _train_epoch(state, data.training, recipe, observers, stop_requested)
            if is_whole:
                _close_epoch(state, data, recipe)
            if checkpoint is not None:
                save_checkpoint(checkpoint, recipe, state)
            for observer in observers if is_whole else ():
                observer.on_epoch(state.history[-1], state.step, state.losses.tolist())
            if distributed.anyone(stop_requested()):
                raise Interrupted(f"stopped after step {state.step}")
    return state.finish(), state.history


def learning_rate_at(recipe: Recipe, progress: float) -> float:
    """Return the learning rate when this share of all steps, from 0 to 1, is done."""
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if recipe.schedule == "one-cycle":
        if progress < WARM_UP_SHARE:
            return recipe.learning_rate * progress / WARM_UP_SHARE
        progress = (progress - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)
    return recipe.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def steps_per_epoch(recipe: Recipe, images: int) -> int:
    """Batches in an epoch; a last image alone is left out where batches are normalised: it has no spread."""
    left_out = 1 if recipe.batch_norm and images > 1 else 0
    return math.ceil((images - left_out) / recipe.batch_size)


def finished(state: State, recipe: Recipe) -> bool:
    """Tell whether all epochs are done, or validation has not improved for as long as the recipe waits."""
    done = len(state.history)
    tired = recipe.patience_epochs and done - state.best_epoch >= recipe.patience_epochs
    return done >= recipe.epochs or bool(tired)


def _train_epoch(
    state: State,
    training: Split,
    recipe: Recipe,
    observers: Sequence[Observer],
    stop_requested: Callable[[], bool],
) -> bool:
    """Take the steps that the epoch under way still lacks; return whether it was finished.

    Losses and counts are this process's until the end, where they become those of the whole batches.
    """
    steps = steps_per_epoch(recipe, len(training))
    epoch, first = divmod(state.step, steps)
    device = training.images.device
    if first == 0:
        state.losses, state.correct = torch.zeros(steps, device=device), torch.zeros((), device=device)
        state.seconds = 0.0
    order = order_of_images(recipe, epoch, len(training)).to(device)
    seeds = seeds_of_steps(recipe, epoch, steps)
    began = reported = time.monotonic()
    before = state.seconds
    state.network.train()
    for index in range(first, steps):
        _set_rate(state, learning_rate_at(recipe, state.step / (steps * recipe.epochs)))
        seed_device(seeds[index], device)
        batch = order[index * recipe.batch_size : (index + 1) * recipe.batch_size]
        loss, correct = _take_step(state, training, batch, recipe)
        state.losses[index] = loss
        state.correct += correct
        state.step += 1
        now = time.monotonic()
        state.seconds = before + now - began
        if now - reported > REPORT_SECONDS or index == steps - 1:
            reported = now
            _report(state, min((index + 1) * recipe.batch_size, len(training)), recipe, observers)
        if distributed.anyone(stop_requested()):
            break
    distributed.average_(state.losses)
    distributed.average_(state.correct)
    return state.step % steps == 0


def _set_rate(state: State, rate: float) -> None:
    for group in state.optimiser.param_groups:
        group["lr"] = rate


def _take_step(state: State, training: Split, batch: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Move the weights once; return the batch's loss and how many images were right, both on the device.

    Each process computes on its share of the batch and counts it as often as there are processes: the mean
    over them, which is what becomes of the gradients, is then that of the batch, even if shares differ.
    """
    places, times = distributed.share(batch), distributed.processes()
    # index_select copies bytes ten times as fast as images[places]
    images, labels = training.images.index_select(0, places), training.labels.index_select(0, places)
    pixels = augment(images.float().div_(255), labels, recipe)
    with _precision(recipe, images.device):
        logits = state.model(pixels)
    logits = logits.float()
    loss = _sum_of_losses(state, recipe, logits, labels, pixels) * (times / len(batch))
    total = loss + recipe.l1 * _absolute_sum(state.network) if recipe.l1 else loss
    state.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(total)
    state.optimiser.step()
    state.update_average(recipe.weight_averaging)
    return loss.detach(), (logits.detach().argmax(1) == labels).sum() * times


def _precision(recipe: Recipe, device: torch.device) -> torch.autocast:
    in_bfloat16 = recipe.precision == "bfloat16" and gains_by_bfloat16(device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bfloat16)


def _sum_of_losses(state: State, recipe: Recipe, logits: Tensor, labels: Tensor, pixels: Tensor) -> Tensor:
    """Return the cross-entropy to the labels and, by its share, to what the teachers say of these pixels."""
    loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing, reduction="sum")
    if not state.teachers:
        return loss
    mean = torch.stack([teacher(pixels) for teacher in state.teachers]).mean(0)  # [batch, 10]
    return torch.lerp(loss, functional.cross_entropy(logits, mean, reduction="sum"), recipe.teacher_share)


def _absolute_sum(network: nn.Module) -> Tensor:
    return torch.stack([weight.abs().sum() for weight in network.parameters() if weight.ndim > 1]).sum()


def _report(state: State, seen: int, recipe: Recipe, observers: Sequence[Observer]) -> None:
    """Tell the observers of the epoch so far, after `seen` images, unless the loss is lost."""
    steps = steps_per_epoch(recipe, seen)
    loss = float(state.losses[:steps].mean())
    if not math.isfinite(loss):
        raise TrainingDiverged(
            f"The loss is no longer a number at step {state.step}: try a learning rate well below "
            f"{recipe.learning_rate:g}."
        )
    for observer in observers:
        observer.on_step(state.step, loss, float(state.correct) / seen)


def _close_epoch(state: State, data: Splits, recipe: Recipe) -> None:
    """Let the leading process validate, and write the epoch down."""
    validates = len(data.validation) > 0 and distributed.rank() == 0
    loss, accuracy = distributed.from_leader(
        evaluate(state.chosen, data.validation) if validates else (None, None)
    )
    result = EpochResult(
        epoch=len(state.history) + 1,
        seconds=state.seconds,
        learning_rate=state.optimiser.param_groups[0]["lr"],
        training_loss=float(state.losses.mean()),
        training_accuracy=float(state.correct) / len(data.training),
        validation_loss=loss,
        validation_accuracy=accuracy,
    )
    state.history.append(result)
    if recipe.patience_epochs and loss is not None:
        _remember_best(state, loss)


def _remember_best(state: State, loss: float) -> None:
    earlier = [result.validation_loss for result in state.history[:-1]]
    if all(other is None or loss < other for other in earlier):
        state.best_epoch = len(state.history)
        state.best_weights = {name: value.clone() for name, value in state.chosen.state_dict().items()}


def evaluate(network: nn.Module, split: Split) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy of `network` on `split`."""
    logits = predict_logits(network, split.images)
    loss = float(functional.cross_entropy(logits, split.labels))
    return loss, float((logits.argmax(1) == split.labels).float().mean())


@torch.no_grad()
def predict_logits(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits [n, 10] of uint8 images [n, 28, 28], in float32 and without dropout."""
    network.eval()
    batches = (images[first : first + EVALUATION_BATCH] for first in range(0, len(images), EVALUATION_BATCH))
    return torch.cat([network(batch.float().div_(255)) for batch in batches])
