"""What ONNX Runtime's options buy on a CPU: each beside the session as it is served.

    python -m tests.benchmarks.runtime_options --models mnist-cnn

Threads, levels of graph optimisation, IO binding, and copies of the network in fewer bits, with the share of
the 10,000 test images that each reads right. No copy ships, whatever that share: speed alone is asked here.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers.float16 import convert_float_to_float16

from training.data import Split, load_test, load_training

from .load import Spread
from .records import Table, parser, record
from .servers import MODELS
from .uploads import Images, golden

BATCHES = (1, 64)
CALIBRATION_IMAGES = 512
SERVED = "as served: one thread, all optimisations"
COLUMNS = (
    "session",
    *(f"images/s, batch {batch}" for batch in BATCHES),
    *(f"of as served, batch {batch}" for batch in BATCHES),
    "test accuracy",
)
Run = Callable[[Images], Any]


@dataclass
class Contender:
    """One way to run the model, and how long each call took in seconds, by batch."""

    run: Run
    accuracy: float | None
    seconds: dict[int, list[float]] = field(default_factory=lambda: {batch: [] for batch in BATCHES})


def open_session(
    model: Path | bytes, *, threads: int = 1, level: str = "ORT_ENABLE_ALL"
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def plainly(session: ort.InferenceSession) -> Run:
    return lambda images: session.run(("probabilities", "typicality"), {"images": images})


def bound(session: ort.InferenceSession) -> Run:
    """The same with inputs and outputs bound to memory that is there already."""
    bindings = {}
    for batch in BATCHES:
        probabilities = ort.OrtValue.ortvalue_from_shape_and_type([batch, 10], np.float32)
        typicality = ort.OrtValue.ortvalue_from_shape_and_type([batch], np.float32)
        binding = session.io_binding()
        binding.bind_ortvalue_output("probabilities", probabilities)
        binding.bind_ortvalue_output("typicality", typicality)
        bindings[batch] = binding, probabilities, typicality

    def run(images: Images) -> Any:
        binding, probabilities, typicality = bindings[len(images)]
        binding.bind_cpu_input("images", images)
        session.run_with_iobinding(binding)
        return probabilities.numpy(), typicality.numpy()

    return run


class Calibration(CalibrationDataReader):  # type: ignore[misc]  # the library ships no types
    """Training images, from which static quantisation learns its ranges."""

    def __init__(self, images: Images) -> None:
        self._batches = iter(np.array_split(images, len(images) // 64))

    def get_next(self) -> dict[str, Images] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def in_fewer_bits(path: Path, training: Split, folder: Path) -> dict[str, Path]:
    """Copies of a model: half precision, and int8 with ranges found at run time or beforehand."""
    prepared = folder / "prepared.onnx"
    model = onnx.load(path)
    del model.graph.value_info[:]  # shapes from before the exporter folded transpositions into the weights
    onnx.save(onnx.shape_inference.infer_shapes(model), prepared)
    half = convert_float_to_float16(onnx.load(prepared), keep_io_types=True)
    onnx.save(half, folder / "half.onnx")
    quantize_dynamic(prepared, folder / "dynamic.onnx", weight_type=QuantType.QInt8)
    quantize_static(
        prepared,
        folder / "static.onnx",
        Calibration(training.images[:CALIBRATION_IMAGES].numpy()),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
    )
    names = {"fp16": "half", "int8, dynamic": "dynamic", "int8, static": "static"}
    return {name: folder / f"{file}.onnx" for name, file in names.items()}


def accuracy(session: ort.InferenceSession, test: Split) -> float:
    parts = [plainly(session)(images)[0] for images in np.array_split(test.images.numpy(), 100)]
    return float((np.concatenate(parts).argmax(axis=1) == test.labels.numpy()).mean())


def contenders(path: Path, folder: Path) -> dict[str, Contender]:
    [dataset] = [entry.value for entry in onnx.load(path).metadata_props if entry.key == "dataset"]
    test = load_test(dataset)
    served = open_session(path)
    found = {SERVED: Contender(plainly(served), accuracy(served, test))}
    found["IO binding"] = Contender(bound(served), None)
    found["two threads"] = Contender(plainly(open_session(path, threads=2)), None)
    for name in ("extended", "basic", "disable_all"):
        level = name.upper() if name == "disable_all" else f"ENABLE_{name.upper()}"
        found[f"optimisations: {name.partition('_')[0]}"] = Contender(
            plainly(open_session(path, level=f"ORT_{level}")), None
        )
    training = load_training(dataset, 5_000).training
    for name, copy in in_fewer_bits(path, training, folder).items():
        session = open_session(copy)
        found[name] = Contender(plainly(session), accuracy(session, test))
    return found


def race(found: dict[str, Contender], images: Images, rounds: int, seconds: float) -> None:
    """Time each in turn, round after round; the median call of a round stands for it."""
    for _ in range(rounds):
        for contender in found.values():
            for batch in BATCHES:
                contender.seconds[batch].append(call_seconds(contender.run, images[:batch], seconds))


def call_seconds(run: Run, images: Images, seconds: float) -> float:
    run(images)
    found, until = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        run(images)
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def rows(found: dict[str, Contender]) -> list[list[str]]:
    made = []
    for name, contender in found.items():
        speeds = [batch / statistics.median(contender.seconds[batch]) for batch in BATCHES]
        ratios = [Spread.of_ratios(found[SERVED].seconds[b], contender.seconds[b]) for b in BATCHES]
        share = "" if contender.accuracy is None else f"{100 * contender.accuracy:.2f} %"
        beside = [""] * len(BATCHES) if name == SERVED else map(str, ratios)
        made.append([name, *(f"{speed:,.0f}" for speed in speeds), *beside, share])
    return made


def main() -> None:
    arguments = parser(__doc__, rounds=5, seconds=0.2)
    arguments.add_argument("--models", nargs="+", default=["mnist-mlp", "mnist-cnn", "fashion-mnist-cnn"])
    options = arguments.parse_args()
    for name in options.models:
        path = MODELS / f"{name}.onnx"
        with tempfile.TemporaryDirectory() as folder:
            found = contenders(path, Path(folder))
            race(found, golden(path, max(BATCHES))[0], options.rounds, options.seconds)
        samples = {session: contender.seconds for session, contender in found.items()}
        record("runtime_options", name, Table(name, COLUMNS, rows(found)), samples)


if __name__ == "__main__":
    main()
