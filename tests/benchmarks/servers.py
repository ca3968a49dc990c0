"""The servers that are measured: ours and what anyone would use instead, each in processes of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
from prometheus_client.parser import text_string_to_metric_families

from .uploads import Upload

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = ROOT / "models"

OURS = "digitserve"
UNBATCHED = "digitserve without its batcher"
ASGI = "bare ASGI function"
FASTAPI = "FastAPI + ONNX Runtime"
LITSERVE = "LitServe, batching"
BATCHABLE = "BentoML, batchable"
NAIVE = "BentoML, naive"
PEERS = (OURS, ASGI, FASTAPI, LITSERVE, BATCHABLE, NAIVE)

START_WITHIN_S = 90
# What the load left behind is worked off before a server rests: BentoML's dispatcher times its batches, and
# would wait for ever longer ones if it counted its rest.
SETTLE_S = 0.25


def commands(port: str, workers: str) -> dict[str, list[str]]:
    """How each server is started; service/PERFORMANCE.md says what was tuned, and where that is advised."""
    python = [sys.executable, "-m"]
    # uvloop and httptools are what ours runs on; uvicorn takes them by itself where they are installed.
    uvicorn = [*python, "uvicorn", "--port", port, "--workers", workers, "--loop", "uvloop"]
    uvicorn += ["--http", "httptools", "--log-level", "warning", "--no-access-log"]
    bento = [*python, "bentoml", "serve", "--port", port, "--host", "127.0.0.1"]
    peers = "tests.benchmarks.peers"
    return {
        OURS: [*python, "service", "serve", "--port", port],
        UNBATCHED: [*python, f"{peers}.unbatched_peer", port],
        ASGI: [*uvicorn, f"{peers}.asgi_peer:app"],
        FASTAPI: [*uvicorn, f"{peers}.fastapi_peer:app"],
        LITSERVE: [*python, f"{peers}.litserve_peer", port],
        BATCHABLE: [*bento, f"{peers}.bentoml_peer:Batched"],
        NAIVE: [*bento, f"{peers}.bentoml_peer:Naive"],
    }


@dataclass(frozen=True)
class Server:
    """A running server; `started_s` is how long it took to answer for the first time."""

    name: str
    process: psutil.Process
    origin: str
    started_s: float

    @contextmanager
    def having_its_turn(self) -> Iterator[None]:
        """Let it run, then stop it: some servers poll, and would take the time of those whose turn it is."""
        for process in self.processes():
            process.resume()
        try:
            yield
        finally:
            time.sleep(SETTLE_S)
            for process in self.processes():
                process.suspend()

    def processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def memory_mb(self) -> float:
        """Resident memory of all its processes, shared pages counted once for each."""
        return sum(process.memory_info().rss for process in self.processes()) / 1e6

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all of its Prometheus samples of this name that have these labels."""
        text = httpx2.get(f"{self.origin}/metrics", timeout=30).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@contextmanager
def started(
    name: str, model: Path, upload: Upload | None = None, *, workers: int = 1, **settings: object
) -> Iterator[Server]:
    """The server `name` with one model and one inference thread a worker, stopped in the end.

    It has answered `upload` right before anything else happens. `settings` are ours, in lower case.
    """
    port = free_port()
    ours = {"models_dir": model.parent, "default_model": model.stem, "models": model.stem, "threads": 1}
    ours |= {"workers": workers, **settings}
    environment = {
        **os.environ,
        "BENCH_MODEL": str(model),
        "BENCH_WORKERS": str(workers),
        "BENTOML_DO_NOT_TRACK": "true",
        **{f"DIGITSERVE_{key.upper()}": str(value) for key, value in ours.items()},
    }
    command = commands(port, str(workers))[name]
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            origin = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(name, origin, upload), process, name)
            yield Server(name, psutil.Process(process.pid), origin, time.perf_counter() - began)
        finally:
            stop(process)


def free_port() -> str:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and all that it started."""
    family = [psutil.Process(process.pid)] if process.poll() is None else []
    family = [*(child for one in family for child in one.children(recursive=True)), *family]
    for member in family:
        with suppress(psutil.NoSuchProcess):  # it may end with the one before it
            member.resume()
            member.terminate()
    _, stubborn = psutil.wait_procs(family, timeout=15)
    for member in stubborn:
        member.kill()
    process.wait(timeout=15)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], name: str) -> None:
    """Ask until it is so; nothing tells of it, as nothing listens yet."""
    give_up = time.monotonic() + START_WITHIN_S
    while not condition():
        if time.monotonic() > give_up or process.poll() is not None:
            raise SystemExit(f"{name} does not answer")
        time.sleep(0.02)


def answers(name: str, origin: str, upload: Upload | None) -> bool:
    """Whether the server answers already: `upload` with the right label, or that it is ready.

    Raises:
        SystemExit: it answers something wrong.
    """
    try:
        if upload is None:
            return httpx2.get(f"{origin}/readyz", timeout=30).status_code == 200
        response = httpx2.post(origin + upload.path, content=upload.body, headers=upload.headers, timeout=30)
    except httpx2.TransportError:
        return False
    if response.status_code == 503:  # not ready yet
        return False
    answer = response.json()
    if isinstance(answer, dict):
        answer = answer.get("predictions", [answer])
    # BentoML's batchable API answers one picture with a batch of one.
    labels = [one["label"] for one in answer]
    if labels != list(upload.labels):
        raise SystemExit(f"{name} answers {response.status_code} {response.text[:200]}, not {upload.labels}")
    return True
