"""One request with 256 images beside a loop that does the same work in one process, without HTTP.

    python -m tests.benchmarks.large_requests --models mnist-mlp

Pictures as files of a form, against decoding, canonicalising and running them as one batch; canonical pixels
as a binary tensor at `/v2`, against `session.run` alone. One connection, so that nothing overlaps.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .bare import read_and_run, run_batches
from .load import Rounds, Spread, interleaved, load
from .records import Table, parser, record, rounds_of
from .servers import MODELS, OURS, Server, started
from .uploads import Upload, form, golden, png, tensor

IMAGES = 256
COLUMNS = ("256 images a request", "images/s", "without HTTP, images/s", "share of that", "aim", "errors")


@dataclass(frozen=True)
class Round:
    """Images a second; errors where it was over HTTP."""

    images_per_s: float
    errors: int = 0


def over_http(server: Server, upload: Upload, seconds: float) -> Round:
    sample = load(server, [upload], 1, seconds)
    return Round(IMAGES * sample.requests_per_s, sample.errors)


def compare(model: Path, rounds: Rounds) -> None:
    pictures = [png(image) for image in golden(model, IMAGES)[0]]
    cases: dict[str, tuple[Upload, Callable[[float], Round], str]] = {
        "PNGs in a form": (
            form(model, IMAGES),
            lambda seconds: Round(read_and_run(model, pictures, seconds)),
            "0.85",
        ),
        "a binary tensor at /v2": (
            tensor(model, IMAGES),
            lambda seconds: Round(run_batches(model, IMAGES, seconds)),
            "0.75",
        ),
    }
    rows, samples = [], {}
    with started(OURS, model, form(model)) as server:
        for name, (upload, alone, aim) in cases.items():
            ways: dict[str, Callable[[float], Round]] = {
                "served": partial(over_http, server, upload),
                "alone": alone,
            }
            found = interleaved(ways, rounds)
            served, bare = ([one.images_per_s for one in found[how]] for how in ("served", "alone"))
            share = Spread.of_ratios(served, bare)
            medians = [f"{statistics.median(figures):,.0f}" for figures in (served, bare)]
            errors = sum(one.errors for one in found["served"])
            rows.append([f"{model.stem}, {name}", *medians, str(share), f"≥ {aim}", str(errors)])
            samples[name] = found
    record("large_requests", model.stem, Table(model.stem, COLUMNS, rows), samples)


def main() -> None:
    arguments = parser(__doc__, rounds=5, seconds=2)
    arguments.add_argument("--models", nargs="+", default=["mnist-mlp", "mnist-cnn"])
    options = arguments.parse_args()
    for name in options.models:
        compare(MODELS / f"{name}.onnx", rounds_of(options))


if __name__ == "__main__":
    main()
