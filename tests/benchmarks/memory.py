"""What the service holds after 10,000 requests, and after 100,000.

    python -m tests.benchmarks.memory

What grows with the number of requests leaks. Resident memory of all its processes.
"""

from __future__ import annotations

from pathlib import Path

from .load import load
from .records import Table, parser, record
from .servers import MODELS, OURS, Server, started
from .uploads import Upload, form

MILESTONES = (1_000, 10_000, 30_000, 100_000)
CONNECTIONS = 32
COLUMNS = ("requests", "memory MB", "of that after 10,000", "errors")


def answered(server: Server) -> float:
    return server.metric("digitserve_requests_total", route="/predict", status="200")


def load_until(server: Server, upload: Upload, requests: int, seconds: float) -> int:
    """Keep the server busy until it has answered so many in all; the errors on the way."""
    errors = 0
    while answered(server) < requests:
        errors += load(server, [upload], CONNECTIONS, seconds).errors
    return errors


def grow(model: Path, seconds: float) -> None:
    upload = form(model)
    found: dict[int, tuple[float, int]] = {}
    with started(OURS, model, upload) as server:
        for requests in MILESTONES:
            errors = load_until(server, upload, requests, seconds)
            found[round(answered(server))] = (server.memory_mb(), errors)
    base, _ = list(found.values())[1]
    rows = [
        [f"{requests:,}", f"{memory_mb:.1f}", f"{memory_mb / base:.3f}", str(errors)]
        for requests, (memory_mb, errors) in found.items()
    ]
    record("memory", model.stem, Table(f"{model.stem}, {CONNECTIONS} connections", COLUMNS, rows), found)


def main() -> None:
    options = parser(__doc__, rounds=1, seconds=1).parse_args()
    for _ in range(options.rounds):
        grow(MODELS / "mnist-mlp.onnx", options.seconds)


if __name__ == "__main__":
    main()
