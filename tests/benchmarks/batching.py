"""What batching costs a lone caller, and what it gives a crowd.

    python -m tests.benchmarks.batching

Our service beside itself without its batcher (each request computed alone, at once) and beside BentoML's own
dispatcher: time to answer on one connection, and requests a second on many. The size of the batches is what
each server's own metrics say.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from .load import Rounds, Sample, Spread, interleaved, load, turn
from .records import Table, parser, record, rounds_of
from .servers import BATCHABLE, MODELS, OURS, UNBATCHED, Server, started
from .uploads import Upload, form

SERIES = {OURS: "digitserve_batch_images", BATCHABLE: "bentoml_service_adaptive_batch_size"}


@dataclass(frozen=True)
class Crowd:
    """One round on many connections; `batch` is the mean size of a batch, 1 where there is no batcher."""

    sample: Sample
    batch: float


def crowd(server: Server, upload: Upload, connections: int, seconds: float) -> Crowd:
    with server.having_its_turn():
        before = batches(server)
        sample = load(server, [upload], connections, seconds)
        images, count = (now - then for now, then in zip(batches(server), before, strict=True))
    return Crowd(sample, images / count if count else 1.0)


def batches(server: Server) -> tuple[float, float]:
    """Images in all batches so far, and how many batches that was."""
    series = SERIES.get(server.name)
    return (server.metric(f"{series}_sum"), server.metric(f"{series}_count")) if series else (0.0, 0.0)


def rows(lone: dict[str, list[Sample]], crowds: dict[str, list[Crowd]]) -> list[list[str]]:
    made = []
    for name, found in lone.items():
        p50_ms = [sample.p50_ms for sample in found]
        beside = Spread.of_ratios(p50_ms, [sample.p50_ms for sample in lone[UNBATCHED]])
        rate, p99_ms = (
            statistics.median(getattr(one.sample, what) for one in crowds[name])
            for what in ("requests_per_s", "p99_ms")
        )
        batch = statistics.median(one.batch for one in crowds[name])
        errors = sum(s.errors for s in [*found, *(one.sample for one in crowds[name])])
        made.append([name, f"{statistics.median(p50_ms):.2f}", "" if name == UNBATCHED else str(beside)])
        made[-1] += [f"{rate:,.0f}", f"{p99_ms:.1f}", f"{batch:.1f}", str(errors)]
    return made


def compare(model: Path, connections: int, rounds: Rounds) -> None:
    upload = form(model)
    with ExitStack() as stack:
        servers: Sequence[Server] = [
            stack.enter_context(started(name, model, upload)) for name in (OURS, UNBATCHED, BATCHABLE)
        ]
        lone = interleaved({server.name: partial(turn, server, [upload], 1) for server in servers}, rounds)
        crowds = interleaved(
            {server.name: partial(crowd, server, upload, connections) for server in servers}, rounds
        )
    columns = ["server", "p50 ms, 1 connection", "of unbatched", f"requests/s, {connections} connections"]
    columns += ["p99 ms", "images a batch", "errors"]
    table = Table(model.stem, columns, rows(lone, crowds))
    samples = {"lone": lone, "crowd": {name: [asdict(one) for one in of] for name, of in crowds.items()}}
    record("batching", model.stem, table, samples)


def main() -> None:
    arguments = parser(__doc__, rounds=5, seconds=2)
    arguments.add_argument("--models", nargs="+", default=["mnist-mlp", "mnist-cnn"])
    arguments.add_argument("--connections", type=int, default=64)
    options = arguments.parse_args()
    for name in options.models:
        compare(MODELS / f"{name}.onnx", options.connections, rounds_of(options))


if __name__ == "__main__":
    main()
