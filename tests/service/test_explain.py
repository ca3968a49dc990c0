"""A heat map is hot where the model looks; what it costs is bounded and no evidence of what callers send."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from test_api import digits, error, picture, post, serving

from service.settings import Settings

EXPLAINED = "/predict?canonical=never&explain=true"


@pytest.fixture(scope="module")
def client(tiny_models: Path) -> Iterator[TestClient]:
    with serving(Settings(models_dir=tiny_models)) as client:
        yield client


def heat_map(prediction: dict[str, Any]) -> Any:
    return np.frombuffer(base64.b64decode(prediction["heat_map"]), np.uint8).reshape(28, 28)


def test_a_heat_map_is_hot_where_the_model_looks_and_cold_elsewhere(client: TestClient) -> None:
    [explained] = post(client, picture(7), EXPLAINED).json()["predictions"]
    heat = heat_map(explained)
    assert heat[0, 0] == 255  # all that the tiny network looks at
    assert not heat[8:].any()
    assert not heat[:, 8:].any()
    [plain] = post(client, picture(7)).json()["predictions"]
    assert plain == {key: value for key, value in explained.items() if key != "heat_map"}


def test_where_nothing_can_be_lost_the_heat_map_is_empty(client: TestClient) -> None:
    [explained] = post(client, picture(0), EXPLAINED).json()["predictions"]
    assert not heat_map(explained).any()


def test_every_digit_of_a_picture_has_its_own_heat_map(client: TestClient) -> None:
    response = client.post("/predict?segments=true&explain=true", content=digits("3", "1"))
    [entry] = response.json()["predictions"]
    assert [heat_map(digit).shape for digit in entry["segments"]] == [(28, 28)] * 2
    assert "explain;dur=" in response.headers["server-timing"]


def test_explanations_are_bounded_by_the_queue_and_count_as_images_but_not_as_answers(
    tiny_models: Path,
) -> None:
    config = Settings(models_dir=tiny_models, max_images=100, max_queue=100)
    with serving(config) as client:
        card = client.get("/models/mnist-cnn").json()
        assert (card["max_images"], card["max_explained_images"]) == (100, 2)
        files = [("f", ("x", picture(n))) for n in range(3)]
        error(client.post(EXPLAINED, files=files), 413, "too_many_images")
        before = counted(client)
        client.post(EXPLAINED, files=files[:2])
        computed, answered = np.subtract(counted(client), before)
    assert (computed, answered) == (2 + 2 * 49, 2)


def test_a_queue_too_short_for_an_explanation_offers_none(tiny_models: Path) -> None:
    with serving(Settings(models_dir=tiny_models, max_images=10, max_queue=48)) as client:
        assert client.get("/models/mnist-cnn").json()["max_explained_images"] == 0
        error(client.post("/predict?explain=true", content=digits("7")), 413, "too_many_images")


def counted(client: TestClient) -> tuple[float, float]:
    """Images computed, and images answered, by the metrics of the model."""
    text = client.get("/metrics").text
    computed = re.search(r'digitserve_batch_images_sum{model="mnist-cnn"} ([\d.]+)', text)
    answered = re.findall(r'digitserve_predictions_total{label="\d",model="mnist-cnn"} ([\d.]+)', text)
    assert computed
    return float(computed[1]), sum(map(float, answered))
