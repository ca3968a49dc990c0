"""Training that is killed, runs out of disk, or ships twice at once: one whole artifact, or a sentence."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from real_server import ROOT

SHIP = ROOT / "tests" / "reliability" / "ship_and_die.py"
NEVER = 0


def ship(folder: Path, seed: int, dies_before: int = NEVER) -> subprocess.Popen[str]:
    command = [sys.executable, str(SHIP), str(folder), str(seed), str(dies_before)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, text=True)


def served_version(folder: Path) -> str:
    """The version of the one artifact in the folder, which the service finds fit to serve."""
    done = subprocess.run(
        [sys.executable, "-m", "service", "check", "--json"],
        cwd=ROOT,
        env={**os.environ, "DIGITSERVE_MODELS_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    checked = json.loads(done.stdout)
    assert checked["problems"] == []
    [model] = checked["models"]
    return str(model["version"])


@pytest.mark.reliability
def test_killed_while_it_ships_it_leaves_the_old_artifact_or_the_new(tmp_path: Path) -> None:
    assert ship(tmp_path, seed=1).wait(timeout=120) == 0
    old = served_version(tmp_path)
    for dies_before in (1, 2):
        assert ship(tmp_path, seed=2, dies_before=dies_before).wait(timeout=120) == -signal.SIGKILL
        assert served_version(tmp_path) == old
    assert ship(tmp_path, seed=2).wait(timeout=120) == 0
    assert served_version(tmp_path) != old


@pytest.mark.reliability
def test_two_that_ship_at_once_leave_one_of_their_artifacts_whole(tmp_path: Path) -> None:
    for attempt in range(2):
        both = [ship(tmp_path, seed=2 * attempt + n) for n in range(2)]
        assert [process.wait(timeout=120) for process in both] == [0, 0]
        served_version(tmp_path)
    assert not [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"]


@pytest.mark.reliability
@pytest.mark.data
def test_out_of_disk_training_stops_with_a_sentence(data_folder: Path, tmp_path: Path) -> None:
    """A file may have 500 kB: the log fits, the checkpoint does not."""
    runs = tmp_path / "runs"
    places = ["--data", str(data_folder), "--models", str(tmp_path / "models"), "--runs", str(runs)]
    small = ["--batch-size", "1000", "--elastic-pixels", "0", "--epochs", "1", "--threads", "1", "--no-ship"]
    command = [sys.executable, "-m", "training", "fit", "mnist-mlp", "--name", "small", *small, *places]
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (500_000, 500_000))
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1, err
    assert "checkpoint.pt could not be written" in err
    assert "Traceback" not in err
    assert not list(runs.glob("**/*.tmp"))
