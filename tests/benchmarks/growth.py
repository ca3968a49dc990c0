"""How the cost of the service grows with the work: one thing at a time, everything else held.

    python -m tests.benchmarks.growth --only connections workers

Images a request, connections, the side of a picture, worker processes, and models served at once, which are
copies of one so that nothing but their number changes.
"""

from __future__ import annotations

import io
import shutil
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from .load import Rounds, Sample, interleaved, turn
from .records import Table, parser, record, rounds_of
from .servers import MODELS, OURS, Server, started
from .uploads import Upload, form, golden, pictures_form

MODEL = MODELS / "mnist-mlp.onnx"
PAPER, PEN = 235, 40  # grey levels of a drawn digit
SOME_CONNECTIONS = 8


@dataclass(frozen=True)
class Point:
    """One value of what grows, ready to be measured."""

    server: Server
    uploads: tuple[Upload, ...]
    connections: int = SOME_CONNECTIONS
    images: int = 1  # a request

    def measure(self, seconds: float) -> Sample:
        return turn(self.server, self.uploads, self.connections, seconds)


def images_a_request(stack: ExitStack) -> dict[int, Point]:
    server = stack.enter_context(started(OURS, MODEL, form(MODEL)))
    # Four times 256 images are what the queue holds.
    return {n: Point(server, (form(MODEL, n),), connections=4, images=n) for n in (1, 4, 16, 64, 256)}


def connections(stack: ExitStack) -> dict[int, Point]:
    server = stack.enter_context(started(OURS, MODEL, form(MODEL)))
    return {n: Point(server, (form(MODEL),), connections=n) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256)}


def pixels_a_side(stack: ExitStack) -> dict[int, Point]:
    server = stack.enter_context(started(OURS, MODEL, form(MODEL)))
    digit = golden(MODEL, 1)[0][0]
    return {
        side: Point(server, (pictures_form([drawn(digit, side)]),))
        for side in (28, 64, 128, 256, 512, 1024, 2048)
    }


def workers(stack: ExitStack) -> dict[int, Point]:
    servers = {n: stack.enter_context(started(OURS, MODEL, form(MODEL), workers=n)) for n in (1, 2, 3, 4)}
    return {n: Point(server, (form(MODEL),), connections=32) for n, server in servers.items()}


def models(stack: ExitStack) -> dict[int, Point]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    points = {}
    for count in (1, 2, 4, 8, 16):
        names = [copy_artifact(MODEL, folder, number) for number in range(count)]
        first = folder / f"{names[0]}.onnx"
        server = stack.enter_context(started(OURS, first, form(MODEL), models=",".join(names)))
        upload = form(MODEL)
        uploads = tuple(replace(upload, path=f"/predict?model={name}") for name in names)
        points[count] = Point(server, uploads, connections=32)
    return points


SWEEPS: dict[str, Callable[[ExitStack], dict[int, Point]]] = {
    "images a request": images_a_request,
    "connections": connections,
    "pixels a side": pixels_a_side,
    "workers": workers,
    "models": models,
}


def drawn(digit: NDArray[np.uint8], side: int) -> bytes:
    """A digit in dark ink on grainy paper, as a JPEG of that many pixels a side; at 28 the dataset's PNG."""
    if side == len(digit):
        out = io.BytesIO()
        Image.fromarray(digit).save(out, "PNG")
        return out.getvalue()
    ink = cv2.resize(digit, (side, side), interpolation=cv2.INTER_CUBIC) / 255
    grain = np.random.default_rng(0).normal(0, 3, (side, side))
    levels = np.clip(PAPER + (PEN - PAPER) * ink + grain, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(levels).convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()


def copy_artifact(path: Path, folder: Path, number: int) -> str:
    """The same network under a name of its own; its name."""
    name = f"{path.stem}-{number}"
    if not (folder / f"{name}.onnx").exists():
        model = onnx.load(path)
        [recipe] = [entry for entry in model.metadata_props if entry.key == "recipe"]
        recipe.value = name
        onnx.save(model, folder / f"{name}.onnx")
        shutil.copy(path.with_name(f"{path.stem}.golden.npz"), folder / f"{name}.golden.npz")
    return name


def sweep(name: str, rounds: Rounds) -> None:
    with ExitStack() as stack:
        points = SWEEPS[name](stack)
        found = interleaved({value: partial(Point.measure, point) for value, point in points.items()}, rounds)
        memory_mb = {value: point.server.memory_mb() for value, point in points.items()}
    rows, samples = [], {}
    for value, point in points.items():
        rate, p50_ms, p99_ms = (
            statistics.median(getattr(sample, what) for sample in found[value])
            for what in ("requests_per_s", "p50_ms", "p99_ms")
        )
        errors = sum(sample.errors for sample in found[value])
        rows.append([str(value), f"{rate:,.0f}", f"{rate * point.images:,.0f}", f"{p50_ms:.2f}"])
        rows[-1] += [f"{p99_ms:.2f}", f"{memory_mb[value]:,.0f}", str(errors)]
        samples[value] = {
            "images_per_s": rate * point.images,
            "memory_mb": memory_mb[value],
            "rounds": [asdict(sample) for sample in found[value]],
        }
    columns = (name, "requests/s", "images/s", "p50 ms", "p99 ms", "memory MB", "errors")
    record("growth", name, Table(f"{MODEL.stem}, by {name}", columns, rows), samples)


def main() -> None:
    arguments = parser(__doc__, rounds=3, seconds=1)
    arguments.add_argument("--only", nargs="+", choices=[name.replace(" ", "-") for name in SWEEPS])
    options = arguments.parse_args()
    for name in SWEEPS:
        if not options.only or name.replace(" ", "-") in options.only:
            sweep(name, rounds_of(options))


if __name__ == "__main__":
    main()
