"""More than the service can do: what is still answered, how fast, and how fast the rest is refused.

    python -m tests.benchmarks.overload

Requests come on a fixed schedule, at shares of the capacity from half to twice, of a network whose inference
is the limit. Goodput is what is answered with 200 in a second. How long refusals took is what the service's
own histogram tells.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tests.service.tiny import picture, write_artifact

from .load import Sample, load
from .open_loop import Outcome, offer
from .records import Table, parser, record
from .servers import OURS, Server, started
from .uploads import Upload, pictures_form

WARM_UP_SHARE = 0.25  # of each schedule, until queue and shedding have settled
FULL_BATCHES = 128  # connections that fill one batch while another is computed
SHED_WITHIN_S = "0.005"
COLUMNS = (
    "offered, of capacity",
    "requests/s",
    "goodput/s",
    "of peak",
    "accepted p50 ms",
    "p99 ms",
    "of peak's",
    "shed/s",
    "shed within 5 ms",
    "anything else",
)


@dataclass(frozen=True)
class Offered:
    """What became of one schedule, after its warm-up."""

    load: float
    rate: float
    goodput: float
    p50_ms: float
    p99_ms: float
    shed_per_s: float
    shed_in_time: float | None
    others: int


def shed(server: Server) -> tuple[float, float]:
    """Refusals so far by the server's own count, and those within 5 ms of their arrival."""
    labels = {"route": "/predict", "status": "503"}
    in_time = server.metric("digitserve_request_seconds_bucket", le=SHED_WITHIN_S, **labels)
    return server.metric("digitserve_request_seconds_count", **labels), in_time


def run(server: Server, upload: Upload, share: float, capacity: float, seconds: float) -> Offered:
    before = shed(server)
    outcomes = offer(server, upload, rate=share * capacity, seconds=seconds)
    refused, in_time = (now - then for now, then in zip(shed(server), before, strict=True))
    return judge(outcomes, share, capacity, seconds, in_time / refused if refused else None)


def judge(
    outcomes: Sequence[Outcome], share: float, capacity: float, seconds: float, shed_in_time: float | None
) -> Offered:
    begins = WARM_UP_SHARE * seconds
    counted = [outcome for outcome in outcomes if outcome.due_s >= begins]
    answered = [o for o in outcomes if o.status == 200 and begins <= o.answered_s < seconds]
    latencies_ms = [1000 * (o.answered_s - o.due_s) for o in counted if o.status == 200]
    p50_ms, p99_ms = np.percentile(latencies_ms, [50, 99]).tolist()
    statuses = Counter(outcome.status for outcome in counted)
    span = seconds - begins
    others = sum(count for status, count in statuses.items() if status not in (200, 503))
    rate, goodput = share * capacity, len(answered) / span
    return Offered(share, rate, goodput, p50_ms, p99_ms, statuses[503] / span, shed_in_time, others)


def rows(found: Sequence[Offered], peak: Sample) -> list[list[str]]:
    """All loads beside the peak, at which every caller waits for an answer before asking again."""
    waiting = [f"{FULL_BATCHES} callers who wait", "", f"{peak.requests_per_s:,.0f}", "1.00"]
    waiting += [f"{peak.p50_ms:.0f}", f"{peak.p99_ms:.0f}", "1.00", "0", "", str(peak.errors)]
    return [
        waiting,
        *map(partial(row, peak), found),
    ]


def row(peak: Sample, one: Offered) -> list[str]:
    return [
        f"{one.load:g}",
        f"{one.rate:,.0f}",
        f"{one.goodput:,.0f}",
        f"{one.goodput / peak.requests_per_s:.2f}",
        f"{one.p50_ms:.0f}",
        f"{one.p99_ms:.0f}",
        f"{one.p99_ms / peak.p99_ms:.2f}",
        f"{one.shed_per_s:,.0f}",
        "" if one.shed_in_time is None else f"{100 * one.shed_in_time:.1f} %",
        str(one.others),
    ]


def main() -> None:
    arguments = parser(__doc__, rounds=1, seconds=6)
    arguments.add_argument("--layers", type=int, default=80, help="784x784 products an image costs")
    arguments.add_argument("--loads", nargs="+", type=float, default=[0.5, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0])
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = write_artifact(Path(folder), slow_layers=options.layers)
        upload = replace(pictures_form([picture(5)], ["5"]), path="/predict?canonical=never")
        with started(OURS, model, upload) as server:
            load(server, [upload], FULL_BATCHES, 2)
            peak = load(server, [upload], FULL_BATCHES, options.seconds)
            found = [
                run(server, upload, share, peak.requests_per_s, options.seconds)
                for share in options.loads
                for _ in range(options.rounds)
            ]
    title = f"{options.layers} products of 784x784 an image, one image a request"
    record("overload", "open loop", Table(title, COLUMNS, rows(found, peak)), [asdict(one) for one in found])


if __name__ == "__main__":
    main()
