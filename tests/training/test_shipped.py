"""Every shipped artifact reaches its floor on the 10,000 test images, and keeps its own promises there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from training.artifacts import MODELS, list_artifacts, read_artifact
from training.data import load_test
from training.measure import Measurement, measure
from training.model_page import PAGE
from training.page_tables import read_table

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.data  # accuracy is a statement about the real test images

FLOORS = {
    "fashion-mnist-softmax": 0.83,
    "mnist-rnn": 0.975,
    "mnist-mlp": 0.988,
    "mnist-cnn": 0.9965,
    "mnist-resnet": 0.9965,
    "fashion-mnist-mlp": 0.905,
    "fashion-mnist-cnn": 0.9475,
    "fashion-mnist-resnet": 0.953,
}
FLOORS_OF_THE_LEDGER = {"mnist-mlp-sgd": 96.0, "mnist-mlp-adam": 97.5}  # shipped elsewhere, read all the same


@pytest.fixture(scope="module", params=FLOORS)
def measured(request: pytest.FixtureRequest, data_folder: Path) -> tuple[str, Measurement]:
    artifact = read_artifact(request.param)
    test = load_test(artifact.metadata["dataset"], data_folder)
    answers = artifact.answer(test.images.numpy())
    return request.param, measure(artifact, answers, test.labels.numpy())


def test_every_recipe_that_is_served_has_shipped() -> None:
    assert set(FLOORS) <= set(list_artifacts())


def test_an_artifact_reaches_its_floor(measured: tuple[str, Measurement]) -> None:
    name, figures = measured
    assert figures.accuracy.share >= FLOORS[name]


@pytest.mark.parametrize("name", FLOORS_OF_THE_LEDGER)
def test_a_recipe_that_shipped_elsewhere_reached_its_floor_at_its_one_reading(name: str) -> None:
    rows = [row.split("|") for row in read_table(MODELS / PAGE, "ledger").splitlines() if f"`{name}`" in row]
    assert len(rows) == 1
    assert float(rows[0][5].strip(" %")) >= FLOORS_OF_THE_LEDGER[name]


def test_the_accuracy_in_the_metadata_is_the_one_measured(measured: tuple[str, Measurement]) -> None:
    name, figures = measured
    assert read_artifact(name).number("test_accuracy") == figures.accuracy.share


def test_prediction_sets_cover_the_test_images_nearly_as_promised(measured: tuple[str, Measurement]) -> None:
    _, figures = measured
    assert figures.doubt is not None
    # 5,000 validation and 10,000 test images leave this much to chance, at three standard deviations
    chance = 3 * np.sqrt(figures.doubt.level * (1 - figures.doubt.level) * (1 / 5_000 + 1 / 10_000))
    assert figures.doubt.coverage >= figures.doubt.level - chance - 0.005


def test_hardly_any_test_image_is_called_out_of_distribution(measured: tuple[str, Measurement]) -> None:
    _, figures = measured
    assert figures.doubt is not None
    assert figures.doubt.flagged <= 0.02
