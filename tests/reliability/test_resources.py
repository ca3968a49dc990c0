"""What a machine runs out of, and a clock that jumps: a clear error at most, then all is well again."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from callers import RIGHT, Callers
from real_server import Server
from tiny import picture

RequireProgram = Callable[[str], Path]
DESCRIPTORS = 160


def predict(server: Server) -> int:
    return httpx2.post(f"{server.url}/predict?canonical=never", content=picture(7), timeout=10).status_code


def year_of(server: Server) -> int:
    """The year in which the server says that it lives."""
    date = httpx2.get(f"{server.url}/v2/health/live").headers["date"]
    return int(re.findall(r"\d{4}", date)[0])


@pytest.mark.reliability
def test_out_of_descriptors_callers_are_refused_in_words_and_then_served_again(
    tmp_path: Path, tiny_models: Path
) -> None:
    server = Server(tmp_path / "log", models_dir=tiny_models)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    try:
        server.wait_until_ready()
        with contextlib.ExitStack() as stack:
            open_ones = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
                for _ in range(2 * DESCRIPTORS)
            ]
            answer = open_ones[-1].makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"too many connections" in answer
            early = open_ones[0]
            early.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: a\r\n\r\n")
            assert early.recv(12) == b"HTTP/1.1 200", "whoever was let in is served"
        with Callers(server.port, 4) as callers:
            callers.wait_for(lambda outcomes: outcomes[RIGHT] > 50)
        log = server.log.read_text()
        assert re.search(rf"{DESCRIPTORS} file descriptors allow \d+ connections, not 1000", log)
        assert "Traceback" not in log
    finally:
        server.stop()


@pytest.mark.reliability
def test_a_clock_that_jumps_changes_no_deadline_and_no_answer(
    tmp_path: Path, slow_models: Path, require_program: RequireProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the wall goes ten years forth and back; deadlines run on the one that only goes forth."""
    faketime = require_program("faketime")
    shown = subprocess.run([str(faketime), "now", "env"], capture_output=True, text=True, check=True).stdout
    library = re.search(r"^LD_PRELOAD=(\S+)", shown, re.MULTILINE)
    assert library is not None
    offset = tmp_path / "offset"
    offset.write_text("+0")
    monkeypatch.setenv("LD_PRELOAD", library[1])
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(offset))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    server = Server(tmp_path / "log", models_dir=slow_models, timeout_ms=9_000)
    try:
        server.wait_until_ready()
        with Callers(server.port, 4) as callers:
            for jump, year in (("+3650d", 10), ("-3650d", -10), ("+0", 0)):
                offset.write_text(jump)
                give_up = time.monotonic() + 30
                while abs(year_of(server) - time.gmtime().tm_year - year) > 1:  # it looks once a second
                    assert time.monotonic() < give_up, "the server sees the jump"
                callers.wait_for_more(50)
        assert set(callers.outcomes) == {RIGHT}
        assert max(callers.latencies_s) < 9, "as long as the deadline is, and no ten years"
    finally:
        server.stop()


@pytest.mark.reliability
def test_a_log_that_takes_no_more_stops_nothing(tmp_path: Path, tiny_models: Path) -> None:
    server = Server(Path("/dev/full"), models_dir=tiny_models, log_level="debug")
    try:
        server.wait_until_ready()
        assert {predict(server) for _ in range(20)} == {200}
        assert httpx2.post(f"{server.url}/predict", content=b"x").status_code == 415
    finally:
        server.stop()


@pytest.mark.reliability
def test_a_disk_that_fills_up_under_a_server_stops_nothing(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system of its own needs the right to mount one")
    server = None
    try:
        monkeypatch.setenv("TMPDIR", str(folder))
        server = Server(tmp_path / "log", models_dir=tiny_models)
        server.wait_until_ready()
        fill(folder)
        with Callers(server.port, 4) as callers:
            callers.wait_for_more(100)
            statuses = {
                httpx2.get(f"{server.url}{path}").status_code for path in ("/metrics", "/readyz", "/ui")
            }
        assert statuses == {200}
        assert set(callers.outcomes) == {RIGHT}
        (folder / "full").unlink()
        assert predict(server) == 200
    finally:
        if server is not None:
            server.stop()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    with (folder / "full").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
