"""What `list` says of a recipe's accuracy, and where it has it from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest
from tiny_training import changed

from training.__main__ import main
from training.accuracies import find_accuracy
from training.artifacts import MODELS, read_artifact
from training.errors import ArtifactDamaged
from training.recipes import RECIPES, Recipe
from training.report import write_metrics
from training.runs import SHIPPED, new_run, write_json
from training.state import EpochResult

if TYPE_CHECKING:
    from collections.abc import Iterable

NOWHERE = Path("no-such-folder")


def epoch(number: int, validation: tuple[float, float] | None) -> EpochResult:
    loss, accuracy = validation or (None, None)
    return EpochResult(number, 1.0, 0.1, 0.5, 0.8, loss, accuracy)


def leave_run(runs: Path, recipe: Recipe, validated: Iterable[tuple[float, float] | None]) -> Path:
    with new_run(recipe, runs) as folder:
        write_metrics(folder, [epoch(n, figures) for n, figures in enumerate(validated, start=1)], {})
    return folder


def test_without_artifact_and_run_nothing_is_known(tiny: Recipe, tmp_path: Path) -> None:
    assert find_accuracy(tiny, NOWHERE, tmp_path) is None


def test_the_artifact_speaks_first(tmp_path: Path) -> None:
    recipe = RECIPES["mnist-mlp"]
    leave_run(tmp_path, recipe, [(0.1, 0.5)])
    artifact, known = read_artifact("mnist-mlp"), find_accuracy(recipe, MODELS, tmp_path)
    assert known is not None
    assert known.share == artifact.number("test_accuracy")
    assert known.source == f"test, artifact {artifact.version}"


def test_a_damaged_artifact_is_told_of_and_hides_no_other_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (MODELS / "mnist-mlp.onnx").read_bytes()
    (tmp_path / "mnist-mlp.onnx").write_bytes(whole[:1000])
    strange = onnx.load_from_string(whole)
    del strange.metadata_props[:]
    onnx.save(strange, tmp_path / "mnist-cnn.onnx")
    with pytest.raises(ArtifactDamaged, match=r"mnist-mlp\.onnx is damaged: "):
        read_artifact("mnist-mlp", tmp_path)
    with pytest.raises(ArtifactDamaged, match=r"mnist-cnn\.onnx is none of ours: it lacks calibrated, "):
        read_artifact("mnist-cnn", tmp_path)
    assert main(["list", "--models", str(tmp_path), "--runs", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert listed.count("damaged artifact") == 2
    assert "fashion-mnist-resnet" in listed


def test_a_run_that_shipped_speaks_before_newer_ones_that_did_not(tiny: Recipe, tmp_path: Path) -> None:
    shipped = leave_run(tmp_path, tiny, [(0.2, 0.91)])
    write_json(shipped / SHIPPED, {"version": "0123456789ab", "test_accuracy": 0.9})
    leave_run(tmp_path, tiny, [(0.1, 0.99)])
    known = find_accuracy(tiny, NOWHERE, tmp_path)
    assert known is not None
    assert (known.share, known.source) == (0.9, f"test, run {shipped.name}")


def test_a_run_that_only_validated_is_said_to_have_done_so(tiny: Recipe, tmp_path: Path) -> None:
    leave_run(tmp_path, tiny, [(0.3, 0.7)])
    newest = leave_run(tmp_path, tiny, [(0.3, 0.8), (0.4, 0.85)])
    known = find_accuracy(tiny, NOWHERE, tmp_path)
    assert known is not None
    assert (known.share, known.source) == (0.85, f"validation, run {newest.name}")


def test_after_early_stopping_the_best_epoch_speaks(tiny: Recipe, tmp_path: Path) -> None:
    recipe = changed(tiny, patience_epochs=1)
    leave_run(tmp_path, recipe, [(0.3, 0.8), (0.4, 0.85)])
    known = find_accuracy(recipe, NOWHERE, tmp_path)
    assert known is not None
    assert known.share == 0.8


@pytest.mark.parametrize("silent", ["another recipe's", "unfinished", "without validation"])
def test_a_run_that_says_nothing_of_the_recipe_is_passed_over(
    tiny: Recipe, tmp_path: Path, silent: str
) -> None:
    recipe = replace(tiny, epochs=99) if silent == "another recipe's" else tiny
    folder = leave_run(tmp_path, recipe, [None if silent == "without validation" else (0.3, 0.8)])
    if silent == "unfinished":
        (folder / "metrics.json").unlink()
    assert find_accuracy(tiny, NOWHERE, tmp_path) is None
