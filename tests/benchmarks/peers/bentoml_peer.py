"""BentoML as its documentation shows it: a picture in, a dictionary out; one by one, and batched."""

from __future__ import annotations

import os

import bentoml
import numpy as np
import onnxruntime as ort
from PIL.Image import Image


def open_session() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])


def answer(row: np.ndarray) -> dict[str, str | float]:
    best = int(row.argmax())
    return {"label": str(best), "probability": float(row[best])}


def pixels(image: Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((28, 28)), np.uint8)


@bentoml.service(workers=int(os.environ["BENCH_WORKERS"]))
class Naive:
    def __init__(self) -> None:
        self.session = open_session()

    @bentoml.api(route="/predict")
    def predict(self, image: Image) -> dict:
        probabilities, _ = self.session.run(None, {"images": pixels(image)[np.newaxis]})
        return answer(probabilities[0])


@bentoml.service(workers=int(os.environ["BENCH_WORKERS"]))
class Batched:
    def __init__(self) -> None:
        self.session = open_session()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict(self, image: list[Image]) -> list[dict]:
        probabilities, _ = self.session.run(None, {"images": np.stack([pixels(one) for one in image])})
        return [answer(row) for row in probabilities]
