"""A server as people start it, in a process of its own on a free port of this machine."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx2

ROOT = Path(__file__).resolve().parent.parent.parent


class Server:
    """`python -m service serve` in a process of its own."""

    verify: ssl.SSLContext | bool = True  # how its certificate is checked, where it has one

    def __init__(self, log: Path, *arguments: str, **settings: object) -> None:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
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
        raise AssertionError(f"the server did not become ready:\n{self.log.read_text()}")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.terminate()
            self.process.wait(timeout=30)


StartServer = Callable[..., Server]
