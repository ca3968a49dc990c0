"""A run folder belongs to one process, and a resume finds the right one."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tiny_training import changed

from training.errors import RunUnavailable
from training.runs import (
    CHECKPOINT,
    SHIPPED,
    new_run,
    read_json,
    recipe_of,
    resumed_run,
    shipped_run,
    write_json,
)

if TYPE_CHECKING:
    from pathlib import Path

    from training.recipes import Recipe


def test_runs_that_start_together_get_folders_of_their_own(tiny: Recipe, tmp_path: Path) -> None:
    with (
        new_run(tiny, tmp_path) as first,
        new_run(tiny, tmp_path) as second,
        new_run(tiny, tmp_path) as third,
    ):
        assert len({first, second, third}) == 3
        assert {folder.parent for folder in (first, second, third)} == {tmp_path / "tiny"}


def test_a_run_records_its_recipe_and_commit(tiny: Recipe, tmp_path: Path) -> None:
    with new_run(tiny, tmp_path) as folder:
        recorded = read_json(folder / "run.json")
    assert recorded["recipe"]["name"] == "tiny"
    commit = recorded["commit"].removesuffix("+")
    assert commit == "unknown" or len(commit) == 40


def test_the_recipe_of_a_run_is_the_one_it_was_started_with(tiny: Recipe, tmp_path: Path) -> None:
    taught = changed(tiny, teachers=("one", "other"))
    with new_run(taught, tmp_path) as folder:
        assert recipe_of(folder) == taught
        content = read_json(folder / "run.json")
        del content["recipe"]["residue"]  # came later
        write_json(folder / "run.json", content | {"recipe": content["recipe"] | {"unused": 0.0}})
        assert recipe_of(folder) == taught
        write_json(folder / "run.json", content | {"recipe": content["recipe"] | {"lost": 0.5}})
        with pytest.raises(RunUnavailable, match="made use of lost,"):
            recipe_of(folder)


def test_a_run_that_has_lost_its_network_is_not_taken_for_it(tiny: Recipe, tmp_path: Path) -> None:
    """It would be trained anew, and shipped with what the test set said of another network."""
    with new_run(tiny, tmp_path) as folder:
        write_json(folder / SHIPPED, {"version": "abc", "test_accuracy": 0.5})
    with pytest.raises(RunUnavailable, match=r"shipped tiny abc, but its checkpoint\.pt is gone"):
        shipped_run("tiny", "abc", tmp_path).__enter__()
    (folder / CHECKPOINT).touch()
    with shipped_run("tiny", "abc", tmp_path) as found:
        assert found == folder


def test_a_run_in_use_cannot_be_resumed_by_another_process(tiny: Recipe, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from training.runs import resumed_run\n"
        "with resumed_run('tiny', Path(sys.argv[1])): pass"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with new_run(tiny, tmp_path) as folder:
        (folder / CHECKPOINT).touch()
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"RunUnavailable: Another process is training in {folder}" in refused.stderr.replace(
            "training.errors.", ""
        )
    assert subprocess.run(command, check=False).returncode == 0


def test_the_newest_run_that_has_not_shipped_is_resumed(tiny: Recipe, tmp_path: Path) -> None:
    folders = []
    for _ in range(4):
        with new_run(tiny, tmp_path) as folder:
            folders.append(folder)
    folders.sort()
    for folder in folders[:3]:
        (folder / CHECKPOINT).touch()
    (folders[2] / SHIPPED).touch()
    with resumed_run("tiny", tmp_path) as resumed:
        assert resumed == folders[1]


def test_without_an_unfinished_run_the_error_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(RunUnavailable, match=r"tiny has no unfinished run in .*: start one without --resume"),
        resumed_run("tiny", tmp_path),
    ):
        pass
