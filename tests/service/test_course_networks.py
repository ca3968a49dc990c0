"""Networks of other shapes than the flagships' are served as they are: softmax, recurrent, residual."""

from __future__ import annotations

import io
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from real_server import ROOT, Server, StartServer

pytestmark = pytest.mark.data  # the residual network is trained here, on the real images

SHIPPED = ("fashion-mnist-softmax", "mnist-rnn")
TRAINED = "mnist-resnet"
# Of the recipe only the residual blocks are wanted here: one epoch of a narrow network on plain images.
SMALL = shlex.split(
    "--widths 4 8 --epochs 1 --batch-size 1000 --optimiser adam --learning-rate 0.02 --schedule constant "
    "--weight-averaging 0 --validation-images 0 --elastic-pixels 0 --stroke 0 --rotation-degrees 0 "
    "--shear-degrees 0 --scaling 0 --shift-pixels 0 --erasing 0 --threads 1"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    """A folder with the shipped artifacts of two recipes, and a small one of a third, fitted now."""
    folder = tmp_path_factory.mktemp("models")
    for name in SHIPPED:
        for ending in ("onnx", "golden.npz"):
            shutil.copy(ROOT / "models" / f"{name}.{ending}", folder)
    places = ("--models", str(folder), "--runs", str(folder / "runs"), "--data", str(data_folder))
    subprocess.run(
        [sys.executable, "-m", "training", "fit", TRAINED, *SMALL, *places],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def server(start_server: StartServer, models: Path) -> Server:
    return start_server(models_dir=models, default_model=TRAINED)


def ask(server: Server, model: str, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What one request with these images is answered, [n, 10] in the order of the labels."""
    files = []
    for image in images:
        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG")
        files.append(("image", ("x.png", out.getvalue())))
    url = f"{server.url}/predict?model={model}&top_k=10&canonical=never"
    labels = httpx2.get(f"{server.url}/models/{model}").json()["labels"]
    predictions = httpx2.post(url, files=files, timeout=60).json()["predictions"]
    answers = [{entry["label"]: entry["probability"] for entry in found["top"]} for found in predictions]
    return np.array([[answer[label] for label in labels] for answer in answers])


@pytest.mark.parametrize("model", [*SHIPPED, TRAINED])
def test_an_artifact_gives_over_http_what_pytorch_gave_at_any_batch_size(
    server: Server, models: Path, model: str
) -> None:
    golden = np.load(models / f"{model}.golden.npz")
    for batch in (1, 2, 7, 64):
        answers = ask(server, model, golden["images"][:batch])
        np.testing.assert_allclose(answers, golden["probabilities"][:batch], rtol=0, atol=1e-4)


def test_the_service_says_which_of_them_it_serves(server: Server) -> None:
    listed = httpx2.get(f"{server.url}/models").json()["models"]
    assert {entry["name"] for entry in listed} == {*SHIPPED, TRAINED}
