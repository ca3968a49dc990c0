"""The commands end to end, as a user starts them, on the real data."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.__main__ import main
from training.artifacts import list_artifacts, read_artifact
from training.data import Split, load_test
from training.errors import DataUnavailable
from training.page_tables import read_table
from training.recipes import RECIPES
from training.runs import read_json

pytestmark = pytest.mark.data  # trains on the real images

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--widths", "16", "--batch-size", "1000", "--elastic-pixels", "0", "--epochs", "2", "--threads", "1"]


def words(folder: Path, data: Path, *more: str) -> list[str]:
    places = ["--data", str(data), "--models", str(folder / "models"), "--runs", str(folder / "runs")]
    return ["fit", "mnist-mlp", "--name", "small", *SMALL, *places, *more]


def start(folder: Path, data: Path, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "training", *words(folder, data, *more)],
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
    assert main(words(folder, data_folder)) == 0
    return folder


def test_fit_leaves_an_artifact_a_ledger_entry_and_a_run_folder(whole: Path) -> None:
    artifact = read_artifact("small", whole / "models")
    ledger = read_table(whole / "models" / "README.md", "ledger")
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
    whole: Path, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions = tmp_path / "predictions.txt"
    places = ["--models", str(whole / "models"), "--data", str(data_folder), "--plots", str(tmp_path)]
    assert main(["evaluate", "small", *places, "--predictions", str(predictions)]) == 0
    labels = load_test("mnist", data_folder).labels.numpy()
    share = float((np.array(predictions.read_text().split(), dtype=int) == labels).mean())
    assert share == read_artifact("small", whole / "models").number("test_accuracy")
    printed = capsys.readouterr().out
    assert f"test accuracy        {share:.2%} (" in printed
    assert "hold the label, made for 99%" in printed
    for family in ("fashion-mnist", "uniform noise", "checkerboards", "letters"):
        assert family in printed
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "reliability.png",
        "mistakes.png",
        "coverage.png",
        "typicality.png",
    }


def test_calibrate_exports_the_same_weights_again_without_reading_the_test_set(
    whole: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "again"
    shutil.copytree(whole, folder)
    before = read_artifact("small", folder / "models")
    small = replace(RECIPES["mnist-mlp"], name="small", widths=(16,))
    monkeypatch.setitem(RECIPES, "small", replace(small, learning_rate=0.5))  # changed since it was trained
    test = load_test("mnist", data_folder)
    unlabelled = Split(test.images, torch.full_like(test.labels, -1))
    monkeypatch.setattr("training.ship.load_test", lambda *_: unlabelled)
    places = ["--models", str(folder / "models"), "--data", str(data_folder), "--runs", str(folder / "runs")]
    assert main(["calibrate", "small", *places, "--threads", "1"]) == 0
    after = read_artifact("small", folder / "models")
    assert after.version != before.version
    assert after.number("test_accuracy") == before.number("test_accuracy")
    images = test.images[:500].numpy()
    assert np.array_equal(
        before.answer(images).probabilities.argmax(1), after.answer(images).probabilities.argmax(1)
    )
    ledger = read_table(folder / "models" / "README.md", "ledger")
    assert f"| `small` | `{after.version}` | not again: the weights of `{before.version}` |" in ledger
    assert main(["calibrate", "small", *places, "--threads", "1"]) == 0  # and again, from the new version


def test_what_shipping_needs_is_asked_for_before_a_training_of_hours(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Doubt is judged on the other dataset's pictures too."""

    def load(dataset: str, data: Path | None) -> Split:
        if dataset == "fashion-mnist":
            raise DataUnavailable("FashionMNIST is not here.")
        return load_test(dataset, data)

    monkeypatch.setattr("training.ship.load_test", load)
    assert main(words(tmp_path, data_folder, "--epochs", "1")) == 1
    assert "FashionMNIST is not here" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_an_artifact_without_calibration_is_evaluated_without_doubt(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, data_folder, "--validation-images", "0", "--epochs", "1")) == 0
    places = ["--models", str(tmp_path / "models"), "--data", str(data_folder), "--plots", str(tmp_path)]
    assert main(["evaluate", "small", *places]) == 0
    assert "not calibrated" in capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("*.png")} == {"reliability.png", "mistakes.png"}
    assert not read_artifact("small", tmp_path / "models").calibrated


def test_report_writes_the_tables_that_the_artifacts_describe(
    whole: Path, data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = whole / "models" / "README.md"
    before = page.read_text()
    version = read_artifact("small", whole / "models").version
    ledger = before.index("<!-- ledger")
    emptied = [line for line in before[:ledger].splitlines() if not line.startswith("| `small`")]
    page.write_text("\n".join(emptied) + "\n" + before[ledger:])
    assert main(["report", "--models", str(whole / "models"), "--data", str(data_folder)]) == 0
    assert page.read_text() == before
    assert f"| `{version}` |" in before
    assert "tells of small" in capsys.readouterr().out


def test_list_shows_every_recipe_whole_in_a_narrow_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list", "--runs", str(tmp_path)]) == 0
    rows = [re.split(r"\s*│\s*", line)[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [row[0] for row in rows] == list(RECIPES)
    for name, dataset, network, _, _, accuracy, source in rows:
        assert (dataset, network.split()[0]) == (RECIPES[name].dataset, RECIPES[name].architecture)
        if name in list_artifacts():
            artifact = read_artifact(name)
            assert accuracy == f"{artifact.number('test_accuracy'):.2%}"
            assert source == f"test, artifact {artifact.version}"
        else:
            assert (accuracy, source) == ("-", "")


def test_ctrl_c_leaves_a_checkpoint_from_which_resume_reaches_the_same_weights(
    whole: Path, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    assert main(words(tmp_path, data_folder, "--no-ship", "--resume")) == 0
    assert "Not shipped" in capsys.readouterr().out
    assert not (tmp_path / "models").exists()
    resumed, unstopped = checkpoint_weights(tmp_path), checkpoint_weights(whole)
    assert all(torch.equal(resumed[name], unstopped[name]) for name in unstopped)


def test_killed_outright_it_resumes_from_its_last_epoch(
    data_folder: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(tmp_path, data_folder, "--no-ship")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/2"):
            break
    process.kill()
    process.communicate()
    before = list((tmp_path / "runs" / "small").glob("*/checkpoint.pt"))
    if not before:  # killed between the line and the checkpoint: nothing is there to resume, and it says so
        assert main(words(tmp_path, data_folder, "--no-ship", "--resume")) == 1
        assert "no unfinished run" in capsys.readouterr().err
        return
    assert main(words(tmp_path, data_folder, "--no-ship", "--resume")) == 0
    resumed, unstopped = checkpoint_weights(tmp_path), checkpoint_weights(whole)
    assert all(torch.equal(resumed[name], unstopped[name]) for name in unstopped)


def test_a_shipped_run_is_not_resumed(
    whole: Path, data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(whole, data_folder, "--resume")) == 1
    assert "small has no unfinished run" in capsys.readouterr().err


def test_without_shipping_neither_models_nor_the_test_set_is_touched(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.ship.load_test", None)
    assert main(words(tmp_path, data_folder, "--epochs", "1", "--no-ship")) == 0
    assert not (tmp_path / "models").exists()


def test_training_in_float32_for_want_of_bfloat16_is_said(
    tmp_path: Path,
    data_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.commands.gains_by_bfloat16", lambda _: False)
    monkeypatch.setattr("training.commands.train", lambda *_, **__: None)  # a training is another test's
    assert main(words(tmp_path, data_folder, "--no-ship")) == 0
    assert "This processor gains nothing by bfloat16: training in float32." in capsys.readouterr().out
    assert main(words(tmp_path, data_folder, "--no-ship", "--precision", "float32")) == 0
    assert "bfloat16" not in capsys.readouterr().out


def test_cuda_is_refused_where_there_is_none(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    assert main(words(tmp_path, data_folder, "--device", "cuda")) == 1
    assert capsys.readouterr().err == "PyTorch finds no CUDA device here: use --device cpu or auto.\n"
    assert not (tmp_path / "runs").exists()
