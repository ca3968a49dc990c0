"""How long the service takes to start, and what it holds before the first request.

    python -m tests.benchmarks.start

From `make serve`, already set up, to `/readyz`, with all shipped models; and what of it is importing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass

import psutil

from .load import Spread
from .records import Table, parser, record
from .servers import OURS, ROOT, Server, answers, free_port, stop, wait_for

COLUMNS = ("", "median", "least", "most", "aim")
IMPORT_TIME = re.compile(r"import time:\s*\d+ \|\s*(\d+) \|\s*service\.app$", re.MULTILINE)


@dataclass(frozen=True)
class Start:
    """One start; a process that only imports is measured by itself."""

    ready_s: float
    import_s: float
    memory_mb: float


def start() -> Start:
    port = free_port()
    environment = {**os.environ, "PORT": port}
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            ["make", "serve"], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_for(lambda: answers(OURS, f"http://127.0.0.1:{port}", None), process, "make serve")
            ready_s = time.perf_counter() - began
            server = Server(OURS, psutil.Process(process.pid), "", ready_s)
            return Start(ready_s, import_s(), server.memory_mb())
        finally:
            stop(process)


def import_s() -> float:
    """Seconds that importing the service takes, by Python's own account, which adds about a tenth."""
    command = [sys.executable, "-X", "importtime", "-c", "import service.app"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    [microseconds] = IMPORT_TIME.findall(done.stderr)
    return int(microseconds) / 1e6


def main() -> None:
    options = parser(__doc__, rounds=5, seconds=0).parse_args()
    subprocess.run(["make", ".venv/serving"], cwd=ROOT, check=True)  # set up, if it was not
    found = [start() for _ in range(options.rounds)]
    named = {
        "`make serve` to ready, s": ([one.ready_s for one in found], "{:.2f}", "≤ 4"),
        "importing, s": ([one.import_s for one in found], "{:.2f}", ""),
        "memory when ready, MB": ([one.memory_mb for one in found], "{:.0f}", ""),
    }
    rows = []
    for name, (figures, how, aim) in named.items():
        spread = Spread.of(figures)
        rows.append([name, *(how.format(x) for x in (spread.median, spread.least, spread.most)), aim])
    record("start", "start", Table("start", COLUMNS, rows), [asdict(one) for one in found])


if __name__ == "__main__":
    main()
