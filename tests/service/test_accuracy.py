"""Accuracy over HTTP is accuracy offline: the whole test sets, as PNG, through a real server."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image
from real_server import ROOT, Server, StartServer

from service.client import Client, Prediction, Retries

FOLDERS = {"mnist-cnn": "MNIST", "fashion-mnist-cnn": "FashionMNIST"}
IMAGES_A_REQUEST = 250


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Server:
    """A server of the shipped models."""
    return start_server(timeout_ms=9000)


def read_idx(path: Path, header_bytes: int) -> np.ndarray[Any, Any]:
    return np.frombuffer(path.read_bytes(), np.uint8, offset=header_bytes)


def encoded_test_set(folder: Path) -> tuple[list[bytes], np.ndarray[Any, Any]]:
    """The test images as PNG files, and their labels."""
    pixels = read_idx(folder / "raw" / "t10k-images-idx3-ubyte", 16).reshape(-1, 28, 28)
    pictures = []
    for image in pixels:
        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG", compress_level=1)
        pictures.append(out.getvalue())
    return pictures, read_idx(folder / "raw" / "t10k-labels-idx1-ubyte", 8)


def ask(
    server: Server, model: str, canonical: Literal["auto", "never"], pictures: list[bytes]
) -> np.ndarray[Any, Any]:
    """The label index that the server gives each picture; -1 where it gives an error instead."""
    patient = Retries(times=30)  # two such callers are more than a busy machine lets in at once

    with Client(server.url, timeout_s=60, retries=patient) as client, ThreadPoolExecutor(2) as pool:

        def ask_some(first: int) -> list[int]:
            some = pictures[first : first + IMAGES_A_REQUEST]
            answer = client.predict(*some, model=model, canonical=canonical)
            return [got.index if isinstance(got, Prediction) else -1 for got in answer.predictions]

        answers = pool.map(ask_some, range(0, len(pictures), IMAGES_A_REQUEST))
        return np.array([index for some in answers for index in some])


@pytest.mark.data
@pytest.mark.parametrize("model", FOLDERS)
def test_the_test_set_over_http_gives_what_evaluate_gives(
    server: Server, data_folder: Path, tmp_path: Path, model: str
) -> None:
    written = tmp_path / "predictions"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "training",
            "evaluate",
            model,
            "--predictions",
            written,
            "--plots",
            tmp_path,
            "--data",
            data_folder,
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    offline = np.loadtxt(written, dtype=int)
    pictures, labels = encoded_test_set(data_folder / FOLDERS[model])
    np.testing.assert_array_equal(ask(server, model, "never", pictures), offline)

    automatic = ask(server, model, "auto", pictures)
    difference = (automatic == labels).mean() - (offline == labels).mean()
    assert abs(difference) <= 0.0002, f"canonical=auto moves the accuracy by {difference:+.4%}"
