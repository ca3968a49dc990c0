"""The tables of models/README.md are the program's, and agree with the artifacts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from torch import nn

from training.artifacts import MODELS, list_artifacts, read_artifact
from training.errors import PageIncomplete
from training.export import Shipped
from training.measure import Accuracy
from training.model_page import PAGE, artifacts_table, record_test_read, update_artifacts_table
from training.page_tables import read_table
from training.recipes import RECIPES
from training.ship import Trained, ship

SHIPPED = Shipped(
    Path("tiny.onnx"), "0123456789ab", datetime(2026, 2, 3, tzinfo=UTC), Accuracy(9_950, 10_000)
)


def test_the_page_shows_the_artifacts_as_their_metadata_describes_them() -> None:
    assert read_table(MODELS / PAGE, "artifacts") == artifacts_table(MODELS)


@pytest.mark.parametrize("name", list_artifacts())
def test_the_ledger_holds_the_one_test_read_of_every_shipped_artifact(name: str) -> None:
    artifact = read_artifact(name)
    ledger = read_table(MODELS / PAGE, "ledger")
    rows = [row for row in ledger.splitlines() if f"| `{artifact.version}` |" in row]
    assert len(rows) == 1
    assert f"| `{name}` |" in rows[0]
    assert f"| {artifact.number('test_accuracy'):.2%} |" in rows[0]


def test_a_test_read_is_added_below_the_earlier_ones(tmp_path: Path) -> None:
    record_test_read("tiny", SHIPPED, tmp_path)
    record_test_read("other", SHIPPED, tmp_path)
    rows = read_table(tmp_path / PAGE, "ledger").splitlines()[2:]
    assert rows == [
        f"| `{name}` | `0123456789ab` | 2026-02-03 | 9,950 of 10,000 | 99.50% | 99.34% to 99.62% |"
        for name in ("tiny", "other")
    ]


def test_what_stands_around_the_tables_is_kept(tmp_path: Path) -> None:
    record_test_read("tiny", SHIPPED, tmp_path)
    page = tmp_path / PAGE
    page.write_text("Before.\n" + page.read_text() + "\nAfter.\n")
    record_test_read("tiny", SHIPPED, tmp_path)
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("\nAfter.\n")
    update_artifacts_table(tmp_path)
    assert page.read_text() == text


def test_a_page_without_its_markers_is_refused(tmp_path: Path) -> None:
    (tmp_path / PAGE).write_text("# Models\n")
    with pytest.raises(PageIncomplete, match="needs one line <!-- ledger"):
        record_test_read("tiny", SHIPPED, tmp_path)
    assert (tmp_path / PAGE).read_text() == "# Models\n"


def test_nothing_is_exported_or_read_when_the_reading_could_not_be_written_down(tmp_path: Path) -> None:
    (tmp_path / PAGE).write_text("# Models\n")
    untouched = Trained(nn.Sequential(), [], None, None)
    with pytest.raises(PageIncomplete):
        ship(RECIPES["mnist-mlp"], untouched, tmp_path, tmp_path, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [PAGE]
