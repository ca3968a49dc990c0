"""Our service beside what anyone would use instead: the same file, the same upload, the same two cores.

    python -m tests.benchmarks.serving --rounds 5 --seconds 5

starts every server, checks that it answers right, then measures them in turn, round after round, so that a
machine that changes its mind between rounds does so for all. Prints medians, and ratios round by round.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
import onnxruntime as ort
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent.parent
PEERS = Path(__file__).parent / "peers"
SCRIPT = Path(__file__).parent / "post.lua"
OURS = "digitserve"


@dataclass(frozen=True)
class Sample:
    """One server under load for one round."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


@dataclass
class Peer:
    name: str
    process: subprocess.Popen[bytes]
    url: str

    def memory_mb(self) -> float:
        """Resident memory of all its processes, shared pages counted once for each."""
        family = [
            psutil.Process(self.process.pid),
            *psutil.Process(self.process.pid).children(recursive=True),
        ]
        return sum(process.memory_info().rss for process in family) / 1e6


def commands(port: str) -> dict[str, list[str]]:
    """How each server is started; what was tuned is what its own documentation says to tune."""
    uvicorn = [sys.executable, "-m", "uvicorn", "--port", port, "--log-level", "warning", "--no-access-log"]
    bento = [sys.executable, "-m", "bentoml", "serve", "--port", port, "--host", "127.0.0.1"]
    return {
        OURS: [sys.executable, "-m", "service", "serve", "--port", port],
        "bare ASGI function": [*uvicorn, "tests.benchmarks.peers.asgi_peer:app"],
        "FastAPI + ONNX Runtime": [*uvicorn, "tests.benchmarks.peers.fastapi_peer:app"],
        "LitServe, batching": [sys.executable, str(PEERS / "litserve_peer.py"), port],
        "BentoML, batchable": [*bento, "tests.benchmarks.peers.bentoml_peer:Batched"],
        "BentoML, naive": [*bento, "tests.benchmarks.peers.bentoml_peer:Naive"],
    }


@contextmanager
def started(name: str, model: Path) -> Iterator[Peer]:
    """The server `name` in a process of its own, stopped in the end."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {
        **os.environ,
        "BENCH_MODEL": str(model),
        "BENTOML_DO_NOT_TRACK": "true",
        "DIGITSERVE_DEFAULT_MODEL": model.stem,
        "DIGITSERVE_MODELS": model.stem,
        "DIGITSERVE_THREADS": "1",
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            commands(port)[name], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield Peer(name, process, f"http://127.0.0.1:{port}/predict")
        finally:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.terminate()
            process.wait(timeout=30)


def wait_for_right_answer(peer: Peer, body: bytes, label: str) -> None:
    """Ask until the server answers; what it answers has to be right."""
    headers = {"content-type": "multipart/form-data; boundary=bench"}
    give_up = time.monotonic() + 90
    while time.monotonic() < give_up:
        try:
            response = httpx2.post(peer.url, content=body, headers=headers, timeout=30)
        except httpx2.TransportError:
            time.sleep(0.2)
            continue
        answer = response.json()
        if isinstance(answer, dict):
            [answer] = answer.get("predictions", [answer])
        else:  # BentoML's batchable API answers with a batch of one
            [answer] = answer
        found = answer.get("label")
        if found != label:
            raise SystemExit(f"{peer.name} answers {response.status_code} {response.text[:200]}, not {label}")
        return
    raise SystemExit(f"{peer.name} does not answer")


def load(url: str, body: Path, connections: int, seconds: float) -> Sample:
    """`wrk` with so many connections for so long; its one thread costs less than any server here."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "10s",
        "-s",
        str(SCRIPT),
        url,
    ]
    environment = {**os.environ, "BENCH_BODY": str(body)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    rate = figures["requests"] / figures["seconds"]
    return Sample(rate, figures["p50_ms"], figures["p99_ms"], figures["errors"])


def bare_images_per_s(model: Path, images: np.ndarray, seconds: float) -> float:
    """ONNX Runtime in a loop, one thread, one image at a time: the limit of an unbatched server."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        session.run(None, {"images": images[count % len(images)][np.newaxis]})
        count += 1
    return count / (time.perf_counter() - start)


def measure(
    peers: Sequence[Peer], body: Path, connections: int, rounds: int, seconds: float
) -> dict[str, list[Sample]]:
    """Each peer in turn, `rounds` times; the first pass only warms."""
    samples: dict[str, list[Sample]] = {peer.name: [] for peer in peers}
    for peer in peers:
        load(peer.url, body, connections, min(seconds, 2))
    for _ in range(rounds):
        for peer in peers:
            samples[peer.name].append(load(peer.url, body, connections, seconds))
    return samples


def table(title: str, samples: Mapping[str, Sequence[Sample]], memory: Mapping[str, float]) -> Table:
    """Medians of each server, and how many times as much of it ours does, round by round."""
    shown = Table(title=title, title_justify="left", box=None)
    shown.add_column("server")
    for heading in ("requests/s", "p50 ms", "p99 ms", "errors", "memory MB", "ours / it (least to most)"):
        shown.add_column(heading, justify="right")
    for name, found in samples.items():
        ratios = [
            ours.requests_per_s / it.requests_per_s for ours, it in zip(samples[OURS], found, strict=True)
        ]
        shown.add_row(
            name,
            f"{statistics.median(s.requests_per_s for s in found):,.0f}",
            f"{statistics.median(s.p50_ms for s in found):.2f}",
            f"{statistics.median(s.p99_ms for s in found):.2f}",
            str(sum(s.errors for s in found)),
            f"{memory[name]:,.0f}",
            ""
            if name == OURS
            else f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["mnist-mlp", "mnist-cnn"])
    parser.add_argument("--connections", nargs="+", type=int, default=[32, 1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench" / "serving.json")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("This needs wrk: apt-get install wrk")
    console = Console(width=130)
    figures: dict[str, object] = {"cores": os.cpu_count(), "cpu": cpu_name(), "results": {}}
    for name in options.models:
        model = ROOT / "models" / f"{name}.onnx"
        with np.load(model.with_name(f"{name}.golden.npz")) as golden:
            images, label = golden["images"], str(golden["probabilities"][0].argmax())
        with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
            body = Path(folder) / "body"
            body.write_bytes(form(images[0]))
            peers = [stack.enter_context(started(peer, model)) for peer in commands("0")]
            for peer in peers:
                wait_for_right_answer(peer, body.read_bytes(), label)
            for connections in options.connections:
                samples = measure(peers, body, connections, options.rounds, options.seconds)
                memory = {peer.name: peer.memory_mb() for peer in peers}
                console.print(table(f"{name}, {connections} connections", samples, memory))
                figures["results"][f"{name}, {connections}"] = {  # type: ignore[index]
                    peer: [vars(sample) for sample in found] for peer, found in samples.items()
                }
        bare = bare_images_per_s(model, images, options.seconds)
        console.print(f"ONNX Runtime alone, one image at a time, one thread: {bare:,.0f} images/s\n")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1))


def form(image: np.ndarray) -> bytes:
    """One PNG as the body of a form."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    head = (
        b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    )
    return b"--bench\r\n" + head + out.getvalue() + b"\r\n--bench--\r\n"


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


if __name__ == "__main__":
    main()
