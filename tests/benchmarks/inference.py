"""What inference alone costs: every shipped artifact beside the network of the usual MNIST script.

    python -m tests.benchmarks.inference --rounds 60

runs all of them in bare ONNX Runtime on one thread, in turn, round after round, so that a machine that
changes its mind between rounds does so for all. Prints medians, and the median of the ratios round by round.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from training.architectures import count_macs, count_weights
from training.artifacts import MODELS, list_artifacts, read_artifact

BATCHES = (1, 64)
WARM_UP_ROUNDS = 5
USUAL = "the usual script's CNN"


@dataclass
class Contender:
    """One model: what it is, a call for each batch size, and how long every round took in seconds."""

    weights: int
    macs_per_image: int
    calls: dict[int, Callable[[], object]]
    seconds: dict[int, list[float]] = field(default_factory=lambda: {batch: [] for batch in BATCHES})

    def images_per_s(self, batch: int) -> float:
        return batch / statistics.median(self.seconds[batch])

    def time_beside(self, other: Contender, batch: int) -> float:
        """Return the median over the rounds of its time divided by the other's."""
        pairs = zip(self.seconds[batch], other.seconds[batch], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def usual_network() -> nn.Sequential:
    """The CNN that introductions to MNIST train; no dropout, which inference leaves out."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28)),  # [batch, 1, 28, 28]
        nn.Conv2d(1, 32, kernel_size=3),
        nn.ReLU(),
        nn.Conv2d(32, 64, kernel_size=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),  # [batch, 9216]
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    ).eval()


def usual_contender() -> Contender:
    """Export the usual network with nothing but its logits: floats in, no normalisation, no softmax."""
    network, exported = usual_network(), io.BytesIO()
    example = torch.zeros(2, 28, 28)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.onnx.export(network, (example,), dynamo=True, dynamic_shapes=shapes, verbose=False)
    assert program is not None
    program.save(exported)
    calls = session_calls(exported.getvalue(), np.float32)
    return Contender(count_weights(network), count_macs(network), calls)


def shipped_contender(name: str, folder: Path) -> Contender:
    """A shipped artifact as it is: pixels in, probabilities and the in-distribution score out."""
    artifact = read_artifact(name, folder)
    calls = session_calls((folder / f"{name}.onnx").read_bytes(), np.uint8)
    return Contender(int(artifact.metadata["parameters"]), int(artifact.metadata["macs_per_image"]), calls)


def session_calls(model: bytes, pixels: type[np.generic]) -> dict[int, Callable[[], object]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    levels = np.random.default_rng(0).integers(0, 256, (max(BATCHES), 28, 28))
    scale = 1 if pixels is np.uint8 else 255
    images = (levels / scale).astype(pixels)
    return {batch: lambda batch=batch: session.run(None, {name: images[:batch]}) for batch in BATCHES}


def race(contenders: dict[str, Contender], rounds: int) -> None:
    """Time one call of each in every round; the first rounds warm up and do not count."""
    for round_ in range(WARM_UP_ROUNDS + rounds):
        for contender in contenders.values():
            for batch, call in contender.calls.items():
                began = time.perf_counter()
                call()
                if round_ >= WARM_UP_ROUNDS:
                    contender.seconds[batch].append(time.perf_counter() - began)


def print_table(contenders: dict[str, Contender]) -> None:
    table = Table(title=f"ONNX Runtime, one thread; the time is at batch {BATCHES[-1]}, of that of {USUAL}")
    table.add_column("model", no_wrap=True)
    for heading in ("weights", "multiply-adds", *(f"images/s at batch {batch}" for batch in BATCHES)):
        table.add_column(heading, justify="right")
    table.add_column("time", justify="right")
    for name, contender in contenders.items():
        speeds = (f"{contender.images_per_s(batch):,.0f}" for batch in BATCHES)
        ratio = f"{contender.time_beside(contenders[USUAL], BATCHES[-1]):.2f}"
        table.add_row(name, f"{contender.weights:,}", f"{contender.macs_per_image:,}", *speeds, ratio)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    contenders = {USUAL: usual_contender()}
    contenders |= {name: shipped_contender(name, options.models) for name in list_artifacts(options.models)}
    race(contenders, options.rounds)
    print_table(contenders)


if __name__ == "__main__":
    main()
