"""The commands end to end, as a user starts them, on the real data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from training.artifacts import read_artifact
from training.data import load_test
from training.model_page import get_table
from training.runs import read_json

pytestmark = pytest.mark.data  # trains on the real images

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--widths", "16", "--batch-size", "1000", "--elastic-pixels", "0", "--epochs", "2", "--threads", "1"]


def command(folder: Path, data: Path, *words: str) -> list[str]:
    places = ["--data", str(data), "--models", str(folder / "models"), "--runs", str(folder / "runs")]
    return [
        sys.executable,
        "-u",
        "-m",
        "training",
        "fit",
        "mnist-mlp",
        "--name",
        "small",
        *SMALL,
        *places,
        *words,
    ]


def start(folder: Path, data: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(folder, data, *words),
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    return out, err


def checkpoint_weights(folder: Path) -> dict[str, torch.Tensor]:
    (checkpoint,) = (folder / "runs" / "small").glob("*/checkpoint.pt")
    content = torch.load(checkpoint, weights_only=True)
    return dict(content["state"]["average"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    """A folder in which one training ran through and shipped."""
    folder = tmp_path_factory.mktemp("whole")
    out, _ = finish(start(folder, data_folder))
    assert "epoch 2/2" in out
    return folder


def test_fit_leaves_an_artifact_a_ledger_entry_and_a_run_folder(whole: Path) -> None:
    artifact = read_artifact("small", whole / "models")
    ledger = get_table((whole / "models" / "README.md").read_text(), "ledger")
    assert ledger.count(f"| `small` | `{artifact.version}` |") == 1
    (run,) = (whole / "runs" / "small").iterdir()
    names = {path.name for path in run.iterdir() if not path.name.startswith("events")}
    assert names == {
        "checkpoint.pt",
        "confusion.png",
        "curves.png",
        "lock",
        "metrics.json",
        "run.json",
        "shipped.json",
    }
    assert any(path.name.startswith("events") for path in run.iterdir())
    assert len(read_json(run / "metrics.json")["epochs"]) == 2
    assert artifact.metadata["commit"] == read_json(run / "run.json")["commit"]


def test_evaluate_prints_the_accuracy_and_writes_a_label_a_line(
    whole: Path, data_folder: Path, tmp_path: Path
) -> None:
    predictions = tmp_path / "predictions.txt"
    places = [
        "--models",
        str(whole / "models"),
        "--data",
        str(data_folder),
        "--predictions",
        str(predictions),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "training", "evaluate", "small", *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    labels = load_test("mnist", data_folder).labels.numpy()
    share = float((np.array(predictions.read_text().split(), dtype=int) == labels).mean())
    assert share == read_artifact("small", whole / "models").number("test_accuracy")
    assert f"test accuracy        {share:.2%} (" in done.stdout


def test_ctrl_c_leaves_a_checkpoint_from_which_resume_reaches_the_same_weights(
    whole: Path, data_folder: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, data_folder, "--no-ship")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/2"):
            process.send_signal(signal.SIGINT)
            break
    _, err = finish(process, status=130)
    assert "stopped after step" in err
    assert "Traceback" not in err
    out, _ = finish(start(tmp_path, data_folder, "--no-ship", "--resume"))
    assert "Not shipped" in out
    assert not (tmp_path / "models").exists()
    resumed, unstopped = checkpoint_weights(tmp_path), checkpoint_weights(whole)
    assert all(torch.equal(resumed[name], unstopped[name]) for name in unstopped)


def test_killed_outright_it_resumes_from_its_last_epoch(
    data_folder: Path, whole: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, data_folder, "--no-ship", "--epochs", "2")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/2"):
            break
    process.kill()
    process.communicate()
    before = list((tmp_path / "runs" / "small").glob("*/checkpoint.pt"))
    if not before:  # killed between the line and the checkpoint: nothing is there to resume, and it says so
        _, err = finish(start(tmp_path, data_folder, "--no-ship", "--resume"), status=1)
        assert "no unfinished run" in err
        return
    finish(start(tmp_path, data_folder, "--no-ship", "--resume"))
    resumed, unstopped = checkpoint_weights(tmp_path), checkpoint_weights(whole)
    assert all(torch.equal(resumed[name], unstopped[name]) for name in unstopped)


def test_a_shipped_run_is_not_resumed(whole: Path, data_folder: Path) -> None:
    _, err = finish(start(whole, data_folder, "--resume"), status=1)
    assert "small has no unfinished run" in err


def test_cuda_is_refused_where_there_is_none(data_folder: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    _, err = finish(start(tmp_path, data_folder, "--device", "cuda"), status=1)
    assert err == "PyTorch finds no CUDA device here: use --device cpu or auto.\n"
    assert not (tmp_path / "runs").exists()
