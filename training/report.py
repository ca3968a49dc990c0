"""What a run leaves to look at: TensorBoard events, metrics as JSON, curves and confusion matrix as PNG."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Self

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch.utils.tensorboard import SummaryWriter

from training.runs import METRICS, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from training.state import EpochResult

TRAINING_COLOUR: Final = "#8a8f98"
VALIDATION_COLOUR: Final = "#0b62a4"
STYLE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


class EventWriter:
    """Writes TensorBoard events as training goes: the loss at every step, the rest by epoch."""

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def on_start(self, _step: int, _steps: int, /) -> None:
        """Nothing: events carry their own step."""

    def on_step(self, _step: int, _loss: float, _accuracy: float, /) -> None:
        """Nothing: every step's loss comes with its epoch."""

    def on_epoch(self, result: EpochResult, step: int, step_losses: list[float], /) -> None:
        for offset, loss in enumerate(step_losses, start=step - len(step_losses)):
            self._writer.add_scalar("loss/training_step", loss, offset)
        for name, value in asdict(result).items():
            if value is not None and name not in {"epoch", "seconds"}:
                split, _, what = name.partition("_")
                self._writer.add_scalar(f"{what}/{split}", value, step)
        self._writer.flush()


def write_metrics(folder: Path, history: list[EpochResult], further: dict[str, object]) -> None:
    """Write metrics.json: every epoch's figures, and what else the run came to."""
    write_json(folder / METRICS, {"epochs": [asdict(result) for result in history], **further})


def plot_curves(history: list[EpochResult], title: str, path: Path) -> None:
    """Draw loss and accuracy by epoch, training beside validation, the lowest validation loss marked."""
    epochs = [result.epoch for result in history]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4), layout="constrained")
        figure.suptitle(title)
        for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            marker = "o" if len(epochs) == 1 else None
            for split, colour in (("training", TRAINING_COLOUR), ("validation", VALIDATION_COLOUR)):
                values = [getattr(result, f"{split}_{what}") for result in history]
                if None not in values:
                    scale = 100 if what == "accuracy" else 1
                    axes.plot(
                        epochs, [value * scale for value in values], color=colour, label=split, marker=marker
                    )
            axes.set_xlabel("epoch")
            axes.set_ylabel("cross-entropy" if what == "loss" else "accuracy, %")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend()
        _mark_lowest(figure, history)
        figure.savefig(path, dpi=120)


def _mark_lowest(figure: Figure, history: list[EpochResult]) -> None:
    losses = {r.epoch: r.validation_loss for r in history if r.validation_loss is not None}
    if losses:
        best = min(losses, key=losses.__getitem__)
        figure.axes[0].axvline(best, color=VALIDATION_COLOUR, linewidth=0.8, linestyle=":")
        figure.axes[0].plot(best, losses[best], "o", color=VALIDATION_COLOUR)
        figure.axes[0].annotate(
            f"{losses[best]:.4f} at epoch {best}",
            (best, losses[best]),
            xytext=(-6, 10),
            textcoords="offset points",
            ha="right",
            color=VALIDATION_COLOUR,
        )


def plot_confusion(confusion: NDArray[np.int64], labels: list[str], title: str, path: Path) -> None:
    """Draw the counts of true class (row) against predicted class (column); colour shows the errors alone.

    On one scale the diagonal would drown everything else.
    """
    errors = confusion.astype(float)
    np.fill_diagonal(errors, np.nan)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(7.5, 7), layout="constrained")
        axes = figure.subplots()
        top = max(float(np.nanmax(errors)), 1.0)
        axes.imshow(errors, cmap="Oranges", vmin=0, vmax=top)
        for row, column in np.ndindex(*confusion.shape):
            count = int(confusion[row, column])
            if count:
                dark = row != column and errors[row, column] > 0.6 * top
                axes.text(
                    column,
                    row,
                    str(count),
                    ha="center",
                    va="center",
                    fontsize=9,
                    fontweight="bold" if row == column else "normal",
                    color="white" if dark else "#222222",
                )
        turned = any(len(label) > 2 for label in labels)
        axes.set_xticks(
            range(len(labels)), labels, rotation=45 if turned else 0, ha="right" if turned else "center"
        )
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(f"{title}: {confusion.trace() / confusion.sum():.2%} right")
        figure.savefig(path, dpi=120)
