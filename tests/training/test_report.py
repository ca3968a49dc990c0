"""What a run leaves behind can be opened, and shows what happened."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.progress import ProgressBar, ProgressLines, watch
from training.report import EventWriter, plot_confusion, plot_curves, write_metrics
from training.runs import read_json
from training.state import EpochResult

if TYPE_CHECKING:
    from pathlib import Path

HISTORY = [
    EpochResult(1, 2.5, 0.1, 0.9, 0.7, 0.8, 0.75),
    EpochResult(2, 2.4, 0.1, 0.5, 0.85, 0.4, 0.875),
    EpochResult(3, 2.4, 0.1, 0.3, 0.95, 0.6, 0.85),
]
WITHOUT_VALIDATION = [EpochResult(1, 2.5, 0.1, 0.9, 0.7, None, None)]


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}


def test_events_hold_every_step_and_every_epoch(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as events:
        events.on_start(0, 6)
        events.on_step(1, 0.9, 0.5)
        events.on_epoch(HISTORY[0], 3, [1.0, 0.9, 0.8])
        events.on_epoch(WITHOUT_VALIDATION[0], 6, [0.6, 0.5, 0.4])
    read = EventAccumulator(str(tmp_path)).Reload()
    steps = [(event.step, round(event.value, 3)) for event in read.Scalars("loss/training_step")]
    assert steps == [(0, 1.0), (1, 0.9), (2, 0.8), (3, 0.6), (4, 0.5), (5, 0.4)]
    assert [event.step for event in read.Scalars("loss/training")] == [3, 6]
    assert [event.value for event in read.Scalars("accuracy/validation")] == [0.75]
    assert [event.value for event in read.Scalars("rate/learning")] == pytest.approx([0.1, 0.1])


def test_metrics_are_json_with_every_epoch(tmp_path: Path) -> None:
    write_metrics(tmp_path, HISTORY, {"calibration": None})
    metrics = read_json(tmp_path / "metrics.json")
    assert [epoch["validation_accuracy"] for epoch in metrics["epochs"]] == [0.75, 0.875, 0.85]
    assert metrics["calibration"] is None


@pytest.mark.parametrize(("history", "validated"), [(HISTORY, True), (WITHOUT_VALIDATION, False)])
def test_curves_show_validation_where_there_is_one(
    tmp_path: Path, history: list[EpochResult], *, validated: bool
) -> None:
    plot_curves(history, "tiny", tmp_path / "curves.png")
    assert ((0x0B, 0x62, 0xA4) in colours(tmp_path / "curves.png")) is validated


def test_the_confusion_matrix_colours_errors_alone(tmp_path: Path) -> None:
    labels = [str(digit) for digit in range(10)]
    plot_confusion(np.diag(np.full(10, 50)), labels, "none", tmp_path / "none.png")
    confusion = np.diag(np.full(10, 50))
    confusion[4, 9] = 7
    plot_confusion(confusion, labels, "one", tmp_path / "one.png")
    darkest = (127, 39, 4)  # the far end of the colour map
    assert darkest not in colours(tmp_path / "none.png")
    assert darkest in colours(tmp_path / "one.png")


def test_off_a_terminal_progress_is_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.progress.LINE_SECONDS", 0.0)
    out = io.StringIO()
    with watch(Console(file=out), epochs=3) as watcher:
        assert isinstance(watcher, ProgressLines)
        watcher.on_start(10, 30)
        watcher.on_step(20, 0.51234, 0.8)
        watcher.on_epoch(HISTORY[1], 20, [])
    first, second = out.getvalue().splitlines()
    assert first.startswith("step 20/30  loss 0.5123  accuracy 80.00%  about 0 min left")
    assert second == (
        "epoch 2/3  2.4 s  training loss 0.5000, accuracy 85.00%  validation loss 0.4000, accuracy 87.50%"
    )


def test_between_epochs_lines_are_rare() -> None:
    out = io.StringIO()
    with watch(Console(file=out), epochs=3) as watcher:
        watcher.on_start(0, 30)
        watcher.on_step(1, 0.5, 0.8)
    assert out.getvalue() == ""


def test_on_a_terminal_progress_is_a_bar_with_time_left_loss_and_accuracy() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, legacy_windows=False)
    with watch(console, epochs=3) as watcher:
        assert isinstance(watcher, ProgressBar)
        watcher.on_start(0, 30)
        watcher.on_step(15, 0.51234, 0.8)
        watcher.on_epoch(HISTORY[1], 20, [])
    shown = out.getvalue()
    assert "━" in shown
    assert "50%" in shown
    assert "0:00:00" in shown or "-:--:--" in shown
    assert "loss 0.5123  accuracy 80.00%" in shown
    assert "validation loss 0.4000" in shown
