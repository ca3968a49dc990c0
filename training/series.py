"""How far a series of trainings is: two bars on a terminal, and everywhere a line for each that is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from rich.console import Console

    from training.state import EpochResult


class Series:
    """Shows the whole series and the training under way, of which it is an observer."""

    def __init__(self, console: Console, title: str, total: int | None = None) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._whole = self._progress.add_task(title, total=total, figures="")
        self._current = self._progress.add_task("", total=None, figures="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print a line as it is, above the bars."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def begin(self, label: str) -> None:
        """Name the next training."""
        self._progress.reset(self._current, total=None, description=label, figures="")

    def count(self, done: int, figures: str = "") -> None:
        """Show how many trainings of the series are done, and what they came to so far."""
        self._progress.update(self._whole, completed=done, figures=figures)

    def expect(self, total: int) -> None:
        """Say how many trainings the series has."""
        self._progress.update(self._whole, total=total)

    def advance(self) -> None:
        """Show that one more training is done."""
        self._progress.advance(self._whole)

    def on_start(self, step: int, steps: int, /) -> None:
        self._progress.update(self._current, total=steps, completed=step)

    def on_step(self, step: int, loss: float, accuracy: float, /) -> None:
        figures = f"loss {loss:.4f}  accuracy {accuracy:.2%}"
        self._progress.update(self._current, completed=step, figures=figures)

    def on_epoch(self, _result: EpochResult, _step: int, _step_losses: list[float], /) -> None:
        """Nothing: a training leaves one line when it is done."""
