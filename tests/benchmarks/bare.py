"""ONNX Runtime in a loop in this process, without HTTP: the limits that a server can come close to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort

from service.artifacts import Classifier, load
from service.images import read_image

from .uploads import golden

MAX_PIXELS = 50_000_000


def per_second(call: Callable[[], object], seconds: float) -> float:
    """How often a second `call` runs, one call after another for so many seconds."""
    call()
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        call()
        count += 1
    return count / passed


@cache
def session(model: Path) -> ort.InferenceSession:
    """The model on one thread, as every server here runs it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def classifier(model: Path) -> Classifier:
    return load(model, device="cpu", threads=1)


def run_batches(model: Path, batch: int, seconds: float) -> float:
    """Images a second in `session.run` on so many images at a time."""
    images, _ = golden(model, batch)
    opened = session(model)
    return batch * per_second(lambda: opened.run(None, {"images": images}), seconds)


def read_and_run(model: Path, pictures: Sequence[bytes], seconds: float) -> float:
    """Images a second of a program that decodes and canonicalises all pictures, then runs one batch."""
    network = classifier(model)
    form = network.card.canonical_form

    def classify() -> None:
        images = [read_image(picture, form, "auto", MAX_PIXELS) for picture in pictures]
        network.predict(np.stack(images))

    return len(pictures) * per_second(classify, seconds)
