"""What each of two processes does in test_distributed.py; torchrun starts it with a folder to write into."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from tiny_training import TINY, changed, draw_bars

from training import fit as loop
from training.architectures import build
from training.data import Splits
from training.distributed import joined, one_before_the_others, rank
from training.errors import Interrupted
from training.recipes import Recipe

# 200 images in batches of 31: shares of 16 and 15, and a last batch of 14.
PLAIN = changed(TINY, batch_size=31, momentum=0.9, label_smoothing=0.1, l1=1e-4, weight_decay=0.01)
WHOLE = changed(
    TINY,
    epochs=6,
    optimiser="adamw",
    learning_rate=0.01,
    schedule="one-cycle",
    batch_norm=True,
    dropout=0.2,
    shift_pixels=1.0,
    weight_averaging=0.9,
    patience_epochs=2,
)


class Listener:
    """Notes what the process draws after each step, and can interrupt it there."""

    def __init__(self, interrupt_after: int = -1) -> None:
        self.drawn: list[float] = []
        self._interrupt_after = interrupt_after

    def on_start(self, step: int, steps: int) -> None:
        pass

    def on_step(self, step: int, loss: float, accuracy: float) -> None:
        self.drawn.append(float(torch.rand(())))
        if step == self._interrupt_after:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_epoch(self, result: object, step: int, step_losses: list[float]) -> None:
        pass


def train(recipe: Recipe, data: Splits, checkpoint: Path | None = None, interrupt_after: int = -1) -> dict:
    network, listener, stopped = build(recipe), Listener(interrupt_after), ""
    history: list[object] = []
    try:
        chosen, history = loop.fit(network, data, recipe, checkpoint=checkpoint, observers=[listener])
        network.load_state_dict(chosen.state_dict())
    except Interrupted as exc:
        stopped = str(exc)
    return {
        "weights": torch.cat([weight.detach().flatten() for weight in network.parameters()]),
        "history": [vars(result) for result in history],
        "drawn": listener.drawn,
        "stopped": stopped,
    }


def main() -> None:
    folder = Path(sys.argv[1])
    loop.REPORT_SECONDS = 0.0
    torch.set_num_threads(1)
    data = Splits(draw_bars(200, seed=1), draw_bars(100, seed=2))
    with joined(torch.device("cpu")):
        with one_before_the_others():
            found = (folder / "downloaded").exists()
            (folder / "downloaded").touch()
        checkpoint = folder / "checkpoint.pt" if rank() == 0 else None
        # The signal comes to the second process alone.
        done = {
            "plain": train(PLAIN, data),
            "whole": train(WHOLE, data),
            "interrupted": train(WHOLE, data, checkpoint, interrupt_after=10 if rank() == 1 else -1),
            "resumed": train(WHOLE, data, checkpoint),
            "found the download": found,
        }
        torch.save(done, folder / f"{rank()}.pt")


if __name__ == "__main__":
    main()
