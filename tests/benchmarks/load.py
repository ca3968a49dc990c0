"""A server under load: `wrk` with so many connections for so long, each asking again once it is answered."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .servers import Server
from .uploads import Upload

SCRIPT = Path(__file__).parent / "post.lua"
WARM_UP_S = 2.0

Name = TypeVar("Name")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Rounds:
    """How often everything is measured, and for how long each time."""

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Sample:
    """One server under load for one round."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


def turn(server: Server, uploads: Sequence[Upload], connections: int, seconds: float) -> Sample:
    """`load` of a server that rests while others have theirs."""
    with server.having_its_turn():
        return load(server, uploads, connections, seconds)


def load(server: Server, uploads: Sequence[Upload], connections: int, seconds: float) -> Sample:
    """Send the uploads in turn; they differ in path and body at most. `wrk` costs less than any server here.

    Errors are answers other than 2xx, and connections that break or time out.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    with tempfile.TemporaryDirectory() as folder:
        bodies = [Path(folder) / str(place) for place in range(len(uploads))]
        for body, upload in zip(bodies, uploads, strict=True):
            body.write_bytes(upload.body)
        environment = {
            **os.environ,
            "BENCH_BODIES": "\n".join(map(str, bodies)),
            "BENCH_PATHS": "\n".join(upload.path for upload in uploads),
            "BENCH_HEADERS": "\n".join(f"{name}: {value}" for name, value in uploads[0].headers.items()),
        }
        done = subprocess.run(
            [*command, "-s", str(SCRIPT), server.origin],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
    figures = json.loads(done.stdout.splitlines()[-1])
    rate = figures["requests"] / figures["seconds"]
    return Sample(rate, figures["p50_ms"], figures["p99_ms"], figures["errors"])


def interleaved(measure: Mapping[Name, Callable[[float], Found]], rounds: Rounds) -> dict[Name, list[Found]]:
    """Call each with its seconds, in turn, round after round; a first short pass only warms.

    A machine that changes its mind between rounds then does so for all.
    """
    for call in measure.values():
        call(min(rounds.seconds, WARM_UP_S))
    found: dict[Name, list[Found]] = {name: [] for name in measure}
    for _ in range(rounds.rounds):
        for name, call in measure.items():
            found[name].append(call(rounds.seconds))
    return found


@dataclass(frozen=True)
class Spread:
    """The median of some figures, with the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        return cls(statistics.median(figures), min(figures), max(figures))

    @classmethod
    def of_ratios(cls, upper: Sequence[float], lower: Sequence[float]) -> Spread:
        """Ratios round by round, in which the machine's moods cancel."""
        return cls.of([one / other for one, other in zip(upper, lower, strict=True)])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def require_wrk() -> None:
    if shutil.which("wrk") is None:
        raise SystemExit("This needs wrk: apt-get install wrk")
