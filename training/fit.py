"""The training loop: a network, the data on its device, and a recipe give trained weights."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.augment import augment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from training.data import Split
    from training.recipes import Recipe

WARM_UP_SHARE = 0.15  # of a one-cycle schedule
REPORT_SECONDS = 0.2
EVALUATION_BATCH = 1_000


class TrainingDiverged(Exception):
    """The loss is no longer a number."""


class Interrupted(Exception):
    """Somebody asked to stop; the checkpoint is written."""


class CheckpointRejected(Exception):
    """A checkpoint cannot be read, or belongs to another recipe."""


@dataclass(frozen=True)
class EpochResult:
    """What one pass over the training images came to. Validation figures are None without a validation split."""

    epoch: int  # counted from 1
    seconds: float
    learning_rate: float  # at the last step
    training_loss: float  # means over the epoch, while the weights moved and on augmented images
    training_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None


class Observer(Protocol):
    """Watches a training run: draws a progress bar, writes events."""

    def on_step(self, step: int, loss: float, accuracy: float) -> None:
        """Hear, a few times a second, how many steps are done and the epoch's running loss and accuracy."""

    def on_epoch(self, result: EpochResult, step: int, step_losses: list[float]) -> None:
        """Hear the figures of a finished epoch and the loss at each of its steps."""


@dataclass
class State:
    """All that training changes. Saved and loaded, it goes on as if it had never stopped."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None
    step: int = 0
    history: list[EpochResult] = field(default_factory=list)
    # of the epoch under way
    losses: Tensor = field(default_factory=lambda: torch.empty(0))  # [steps of an epoch]
    correct: Tensor = field(default_factory=lambda: torch.zeros(()))
    seconds: float = 0.0
    # for early stopping: the epoch with the lowest validation loss, and its weights
    best_epoch: int = 0
    best_weights: dict[str, Tensor] | None = None

    @property
    def chosen(self) -> nn.Module:
        """The network that is validated and exported: the averaged one where the recipe averages."""
        return self.network if self.average is None else self.average.module

    def as_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "step": self.step,
            "history": [asdict(result) for result in self.history],
            "losses": self.losses,
            "correct": self.correct,
            "seconds": self.seconds,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self.step = saved["step"]
        self.history = [EpochResult(**result) for result in saved["history"]]
        self.losses, self.correct = saved["losses"], saved["correct"]
        self.seconds = saved["seconds"]
        self.best_epoch, self.best_weights = saved["best_epoch"], saved["best_weights"]


def fit(
    network: nn.Module,
    training: Split,
    validation: Split,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    observer: Observer | None = None,
) -> tuple[nn.Module, list[EpochResult]]:
    """Train `network` in place as the recipe says; return the network to export and every epoch's figures.

    Network and splits are on one device. If `checkpoint` exists, training goes on from it, also in the middle of
    an epoch; it is written after every epoch and when a signal asks to stop. Nothing random outlives a step:
    every step draws from its own seed, made of the recipe's seed and the step's number, so that an interrupted
    and resumed training gives exactly the weights of an uninterrupted one.

    Raises:
        TrainingDiverged: the loss is not finite. The checkpoint keeps the last good epoch.
        Interrupted: SIGINT or SIGTERM came; the step under way was finished and the checkpoint written.
        CheckpointRejected: `checkpoint` is damaged or another recipe's.
    """
    state = start(network, recipe)
    if checkpoint is not None and checkpoint.exists():
        state.restore(load_checkpoint(checkpoint, recipe, training.images.device))
    with _deferred_signals() as stop_requested:
        while not _finished(state, recipe):
            interrupted = _train_epoch(state, training, recipe, observer, stop_requested)
            if not interrupted:
                _close_epoch(state, len(training), validation, recipe, observer)
            if checkpoint is not None:
                save_checkpoint(checkpoint, recipe, state)
            if stop_requested():
                raise Interrupted(f"stopped after step {state.step}")
    if state.best_weights is not None:
        state.chosen.load_state_dict(state.best_weights)
    return state.chosen.eval(), state.history


def start(network: nn.Module, recipe: Recipe) -> State:
    """Return the state before the first step."""
    average = None
    if recipe.weight_averaging:
        average = AveragedModel(
            network, multi_avg_fn=get_ema_multi_avg_fn(recipe.weight_averaging), use_buffers=True
        )
    return State(network, _optimiser(network, recipe), average)


def _optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay falls on the weights alone: biases and normalisation are left free."""
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    rate = recipe.learning_rate
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, fused=True)
    optimiser = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser]
    return optimiser(groups, lr=rate, fused=True)


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
    return math.ceil(images / recipe.batch_size)


def _finished(state: State, recipe: Recipe) -> bool:
    done = len(state.history)
    tired = recipe.patience_epochs and done - state.best_epoch >= recipe.patience_epochs
    return done >= recipe.epochs or bool(tired)


def _train_epoch(
    state: State,
    training: Split,
    recipe: Recipe,
    observer: Observer | None,
    stop_requested: Callable[[], bool],
) -> bool:
    """Take the steps that the epoch under way still lacks; return whether it was left early."""
    steps = steps_per_epoch(recipe, len(training))
    epoch, first = divmod(state.step, steps)
    device = training.images.device
    if first == 0:
        state.losses, state.correct = torch.zeros(steps, device=device), torch.zeros((), device=device)
        state.seconds = 0.0
    order = _order(recipe, epoch, len(training)).to(device)
    began = reported = time.monotonic()
    before = state.seconds
    state.network.train()
    for index in range(first, steps):
        places = order[index * recipe.batch_size : (index + 1) * recipe.batch_size]
        rate = learning_rate_at(recipe, state.step / (steps * recipe.epochs))
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        _seed(recipe.seed, state.step, device)
        loss, correct = _take_step(state, training.images[places], training.labels[places], recipe)
        state.losses[index] = loss
        state.correct += correct
        state.step += 1
        now = time.monotonic()
        state.seconds = before + now - began
        if now - reported > REPORT_SECONDS or index == steps - 1:
            reported = now
            _report_step(state, index + 1, recipe, len(training), observer)
        if stop_requested() and index < steps - 1:
            return True
    return False


def _take_step(state: State, images: Tensor, labels: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Move the weights once; return the batch's loss and how many images were right, both on the device."""
    pixels = augment(images.float().div_(255), recipe)
    with torch.autocast(
        images.device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"
    ):
        logits = state.network(pixels)
    logits = logits.float()
    loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    total = loss + recipe.l1 * _absolute_sum(state.network) if recipe.l1 else loss
    state.optimiser.zero_grad(set_to_none=True)
    total.backward()
    state.optimiser.step()
    if state.average is not None:
        state.average.update_parameters(state.network)
    return loss.detach(), (logits.detach().argmax(1) == labels).sum()


def _absolute_sum(network: nn.Module) -> Tensor:
    return torch.stack([weight.abs().sum() for weight in network.parameters() if weight.ndim > 1]).sum()


def _report_step(
    state: State, steps: int, recipe: Recipe, images: int, observer: Observer | None
) -> None:
    loss = float(state.losses[:steps].mean())
    if not math.isfinite(loss):
        raise TrainingDiverged(
            f"The loss is no longer a number at step {state.step}: try a learning rate well below "
            f"{recipe.learning_rate:g}."
        )
    if observer is not None:
        seen = min(steps * recipe.batch_size, images)
        observer.on_step(state.step, loss, float(state.correct) / seen)


def _close_epoch(
    state: State, images: int, validation: Split, recipe: Recipe, observer: Observer | None
) -> None:
    loss, accuracy = evaluate(state.chosen, validation) if len(validation) else (None, None)
    result = EpochResult(
        epoch=len(state.history) + 1,
        seconds=state.seconds,
        learning_rate=state.optimiser.param_groups[0]["lr"],
        training_loss=float(state.losses.mean()),
        training_accuracy=float(state.correct) / images,
        validation_loss=loss,
        validation_accuracy=accuracy,
    )
    state.history.append(result)
    if recipe.patience_epochs and loss is not None:
        _remember_best(state, loss)
    if observer is not None:
        observer.on_epoch(result, state.step, state.losses.tolist())


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
    return torch.cat([network(batch.float().div_(255)) for batch in images.split(EVALUATION_BATCH)])


def _order(recipe: Recipe, epoch: int, images: int) -> Tensor:
    if not recipe.shuffle:
        return torch.arange(images)
    generator = torch.Generator().manual_seed(_mix(recipe.seed, epoch, 1))
    return torch.randperm(images, generator=generator)


def _seed(seed: int, step: int, device: torch.device) -> None:
    """Seed the device's generator alone: torch.manual_seed looks for every backend, 0.25 ms a step."""
    if device.type == "cuda":
        torch.cuda.manual_seed(_mix(seed, step, 0))
    else:
        torch.default_generator.manual_seed(_mix(seed, step, 0))


def _mix(*numbers: int) -> int:
    """Return 32 well-mixed bits: PyTorch's CPU generator looks at no more of its seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextlib.contextmanager
def _deferred_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a question that can be asked between two steps.

    A signal that broke into the middle of a step would leave half of the weights moved. The second one acts as
    it always did, for who cannot wait.
    """
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received.is_set
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(_number: int, _frame: object) -> None:
        received.set()
        restore()

    for number in previous:
        signal.signal(number, note)
    try:
        yield received.is_set
    finally:
        restore()


def save_checkpoint(path: Path, recipe: Recipe, state: State) -> None:
    """Write all of the state; whoever reads `path` finds the old checkpoint or the new, never half of one."""
    temporary = path.with_suffix(".tmp")
    torch.save({"recipe": asdict(recipe), "state": state.as_dict()}, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path, recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """Return what `save_checkpoint` wrote of the state.

    Raises:
        CheckpointRejected: the file is damaged, or was written for a recipe with other fields.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        saved_recipe, state = content["recipe"], content["state"]
    except Exception as exc:
        raise CheckpointRejected(f"{path} is not a whole checkpoint ({exc}). Start without --resume.") from exc
    mine = asdict(recipe)
    different = [name for name in mine if saved_recipe.get(name) != mine[name]]
    if different:
        raise CheckpointRejected(
            f"{path} was trained with other values of {', '.join(different)}: give the same, or start without "
            "--resume."
        )
    return dict(state)

