"""Where the time of a request goes: processor time of each part of it, and what share of the whole that is.

    python -m tests.benchmarks.shares

The whole is the processor time of the server's processes for each request that `wrk` sends. Our application
alone is called in this process, as 32 callers would; each part is called by itself. What is left of the
application is routing, batching and the head of the answer; what is left of the whole is HTTP and the kernel.
Each figure is the least of many readings.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from service.answers import describe
from service.canonical import canonicalise
from service.plain_png import plain_grey
from service.responses import JsonResponse
from service.uploads import UploadLimits, parse_uploads

from .bare import classifier
from .load import Rounds, interleaved, load
from .records import Table, parser, record, rounds_of
from .servers import MODELS, OURS, Server, started
from .uploads import Upload, form, golden

CALLERS = 32
REQUESTS = 20  # of each caller, between two readings of the clock
CALLS = 100  # of a part, between two readings
Application = Callable[..., Awaitable[None]]


def parts(model: Path, upload: Upload) -> dict[str, Callable[[], object]]:
    """Each part of a request alone; inference for all callers at once, as one batch."""
    network = classifier(model)
    [picture] = parse_uploads(upload.body, upload.headers["content-type"], UploadLimits())
    assert isinstance(picture, bytes)
    image, (batch, _) = plain_grey(picture, 784), golden(model, CALLERS)
    assert image is not None
    outputs = network.predict(image[np.newaxis])
    return {
        "form": lambda: parse_uploads(upload.body, upload.headers["content-type"], UploadLimits()),
        "decoding": lambda: plain_grey(picture, 784),
        "canonical form": lambda: canonicalise(image, network.card.canonical_form),
        "inference": lambda: network.predict(batch),
        "answer and JSON": lambda: JsonResponse({"predictions": describe(network.card, outputs, 1)}),
    }


def part_us(call: Callable[[], object], seconds: float) -> float:
    """Processor time of one call in this process."""
    readings: list[float] = []
    give_up = time.perf_counter() + seconds
    while not readings or time.perf_counter() < give_up:
        began = time.process_time()
        for _ in range(CALLS):
            call()
        readings.append(1e6 * (time.process_time() - began) / CALLS)
    return min(readings)


def cpu_us(server: Server, upload: Upload, seconds: float) -> float:
    """Processor time of one request to the server, as the kernel counts it."""
    before = busy_s(server)
    requests = load(server, [upload], CALLERS, seconds).requests_per_s * max(1, round(seconds))
    return 1e6 * (busy_s(server) - before) / requests


def busy_s(server: Server) -> float:
    family = [server.process, *server.process.children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in family)


async def in_process_us(application: Application, upload: Upload, seconds: float) -> float:
    """Processor time of one request to the application, without HTTP: the least of many readings."""
    readings: list[float] = []
    give_up = time.perf_counter() + seconds
    while not readings or time.perf_counter() < give_up:
        began = time.process_time()
        await asyncio.gather(*(ask(application, upload) for _ in range(CALLERS)))
        readings.append(1e6 * (time.process_time() - began) / (CALLERS * REQUESTS))
    return min(readings)


async def ask(application: Application, upload: Upload) -> None:
    """One caller, who asks again once answered; as uvicorn would, without a socket."""
    given = [("host", "127.0.0.1"), ("content-length", str(len(upload.body))), *upload.headers.items()]
    headers = [(name.encode(), value.encode()) for name, value in given]

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status", 200) == 200

    for _ in range(REQUESTS):
        waiting = [{"type": "http.request", "body": upload.body, "more_body": False}]
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def receive(waiting: Any = waiting, gone: Any = gone) -> Any:
            return waiting.pop() if waiting else await gone

        scope = {
            "type": "http",
            "method": "POST",
            "path": upload.path,
            "query_string": b"",
            "headers": headers,
        }
        await application(scope | {"http_version": "1.1", "asgi": {"version": "3.0"}}, receive, send)


async def measured_in_process(model: Path, upload: Upload, rounds: Rounds) -> list[float]:
    """Our application, started in this process with one model."""
    os.environ |= {
        "DIGITSERVE_MODELS": model.stem,
        "DIGITSERVE_DEFAULT_MODEL": model.stem,
        "DIGITSERVE_THREADS": "1",
        "DIGITSERVE_METRICS_DIR": tempfile.mkdtemp(),
    }
    from service import app  # noqa: PLC0415 - it reads its settings when it is imported

    bento: Any = app.DigitServe
    whole = bento.to_asgi(is_main=True)
    async with whole.router.lifespan_context(whole):
        return [await in_process_us(app.OURS, upload, rounds.seconds) for _ in range(rounds.rounds)]


def measure(name: str, rounds: Rounds) -> None:
    model = MODELS / f"{name}.onnx"
    upload = form(model)
    in_process = uvloop.run(measured_in_process(model, upload, rounds))
    with started(OURS, model, upload) as server:
        whole = interleaved({"whole": lambda seconds: cpu_us(server, upload, seconds)}, rounds)["whole"]
    calls = {part: partial(part_us, call) for part, call in parts(model, upload).items()}
    alone = interleaved(calls, Rounds(rounds.rounds, rounds.seconds / len(calls)))
    us = {part: min(figures) / (CALLERS if part == "inference" else 1) for part, figures in alone.items()}
    us["routing, batching, head of the answer"] = min(in_process) - sum(us.values())
    us["HTTP, sockets, kernel"] = min(whole) - sum(us.values())
    rows = [[part, f"{taken:.0f}", f"{taken / min(whole):.0%}"] for part, taken in us.items()]
    columns = ("part", "µs", "share")
    table = Table(f"{name}, {CALLERS} connections", columns, [*rows, ["whole", f"{min(whole):.0f}", ""]])
    record("shares", name, table, {"whole": whole, "in process": in_process, **alone})


def main() -> None:
    options = parser(__doc__, rounds=5, seconds=2).parse_args()
    measure("mnist-mlp", rounds_of(options))


if __name__ == "__main__":
    main()
