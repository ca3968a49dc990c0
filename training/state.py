"""All that training changes: in memory, and on disk where an interrupted training goes on from it."""

from __future__ import annotations

import copy
import itertools
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from training import distributed
from training.errors import CheckpointNotWritten, CheckpointRejected
from training.recipes import lost_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from training.recipes import Recipe


@dataclass(frozen=True)
class EpochResult:
    """What one pass over the training images came to."""

    epoch: int  # counted from 1
    seconds: float
    learning_rate: float  # at the last step
    training_loss: float  # means over the epoch, while the weights moved and on augmented images
    training_accuracy: float
    validation_loss: float | None  # None without a validation split
    validation_accuracy: float | None


@dataclass
class State:
    """All that training changes. Saved and loaded, it goes on as if it had never stopped."""

    network: nn.Module
    model: nn.Module  # the network as it is trained: wrapped where several processes share the work
    optimiser: torch.optim.Optimizer
    average: nn.Module | None  # holds moving averages of all weights and normalisation figures
    teachers: Sequence[Callable[[Tensor], Tensor]] = ()  # pixels to probabilities; not among what is saved
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
        return self.network if self.average is None else self.average

    def finish(self) -> nn.Module:
        """Return the network of a finished training, with its best weights where it remembers them."""
        if self.best_weights is not None:
            self.chosen.load_state_dict(self.best_weights)
        return self.chosen.eval()

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the averaged network towards the trained one.

        The first steps are averaged over fewer: a long average would drag the first weights along for long.
        """
        if self.average is None:
            return
        decay = min(decay, (1 + self.step) / (10 + self.step))
        averaged, current = _floats(self.average), _floats(self.network)
        torch._foreach_lerp_(averaged, current, 1 - decay)

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
        device = next(self.network.parameters()).device
        self.losses, self.correct = saved["losses"].to(device), saved["correct"].to(device)
        self.seconds = saved["seconds"]
        self.best_epoch, self.best_weights = saved["best_epoch"], saved["best_weights"]


def start(network: nn.Module, recipe: Recipe) -> State:
    """Return the state before the first step."""
    average = copy.deepcopy(network) if recipe.weight_averaging else None
    return State(network, distributed.parallel(network), _optimiser(network, recipe), average)


def _floats(network: nn.Module) -> list[Tensor]:
    tensors = itertools.chain(network.parameters(), network.buffers())
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]


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
    if recipe.optimiser == "adam":
        return torch.optim.Adam(groups, lr=rate, fused=True)
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def save_checkpoint(path: Path, recipe: Recipe, state: State) -> None:
    """Write all of the state; whoever reads `path` finds the old checkpoint or the new, never half of one.

    Raises:
        CheckpointNotWritten: the disk takes no more.
    """
    temporary = path.with_suffix(".tmp")
    try:
        torch.save({"recipe": asdict(recipe), "state": state.as_dict()}, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as exc:  # PyTorch's own writer raises the latter
        temporary.unlink(missing_ok=True)
        raise CheckpointNotWritten(
            f"{path} could not be written: is the disk full? The checkpoint before it is whole, if there was "
            "one: make room and go on with --resume."
        ) from exc


def load_checkpoint(path: Path, recipe: Recipe) -> dict[str, Any]:
    """Return what `save_checkpoint` wrote of the state, on the CPU.

    Raises:
        CheckpointRejected: the file is damaged, or was written for a recipe with other fields.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        saved_recipe, state = content["recipe"], content["state"]
    except Exception as exc:
        raise CheckpointRejected(
            f"{path} is not a whole checkpoint ({exc}). Start without --resume."
        ) from exc
    mine = asdict(recipe)
    # A field that recipes gained since the checkpoint was written had its default then; one that they lost,
    # and that did something, has no match now.
    theirs = {entry.name: entry.default for entry in fields(recipe)} | saved_recipe
    different = [name for name in mine if theirs[name] != mine[name]] + lost_fields(saved_recipe)
    if different:
        raise CheckpointRejected(
            f"{path} was trained with other values of {', '.join(different)}: give the same, or start "
            "without --resume."
        )
    return dict(state)
