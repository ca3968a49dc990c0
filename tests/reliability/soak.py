"""Mixed traffic at 80 % of capacity for as long as one likes, against two workers with the shipped models.

`python tests/reliability/soak.py --minutes 30` prints what each part of the time looked like; the exit status
is 1 where a request failed, or memory or latency drifted. The suite runs two minutes of it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import sys
import tempfile
import time
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent.parent / "service"))

from real_server import Server

CONNECTIONS = 16
CAPACITY_S = 5.0
LOAD = 0.8
PARTS = 6


@dataclass(frozen=True)
class Question:
    """A whole request, and what the answer must begin with."""

    name: str
    request: bytes
    status: bytes = b"200"


@dataclass
class Part:
    """What happened in one part of the time."""

    latencies_s: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    resident_bytes: int = 0

    def latency_ms(self, quantile: int) -> float:
        return statistics.quantiles(self.latencies_s, n=100)[quantile - 1] * 1000


def mixed_traffic() -> list[Question]:
    """Digits and garments in every shape of request, and some that are wrong."""
    rng = np.random.default_rng(0)
    sheet = np.full((64, 64), 255, np.uint8)
    sheet[12:52, 28:36] = rng.integers(0, 60, (40, 8))
    digit, shoe, photo = (
        _saved(sheet, "PNG"),
        _saved(sheet, "WEBP"),
        _saved(np.kron(sheet, np.ones((12, 12), np.uint8)), "JPEG"),
    )
    infer = {"name": "images", "datatype": "UINT8", "shape": [4, 28, 28]}
    tensor = rng.integers(0, 256, (4, 28, 28), dtype=np.uint8)
    head = json.dumps({"inputs": [{**infer, "parameters": {"binary_data_size": tensor.size}}]}).encode()
    boundary = "content-type: multipart/form-data; boundary=x"
    part = b'--x\r\ncontent-disposition: form-data; name="a"; filename="b"\r\n\r\n%s\r\n'
    often = [_post("one PNG", "/predict", digit)] * 8
    return [
        *often,
        _post("form of one", "/predict", part % digit + b"--x--\r\n", boundary),
        _post("form of eight", "/predict", part % digit * 8 + b"--x--\r\n", boundary),
        _post("photograph", "/predict?top_k=3", photo),
        _post("garment", "/predict?model=fashion-mnist-cnn", shoe),
        _post("JSON", "/predict", json.dumps({"images": [b64encode(digit).decode()]}).encode()),
        _post("tensor in JSON", "/v2/models/mnist-mlp/infer", _json_tensor(tensor)),
        _post(
            "tensor in bytes",
            "/v2/models/mnist-cnn/infer",
            head + tensor.tobytes(),
            f"inference-header-content-length: {len(head)}",
        ),
        Question("models", b"GET /models HTTP/1.1\r\nhost: a\r\n\r\n"),
        Question("page", b"GET /ui HTTP/1.1\r\nhost: a\r\n\r\n"),
        Question("health", b"GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n"),
        _post("no picture", "/predict", b"hello", status=b"415"),
        _post("half a picture", "/predict", digit[:80], status=b"422"),
    ]


def _json_tensor(tensor: np.ndarray) -> bytes:
    infer = {"name": "images", "datatype": "UINT8", "shape": tensor.shape, "data": tensor.ravel().tolist()}
    return json.dumps({"inputs": [infer]}).encode()


def _saved(pixels: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def _post(name: str, path: str, body: bytes, header: str = "x: y", status: bytes = b"200") -> Question:
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\n{header}\r\ncontent-length: {len(body)}\r\n\r\n"
    return Question(name, head.encode() + body, status)


async def ask_on(port: int, questions: list[Question], until: float, rate: float, parts: list[Part]) -> None:
    """Ask `rate` questions a second on one connection until then; each belongs to the part it began in."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    asked = 0
    while (now := time.monotonic()) < until:
        due = started + asked / rate
        if due > now:
            await asyncio.sleep(due - now)  # the pace is what this is about
        question = questions[asked % len(questions)]
        asked += 1
        part = parts[min(int((now - started) / (until - started) * len(parts)), len(parts) - 1)]
        began = time.monotonic()
        writer.write(question.request)
        try:
            status = await _read_status(reader)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            part.failures[f"{question.name}: {error!r}"] += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            continue
        part.latencies_s.append(time.monotonic() - began)
        if status != question.status:
            part.failures[f"{question.name}: {status.decode()}"] += 1
    writer.close()


async def _read_status(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))
    return head[9:12]


async def load(server: Server, seconds: float, rate: float, parts: list[Part]) -> None:
    """All connections together ask `rate` questions a second; the memory is noted as each part ends."""
    questions = mixed_traffic()
    until = time.monotonic() + seconds
    callers = [
        ask_on(server.port, questions[n:] + questions[:n], until, rate / CONNECTIONS, parts)
        for n in range(CONNECTIONS)
    ]

    async def note_memory() -> None:
        for number, part in enumerate(parts):
            await asyncio.sleep(max(0, until - seconds * (1 - (number + 1) / len(parts)) - time.monotonic()))
            part.resident_bytes = sum(worker.memory_info().rss for worker in server.workers())

    await asyncio.gather(*callers, note_memory())


def soak(server: Server, seconds: float) -> tuple[float, list[Part]]:
    """The rate at 80 % of what the server can do, and what each part of the time at that rate looked like."""
    warm, measured = [Part()], [Part()]
    asyncio.run(load(server, CAPACITY_S, 1e6, warm))
    asyncio.run(load(server, CAPACITY_S, 1e6, measured))
    rate = LOAD * len(measured[0].latencies_s) / CAPACITY_S
    parts = [Part() for _ in range(PARTS)]
    asyncio.run(load(server, seconds, rate, parts))
    return rate, parts


def faults(parts: list[Part]) -> list[str]:
    """A sentence for each promise that was broken."""
    broken = [f"{count} times {failure}" for part in parts for failure, count in part.failures.items()]
    # The first part still warms what is rare in the mix.
    memory = [part.resident_bytes for part in parts[1:]]
    if memory[-1] > 1.1 * memory[0]:
        broken.append(f"memory grew from {memory[0] / 2**20:.0f} to {memory[-1] / 2**20:.0f} MiB")
    medians = [part.latency_ms(50) for part in parts[1:]]
    if min(medians[-2:]) > 1.5 * medians[0]:
        broken.append(f"the median latency went from {medians[0]:.1f} to {medians[-1]:.1f} ms")
    return broken


def table(rate: float, parts: list[Part]) -> str:
    lines = [f"{rate:.0f} requests/s, 80 % of capacity"]
    lines += [
        f"part {n}: {len(part.latencies_s)} requests, p50 {part.latency_ms(50):.1f} ms, "
        f"p99 {part.latency_ms(99):.1f} ms, {part.resident_bytes / 2**20:.0f} MiB, "
        f"{part.failures.total()} failed"
        for n, part in enumerate(parts, 1)
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "log", workers=2)
        try:
            server.wait_until_ready()
            rate, parts = soak(server, options.minutes * 60)
        finally:
            server.stop()
    print(table(rate, parts))
    for fault in faults(parts):
        print("FAULT:", fault)
    return 1 if faults(parts) else 0


if __name__ == "__main__":
    sys.exit(main())
