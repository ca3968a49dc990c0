"""A server as people start it, in a process of its own on a free port of this machine."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import httpx2
import psutil

ROOT = Path(__file__).resolve().parent.parent.parent


# Below those that the kernel hands out itself: BentoML asks it for two, and must not be given a server's own.
# Each of pytest's processes has every sixteenth of them, in turn from a place of its own.
PORTS = range(20_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), 32_768, 16)
UNTRIED = itertools.islice(itertools.cycle(PORTS), secrets.randbelow(len(PORTS)), None)


def free_port() -> int:
    """Return a port of this machine that nothing listens on, and that no other test is given."""
    for port in UNTRIED:
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            break
    return port


class Server:
    """`python -m service serve` in a process of its own."""

    verify: ssl.SSLContext | bool = True  # how its certificate is checked, where it has one
    is_ending = False  # a second SIGTERM would cut short what the first began

    def __init__(self, log: Path, *arguments: str, port: int | None = None, **settings: object) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        variables = {f"DIGITSERVE_{name.upper()}": str(value) for name, value in settings.items()}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve", "--port", str(self.port), *arguments],
                cwd=ROOT,
                env={**os.environ, **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self, within_s: float = 60) -> None:
        """The socket listens before the service is ready, so the first connection simply waits."""
        give_up = time.monotonic() + within_s
        while time.monotonic() < give_up and self.process.poll() is None:
            try:
                if httpx2.get(f"{self.url}/readyz", timeout=within_s, verify=self.verify).status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.05)  # nothing listens yet, so there is no event to wait for
        with self.log.open() as log:
            raise AssertionError(f"the server did not become ready:\n{log.read(100_000)}")

    def terminate(self) -> None:
        self.is_ending = True
        self.process.send_signal(signal.SIGTERM)

    def workers(self) -> list[psutil.Process]:
        """Its worker processes, of which BentoML's supervisor is the parent."""
        return [child for child in psutil.Process(self.process.pid).children() if is_worker(child)]

    def stop(self) -> None:
        if self.process.poll() is None and not self.is_ending:
            self.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End all of it at once; the supervisor is held first, or it would replace its workers."""
        supervisor = psutil.Process(self.process.pid)
        supervisor.suspend()
        for process in [*supervisor.children(recursive=True), supervisor]:
            process.kill()
        self.process.wait()


def metric(server: Server, name: str) -> float:
    """The value of one series, or 0 where it does not exist yet."""
    text = httpx2.get(f"{server.url}/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def is_worker(process: psutil.Process) -> bool:
    with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):  # killed, and not yet noticed by its parent
        return "_bentoml_impl.worker.service" in process.cmdline()
    return False


StartServer = Callable[..., Server]
