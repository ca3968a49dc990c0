"""Two real processes train one network as one process does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import weights_of
from two_processes import PLAIN

from training.__main__ import main
from training.architectures import build
from training.data import Splits
from training.fit import fit
from training.runs import read_json

ROOT = Path(__file__).resolve().parents[2]


def torchrun(*words: str) -> subprocess.Popen[str]:
    """Start two processes that meet on a free port."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the first and the second process came to."""
    folder = tmp_path_factory.mktemp("both")
    process = torchrun(str(Path(__file__).with_name("two_processes.py")), str(folder))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    first, second = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    return first, second


def test_two_processes_take_the_steps_of_one_though_their_shares_differ(
    both: tuple[dict[str, Any], dict[str, Any]], bars: Splits
) -> None:
    network, history = fit(build(PLAIN), bars, PLAIN)
    ours = both[0]["plain"]
    assert torch.allclose(ours["weights"].double(), weights_of(network), atol=1e-5)
    for alone, together in zip(history, ours["history"], strict=True):
        assert together["training_loss"] == pytest.approx(alone.training_loss, abs=1e-5)
        assert together["training_accuracy"] == pytest.approx(alone.training_accuracy)
        assert together["validation_loss"] == pytest.approx(alone.validation_loss, abs=1e-4)


@pytest.mark.parametrize("case", ["plain", "whole", "resumed"])
def test_both_processes_hold_the_same_weights_and_figures(
    both: tuple[dict[str, Any], dict[str, Any]], case: str
) -> None:
    first, second = (process[case] for process in both)
    assert torch.equal(first["weights"], second["weights"])
    losses = [[epoch["validation_loss"] for epoch in process["history"]] for process in (first, second)]
    assert losses[0] == losses[1] != []


def test_each_process_augments_and_drops_on_its_own(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    first, second = (process["whole"]["drawn"] for process in both)
    assert set(first).isdisjoint(second)


def test_a_signal_to_one_process_stops_both_after_the_same_step(
    both: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    assert [process["interrupted"]["stopped"] for process in both] == ["stopped after step 10"] * 2


def test_a_stopped_and_resumed_training_of_two_gives_the_weights_of_an_unstopped_one(
    both: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    assert torch.equal(both[0]["resumed"]["weights"], both[0]["whole"]["weights"])


def test_one_process_of_a_machine_downloads_before_the_others_look(
    both: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    assert [process["found the download"] for process in both] == [False, True]


@pytest.mark.data
def test_torchrun_reaches_the_accuracy_of_one_process_and_is_stopped_by_ctrl_c_to_go_on(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = ["rotation-degrees", "shear-degrees", "scaling", "shift-pixels", "elastic-pixels"]
    sizes = ["--widths", "128", "--batch-size", "500", "--epochs", "2"]
    sizes += [word for field in still for word in (f"--{field}", "0")]
    words = ["fit", "mnist-mlp", "--no-ship", "--threads", "1", *sizes, "--data", str(data_folder), "--runs"]
    process = torchrun("-m", "training", *words, str(tmp_path / "two"))
    assert process.stdout is not None
    said = ""
    while "epoch 1/2" not in said:
        said += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=300)
    assert process.returncode != 0
    assert len(re.findall(r"^stopped after step", err, re.MULTILINE)) == 1, err
    assert (said + rest).count("2 processes") == (said + rest).count("epoch 1/2") == 1
    # One process can go on with what two began.
    assert main([*words, str(tmp_path / "two"), "--resume"]) == 0
    assert main([*words, str(tmp_path / "one")]) == 0
    capsys.readouterr()
    one, two = (
        [
            epoch["validation_accuracy"]
            for epoch in read_json(next((tmp_path / how).glob("mnist-mlp/*/metrics.json")))["epochs"]
        ]
        for how in ("one", "two")
    )
    assert two == pytest.approx(one, abs=0.01)
    assert len(two) == 2
