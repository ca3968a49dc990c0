"""How far a training is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol, Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from rich.console import Console

    from training.fit import Observer
    from training.state import EpochResult

LINE_SECONDS: Final = 30.0


class Watcher(Protocol):
    """An observer that has something to open and close."""

    def __enter__(self) -> Observer: ...
    def __exit__(self, *_: object) -> None: ...


def watch(console: Console, epochs: int) -> Watcher:
    """Return what suits the console."""
    return ProgressBar(console, epochs) if console.is_terminal else ProgressLines(console, epochs)


def describe_epoch(result: EpochResult, epochs: int) -> str:
    """Return one line with the figures of an epoch."""
    line = (
        f"epoch {result.epoch}/{epochs}  {result.seconds:.1f} s  "
        f"training loss {result.training_loss:.4f}, accuracy {result.training_accuracy:.2%}"
    )
    if result.validation_loss is not None:
        line += f"  validation loss {result.validation_loss:.4f}, accuracy {result.validation_accuracy:.2%}"
    return line


class ProgressBar:
    """A bar with the time left and the running figures; every finished epoch leaves a line above it."""

    def __init__(self, console: Console, epochs: int) -> None:
        self._epochs = epochs
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
        )
        self._task = self._progress.add_task("training", total=None, figures="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_start(self, step: int, steps: int, /) -> None:
        self._progress.reset(self._task, total=steps, completed=step)

    def on_step(self, step: int, loss: float, accuracy: float, /) -> None:
        figures = f"loss {loss:.4f}  accuracy {accuracy:.2%}"
        self._progress.update(self._task, completed=step, figures=figures)

    def on_epoch(self, result: EpochResult, _step: int, _step_losses: list[float], /) -> None:
        self._progress.console.print(describe_epoch(result, self._epochs), highlight=False)


class ProgressLines:
    """A line for every epoch, and one every half minute between."""

    def __init__(self, console: Console, epochs: int) -> None:
        self._console = console
        self._epochs = epochs
        self._first_step = self._steps = 0
        self._began = self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def on_start(self, step: int, steps: int, /) -> None:
        self._first_step, self._steps = step, steps
        self._began = self._said = time.monotonic()

    def on_step(self, step: int, loss: float, accuracy: float, /) -> None:
        now = time.monotonic()
        if now - self._said < LINE_SECONDS:
            return
        left = (now - self._began) / (step - self._first_step) * (self._steps - step)
        figures = f"loss {loss:.4f}  accuracy {accuracy:.2%}"
        self._say(f"step {step}/{self._steps}  {figures}  about {left / 60:.0f} min left")

    def on_epoch(self, result: EpochResult, _step: int, _step_losses: list[float], /) -> None:
        self._say(describe_epoch(result, self._epochs))

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        self._console.print(line, highlight=False, soft_wrap=True)
