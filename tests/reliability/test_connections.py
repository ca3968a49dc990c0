"""Slow, endless and too many connections: none holds a worker, each has an end."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx2
import pytest
from real_server import Server, StartServer
from tiny import picture

TRANSFER_S = 2
# A look each second, and a machine that is busy.
BOUND_S = TRANSFER_S + 8
MAX_CONNECTIONS = 60
HEAD = b"POST /predict?canonical=never HTTP/1.1\r\nhost: a\r\n"

Connect = Callable[[], socket.socket]

pytestmark = pytest.mark.reliability


@pytest.fixture(scope="module")
def server(start_server: StartServer, tiny_models: Path) -> Server:
    limits = {"transfer_ms": TRANSFER_S * 1000, "max_connections": MAX_CONNECTIONS, "max_header_bytes": 8_000}
    return start_server(models_dir=tiny_models, **limits)


@pytest.fixture
def connect(server: Server) -> Iterator[Connect]:
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(
            closing(socket.create_connection(("127.0.0.1", server.port), timeout=30))
        )


def read_answer(caller: socket.socket) -> bytes:
    """All that arrives until the server closes the connection, or breaks it off."""
    received = b""
    with suppress(ConnectionError):
        while part := caller.recv(65536):
            received += part
    return received


def drip(caller: socket.socket, byte: bytes, pause_s: float = 0.2) -> tuple[bytes, float]:
    """Send one byte after another until the server has had enough; its answer, and after how many seconds."""
    started = time.monotonic()
    caller.settimeout(pause_s)  # the pause between two bytes is a wait for the answer
    received = b""
    while time.monotonic() - started < BOUND_S:
        try:
            caller.sendall(byte)
            part = caller.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            part = b""
        received += part
        if not part:
            return received, time.monotonic() - started
    raise AssertionError(f"the connection is still open after {BOUND_S} s")


def good_answer(server: Server) -> bool:
    answer = httpx2.post(f"{server.url}/predict?canonical=never", files={"image": picture(7)}, timeout=5)
    return bool(answer.json()["predictions"][0]["label"] == "7")


@pytest.mark.parametrize(
    ("sent", "byte"),
    [
        (b"POST /", b"a"),
        (HEAD + b"x-slow: ", b"x"),
        (HEAD + b"content-length: 100000\r\n\r\n", b"x"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["request-line", "header", "body", "chunks"],
)
def test_a_request_that_comes_byte_by_byte_is_refused_in_time(
    server: Server, connect: Connect, sent: bytes, byte: bytes
) -> None:
    caller = connect()
    caller.sendall(sent)
    answer, seconds = drip(caller, byte)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b'"code": "request_timeout"' in answer
    assert TRANSFER_S <= seconds < BOUND_S
    assert good_answer(server)


def test_a_connection_that_never_says_anything_is_closed(connect: Connect) -> None:
    assert read_answer(connect()) == b""


def test_a_body_that_goes_on_after_its_refusal_is_cut_off(server: Server, connect: Connect) -> None:
    caller = connect()
    caller.sendall(b"POST /absent HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    answer, seconds = drip(caller, b"1\r\nx\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert seconds < BOUND_S
    assert good_answer(server)


def test_a_reader_that_stops_is_cut_off(server: Server, connect: Connect) -> None:
    caller = connect()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    closed = server.log.read_text().count("closed a connection")
    caller.sendall(b"GET /ui/page.css HTTP/1.1\r\nhost: a\r\n\r\n" * 1000)  # and not one answer is read
    give_up = time.monotonic() + BOUND_S + 10
    while server.log.read_text().count("closed a connection") == closed:
        assert good_answer(server)
        assert time.monotonic() < give_up
    answer = read_answer(caller)
    assert answer.count(b"HTTP/1.1 200") < 1000


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        HEAD + b"x: " + b"a" * 20_000 + b"\r\n\r\n",
        HEAD + b"some: header\r\n" * 1_500 + b"\r\n",
    ],
    ids=["address", "header", "headers"],
)
def test_a_head_past_the_limit_is_refused(server: Server, connect: Connect, head: bytes) -> None:
    for first in (4_000, len(head)):  # in two packets, and in one
        caller = connect()
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller.sendall(head[:first])
        assert good_answer(server), "so that the first packet has been read"
        with suppress(ConnectionError):
            caller.sendall(head[first:])
        assert read_answer(caller).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("endless", [b"a: b\r\n", b"a"], ids=["many", "one"])
def test_trailers_without_end_are_cut_off(server: Server, connect: Connect, endless: bytes) -> None:
    caller = connect()
    caller.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\na: ")
    with pytest.raises(ConnectionError):
        caller.sendall(endless * (60_000_000 // len(endless)))
    assert good_answer(server)


def test_a_large_body_in_many_chunks_is_no_offence(server: Server) -> None:
    chunks = (b"x" * 1000 for _ in range(20_000))
    answer = httpx2.post(f"{server.url}/predict", content=chunks, timeout=30)
    assert answer.status_code == 415


def test_connections_past_the_limit_are_refused_until_there_is_room(server: Server, connect: Connect) -> None:
    held = [connect() for _ in range(MAX_CONNECTIONS)]
    refused = connect()
    answer = read_answer(refused)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer
    for caller in held:
        caller.close()
    give_up = time.monotonic() + BOUND_S
    has_room = False
    while not has_room:
        assert time.monotonic() < give_up
        with suppress(httpx2.TransportError, KeyError):
            has_room = good_answer(server)


def test_a_hundred_slow_callers_keep_nobody_waiting(server: Server, connect: Connect) -> None:
    slow = [connect() for _ in range(MAX_CONNECTIONS - 10)]
    for n, caller in enumerate(slow):
        caller.sendall([b"POST", HEAD, HEAD + b"content-length: 9\r\n\r\n1"][n % 3])
    waits: list[float] = []
    while any(still_open(caller) for caller in slow):
        started = time.monotonic()
        assert good_answer(server)
        waits.append(time.monotonic() - started)
    assert len(waits) > 5
    assert sorted(waits)[len(waits) // 2] < 0.5


def still_open(caller: socket.socket) -> bool:
    caller.settimeout(0)
    try:
        return bool(caller.recv(65536))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
