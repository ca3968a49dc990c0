"""One GPU: our way of computing a batch beside ONNX Runtime's plain one, PyTorch and torch.compile.

    python -m tests.benchmarks.gpu --rounds 5

computes batches of 1 to 4,096 images of every network, in turn, round after round: uint8 images in,
probabilities out, both in ordinary memory. Beside the rates stand two limits of any way: copying the images
to the GPU, and launching one kernel that does nothing. `--device cpu` tries the program out without a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from service.artifacts import load
from service.gpu import GpuOptions
from service.settings import Device
from training.architectures import build
from training.recipes import RECIPES

from .records import CONSOLE, Table, record
from .servers import ROOT

NETWORKS = ("mnist-mlp", "mnist-cnn")
BATCHES = tuple(4**power for power in range(7))  # 1 to 4,096
LONGEST_S = 0.2  # of one measurement of one way

Compute = Callable[[np.ndarray], object]


def our_ways(path: Path, device: Device, largest: int) -> dict[str, Compute]:
    """The service's sessions, and ONNX Runtime as it is used without any care."""
    options = GpuOptions(max_batch=largest)
    ways: dict[str, Compute] = {"digitserve": load(path, device=device, threads=1, on_gpu=options).predict}
    if device == "cuda":
        graphs = GpuOptions(max_batch=largest, graphs=True)
        ways["digitserve, CUDA graphs"] = load(path, device=device, threads=1, on_gpu=graphs).predict
    providers = ["CUDAExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    session = ort.InferenceSession(path, providers=providers)
    ways["ONNX Runtime, numpy in and out"] = lambda images: session.run(None, {"images": images})
    return ways


def torch_ways(name: str, device: Device) -> dict[str, Compute]:
    """The same network in PyTorch; its weights are its first ones, which cost the same."""
    network = nn.Sequential(build(RECIPES[name]), nn.Softmax(1)).eval().to(device)
    compiled = torch.compile(network, dynamic=False)

    def way(called: Callable[[torch.Tensor], torch.Tensor]) -> Compute:
        @torch.inference_mode()
        def compute(images: np.ndarray) -> np.ndarray:
            return called(torch.from_numpy(images).to(device).float() / 255).cpu().numpy()

        return compute

    return {"PyTorch": way(network), "torch.compile": way(compiled)}


def limits(device: Device) -> dict[str, Compute]:
    """What no way can do without: the images' way to the GPU from pinned memory, and one launch."""
    nothing = torch.zeros(1, device=device)

    def copy(images: np.ndarray) -> None:
        torch.from_numpy(images).pin_memory().to(device, non_blocking=True)
        torch.cuda.synchronize()

    def launch(_images: np.ndarray) -> None:
        nothing.add_(1)
        torch.cuda.synchronize()

    return {"limit: copy of the images": copy, "limit: one launch": launch} if device == "cuda" else {}


def seconds_a_batch(compute: Compute, images: np.ndarray) -> float:
    """The median over as many batches as fit into a fifth of a second, at least three."""
    compute(images)
    taken: list[float] = []
    give_up = time.perf_counter() + LONGEST_S
    while len(taken) < 3 or time.perf_counter() < give_up:
        began = time.perf_counter()
        compute(images)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def measure(name: str, device: Device, batches: list[int], rounds: int) -> None:
    path = ROOT / "models" / f"{name}.onnx"
    ways = our_ways(path, device, max(batches)) | torch_ways(name, device) | limits(device)
    seconds: dict[str, dict[int, list[float]]] = {way: {batch: [] for batch in batches} for way in ways}
    generator = np.random.default_rng(0)
    for _ in range(rounds):
        for batch in batches:
            images = generator.integers(0, 256, (batch, 28, 28), dtype=np.uint8)
            for way, compute in ways.items():
                seconds[way][batch].append(seconds_a_batch(compute, images))
    rows = [
        [way, *(f"{batch / statistics.median(taken[batch]):,.0f}" for batch in batches)]
        for way, taken in seconds.items()
    ]
    columns = ["images a second, in batches of", *(f"{batch:,}" for batch in batches)]
    place = torch.cuda.get_device_name() if device == "cuda" else "a CPU: a trial, no figure of a GPU"
    record("gpu", name, Table(f"{name} on {place}", columns, rows), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", nargs="*", type=int, default=list(BATCHES))
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        CONSOLE.print("NO GPU HERE: nothing was measured. --device cpu tries the program out.")
        return
    for name in options.networks:
        measure(name, options.device, options.batches, options.rounds)


if __name__ == "__main__":
    main()
