"""Our service beside what anyone would use instead: the same file, the same upload, the same two cores.

    python -m tests.benchmarks.serving --models mnist-mlp --connections 32

starts every server, checks that it answers right, then measures them in turn, round after round, so that a
machine that changes its mind between rounds does so for all. Prints medians, and ratios round by round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from .bare import session
from .load import Rounds, Sample, Spread, interleaved, turn
from .records import Table, parser, record, rounds_of
from .servers import MODELS, OURS, PEERS, started
from .uploads import form, golden

BARE = "ONNX Runtime in a loop"
COLUMNS = (
    "server",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "errors",
    "memory MB",
    "ours / it: requests/s",
    "p50",
    "p99",
)


def rows(samples: Mapping[str, Sequence[Sample]], memory_mb: Mapping[str, str]) -> list[list[str]]:
    """Medians of each server, and how many times as much of it ours has, round by round."""
    made = []
    for name, found in samples.items():
        columns = [[getattr(s, what) for s in found] for what in ("requests_per_s", "p50_ms", "p99_ms")]
        ours = [[getattr(s, what) for s in samples[OURS]] for what in ("requests_per_s", "p50_ms", "p99_ms")]
        rate, p50_ms, p99_ms = map(statistics.median, columns)
        ratios = [str(Spread.of_ratios(mine, its)) for mine, its in zip(ours, columns, strict=True)]
        errors = str(sum(sample.errors for sample in found))
        made.append([name, f"{rate:,.0f}", f"{p50_ms:.2f}", f"{p99_ms:.2f}", errors, memory_mb.get(name, "")])
        made[-1] += [""] * 3 if name == OURS else ratios
    return made


def alone(model: Path, seconds: float) -> Sample:
    """ONNX Runtime in a loop: the limit of a server that does not batch, without HTTP or a picture."""
    images, _ = golden(model, 1)
    opened, took_s = session(model), []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        opened.run(None, {"images": images})
        took_s.append(time.perf_counter() - began)
    p50_ms, p99_ms = np.percentile(took_s, [50, 99]) * 1000
    return Sample(len(took_s) / seconds, float(p50_ms), float(p99_ms), 0)


def compare(model: Path, workers: int, connections: Sequence[int], rounds: Rounds) -> None:
    upload = form(model)
    with ExitStack() as stack:
        peers = [stack.enter_context(started(name, model, upload, workers=workers)) for name in PEERS]
        for count in connections:
            measure: dict[str, Callable[[float], Sample]] = {
                peer.name: partial(turn, peer, [upload], count) for peer in peers
            }
            measure[BARE] = partial(alone, model)
            samples = interleaved(measure, rounds)
            memory_mb = {peer.name: f"{peer.memory_mb():,.0f}" for peer in peers}
            title = f"{model.stem}, connections: {count}, workers: {workers}"
            record("serving", title, Table(title, COLUMNS, rows(samples, memory_mb)), samples)


def main() -> None:
    arguments = parser(__doc__, rounds=5, seconds=2)
    arguments.add_argument("--models", nargs="+", default=["mnist-mlp", "mnist-cnn"])
    arguments.add_argument("--connections", nargs="+", type=int, default=[32, 1])
    arguments.add_argument("--workers", type=int, default=1, help="processes of each server (default 1)")
    options = arguments.parse_args()
    for name in options.models:
        compare(MODELS / f"{name}.onnx", options.workers, options.connections, rounds_of(options))


if __name__ == "__main__":
    main()
