"""The table of doubt is what the shipped artifacts give, their pictures open, and doubt is honest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from training.artifacts import MODELS, list_artifacts
from training.data import SOURCES
from training.evaluation import DOUBT_HEAD, doubt_row, evaluate_artifact, keep_doubt, record_doubt
from training.evaluation_plots import draw_evaluation
from training.model_page import PAGE
from training.page_tables import block, read_table

if TYPE_CHECKING:
    from pathlib import Path

    from training.evaluation import Evaluation

pytestmark = pytest.mark.data  # asks the shipped artifacts about the real images

SERVED = {f"{dataset}-{network}" for dataset in SOURCES for network in ("mlp", "cnn", "resnet")}
CALIBRATION_ERROR = {"mnist": 0.003, "fashion-mnist": 0.010}
SET_SIZE = {"mnist": 1.02, "fashion-mnist": 1.15}
OTHER_DATASET_FLAGGED = {"mnist": 0.95, "fashion-mnist": 0.90}
PATTERNS_FLAGGED = 0.95


@pytest.fixture(scope="module", params=list_artifacts())
def evaluation(request: pytest.FixtureRequest, data_folder: Path) -> Evaluation:
    return evaluate_artifact(request.param, MODELS, data_folder)


@pytest.fixture
def served(evaluation: Evaluation) -> Evaluation:
    """One of the networks that are served for their own sake; the course's smaller ones know less."""
    if evaluation.name not in SERVED:
        pytest.skip("a network of the course: its figures are in the table, and promise nothing")
    return evaluation


def test_the_page_shows_what_the_artifact_gives(evaluation: Evaluation) -> None:
    rows = read_table(MODELS / PAGE, "doubt").splitlines()
    assert doubt_row(evaluation) in rows
    assert "\n".join(rows[:2]) == DOUBT_HEAD


def test_patterns_and_the_other_dataset_are_flagged(served: Evaluation) -> None:
    dataset = served.artifact.metadata["dataset"]
    other, noise, checkerboards, _letters = served.families.values()
    assert other.flagged >= OTHER_DATASET_FLAGGED[dataset]
    assert noise.flagged >= PATTERNS_FLAGGED
    assert checkerboards.flagged >= PATTERNS_FLAGGED


def test_prediction_sets_are_small_and_never_empty(served: Evaluation) -> None:
    doubt = served.measured.doubt
    assert doubt is not None
    assert 1 <= doubt.mean_set_size <= SET_SIZE[served.artifact.metadata["dataset"]]
    assert doubt.coverage >= doubt.level - 0.005


def test_confidence_means_what_it_says(served: Evaluation) -> None:
    error = served.measured.expected_calibration_error
    assert error <= CALIBRATION_ERROR[served.artifact.metadata["dataset"]]


def test_a_row_replaces_the_earlier_one_of_its_artifact(evaluation: Evaluation, tmp_path: Path) -> None:
    page = tmp_path / PAGE
    other = "| `zzz` | `0` | as it was |"
    page.write_text(block("doubt", f"{DOUBT_HEAD}\n{other}\n| `{evaluation.name}` | `old` | … |"))
    record_doubt(evaluation, page)
    assert read_table(page, "doubt").splitlines()[2:] == [doubt_row(evaluation), other]


def test_rows_of_artifacts_that_are_gone_are_taken_away(evaluation: Evaluation, tmp_path: Path) -> None:
    page = tmp_path / PAGE
    page.write_text(block("doubt", f"{DOUBT_HEAD}\n| `gone` | x |\n| `{evaluation.name}-2` | y |"))
    record_doubt(evaluation, page)
    keep_doubt([evaluation.name], page)
    assert read_table(page, "doubt") == f"{DOUBT_HEAD}\n{doubt_row(evaluation)}"


def test_every_picture_opens_and_shows_something(evaluation: Evaluation, tmp_path: Path) -> None:
    paths = draw_evaluation(evaluation, tmp_path)
    assert [path.name for path in paths] == [
        "reliability.png",
        "mistakes.png",
        "coverage.png",
        "typicality.png",
    ]
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert np.asarray(image.convert("L")).std() > 10
