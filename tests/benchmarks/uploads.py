"""What is sent to the servers: pictures of the golden images as forms, and tensors for `/v2`."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BOUNDARY = "bench"
Images = NDArray[np.uint8]  # (n, 28, 28)


@dataclass(frozen=True)
class Upload:
    """One request, and the labels that the answer must have."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    labels: Sequence[str] = field(default=())


def golden(model: Path, count: int) -> tuple[Images, list[str]]:
    """So many of a model's golden images (count, 28, 28), over and over, and PyTorch's label for each."""
    with np.load(model.with_name(f"{model.stem}.golden.npz")) as file:
        images, likeliest = file["images"], file["probabilities"].argmax(axis=1)
    places = np.arange(count) % len(images)
    return images[places], [str(label) for label in likeliest[places]]


def form(model: Path, count: int = 1) -> Upload:
    """PNGs of golden images as the files of one form."""
    images, labels = golden(model, count)
    return pictures_form([png(image) for image in images], labels)


def pictures_form(pictures: Sequence[bytes], labels: Sequence[str] = ()) -> Upload:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    ).encode()
    parts = b"".join(head + picture + b"\r\n" for picture in pictures)
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    return Upload("/predict", parts + f"--{BOUNDARY}--\r\n".encode(), headers, labels)


def tensor(model: Path, count: int) -> Upload:
    """Canonical pixels as a binary tensor of the Open Inference Protocol, answered in binary as well."""
    images, _ = golden(model, count)
    described: dict[str, Any] = {
        "inputs": [
            {
                "name": "images",
                "datatype": "UINT8",
                "shape": list(images.shape),
                "parameters": {"binary_data_size": images.nbytes},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(described).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    return Upload(f"/v2/models/{model.stem}/infer", head + images.tobytes(), headers)


def png(image: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()
