"""uvicorn with our bounds, in this process: every limit of a connection, and how a server drains."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
from typing import Any

import pytest
import uvicorn
from uvicorn_here import HEAD, serving, talk

from service import connections, draining, marks
from service.connections import running_server
from service.draining import Drain
from service.settings import Settings


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with as many bytes as the path says, once the body has come; /early does not wait for it."""
    more = scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
    size = int(scope["path"][1:]) if scope["path"][1:].isdecimal() else 2
    length = [(b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": bytes(size)})


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_INTERVAL_S", 0.01)
    monkeypatch.setattr(connections, "GOODBYE_S", 0.05)


def test_a_request_within_bounds_is_answered_and_no_type_guessed() -> None:
    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            writer.write(HEAD + b"content-length: 3\r\n\r\nabc")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert b"x-content-type-options: nosniff" in head
            await reader.readexactly(2)

    talk(echo, conversation)


@pytest.mark.parametrize("sent", [b"POST", HEAD + b"content-length: 9\r\n\r\nabc"])
def test_a_request_that_does_not_arrive_is_refused(sent: bytes) -> None:
    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"request_timeout" in answer

    talk(echo, conversation, transfer_ms=100)


@pytest.mark.parametrize(
    "sent", [b"", HEAD.replace(b"POST /", b"POST /early") + b"content-length: 9\r\n\r\nabc"]
)
def test_a_connection_that_says_nothing_or_goes_on_after_its_answer_is_cut_off(sent: bytes) -> None:
    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        received = b""
        try:
            while part := await reader.read(1000):
                received += part
        except ConnectionResetError:
            pass
        assert received.count(b"HTTP/1.1") == bool(sent)

    talk(echo, conversation, transfer_ms=100)


def test_an_answer_that_nobody_reads_is_cut_off() -> None:
    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD.replace(b"POST /", b"GET /100000000") + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        while not writer.transport.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.02)

    talk(echo, conversation, transfer_ms=100)


@pytest.fixture
def read_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes the server has had in each read so far."""
    sizes: list[int] = []
    take = connections.BoundedProtocol.data_received

    def note_and_take(protocol: connections.BoundedProtocol, data: bytes) -> None:
        sizes.append(len(data))
        take(protocol, data)

    monkeypatch.setattr(connections.BoundedProtocol, "data_received", note_and_take)
    return sizes


async def until_read(sizes: list[int], count: int) -> None:
    while sum(sizes) < count:  # noqa: ASYNC110 - the server tells nobody what it has read
        await asyncio.sleep(0)


@pytest.mark.parametrize("first", [0, 2_000])
def test_a_head_past_the_limit_is_refused_in_one_read_or_two(first: int, read_sizes: list[int]) -> None:
    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = HEAD + b"x: " + b"a" * 6_000 + b"\r\n\r\n"
        writer.write(head[:first])
        await until_read(read_sizes, first)
        writer.write(head[first:])
        assert (await reader.read()).startswith(b"HTTP/1.1 431")

    talk(echo, conversation, max_header_bytes=1_000)


def test_framing_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch, read_sizes: list[int]) -> None:
    monkeypatch.setattr(connections, "MAX_FRAMING_BYTES", 10_000)

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = HEAD + b"transfer-encoding: chunked\r\n\r\n"
        writer.write(head)
        await until_read(read_sizes, len(head))
        for _ in range(20):
            writer.write(b"1;" + b"e" * 1_000 + b"\r\nx\r\n")
            await asyncio.sleep(0)
        with pytest.raises(ConnectionError):
            await reader.read()

    talk(echo, conversation, max_header_bytes=5_000)


def test_what_is_no_http_gets_an_error_of_ours() -> None:
    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x16\x03\x01\r\n\r\n")
        assert b"This is no HTTP/1.1 request." in await reader.read()

    talk(echo, conversation)


def test_nobody_is_upgraded_to_a_websocket() -> None:
    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        upgrade = b"connection: upgrade\r\nupgrade: websocket\r\n"
        writer.write(HEAD.replace(b"POST", b"GET") + upgrade + key + b"\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")

    talk(echo, conversation)


def test_a_head_that_is_too_large_and_no_http_either_is_refused_once() -> None:
    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /" + b"a" * 6_000 + b" HTTP/1.1\r\nno colon\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400")
        assert answer.count(b"HTTP/1.1 ") == 1 + answer.count(b"no HTTP/1.1 ")

    talk(echo, conversation, max_header_bytes=1_000)


def test_one_connection_too_many_is_refused() -> None:
    async def crowd(_: uvicorn.Server, port: int) -> None:
        first = await asyncio.open_connection("127.0.0.1", port)
        first[1].write(HEAD + b"content-length: 0\r\n\r\n")
        await first[0].readuntil(b"\r\n\r\n")
        second = await asyncio.open_connection("127.0.0.1", port)
        answer = await second[0].read()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in answer
        for _, writer in (first, second):
            writer.close()

    asyncio.run(serving(echo, crowd, max_connections=1))


def test_connections_are_no_more_than_the_descriptors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (50, 150))
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    assert connections._connections_at_most(Settings()) == 50
    assert raised == [(150, 150)]
    assert "150 file descriptors allow 50 connections" in caplog.text


def test_without_uvicorn_there_is_no_server() -> None:
    assert running_server() is None


async def let_in(port: int) -> bytes:
    """Whether a new connection is completed within the moment that a listener is still there."""
    with socket.socket() as caller:
        caller.settimeout(0)
        try:
            async with asyncio.timeout(0.05):
                await asyncio.get_running_loop().sock_connect(caller, ("127.0.0.1", port))
        except TimeoutError:
            return b"ignored"
        return b"let in"


def drained(workers: int) -> list[bytes]:
    """What callers get before and after SIGTERM: on an open connection, and on new ones."""
    answers: list[bytes] = []

    async def end(server: uvicorn.Server, port: int) -> None:
        before = signal.signal(signal.SIGTERM, server.handle_exit)
        try:
            assert running_server() is server
            drain = Drain(drain_s=0.3, workers=workers)
            drain.install(server)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            os.kill(os.getpid(), signal.SIGTERM)
            while not drain.draining:  # noqa: ASYNC110 - a signal comes when it comes
                await asyncio.sleep(0)
            writer.write(HEAD + b"connection: close\r\ncontent-length: 0\r\n\r\n")
            answers.append((await reader.read())[:12])
            writer.close()
            answers.append(await let_in(port))
            while not server.should_exit:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0)
        finally:
            signal.signal(signal.SIGTERM, before)

    asyncio.run(serving(echo, end))
    return answers


def test_a_worker_that_ends_answers_who_is_there_and_lets_nobody_in() -> None:
    assert drained(workers=1) == [b"HTTP/1.1 200", b"ignored"]


def test_a_worker_that_is_told_to_end_before_it_listens_ends_once_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draining, "SETTLE_S", 0.01)

    async def scenario() -> None:
        server, drain = uvicorn.Server(uvicorn.Config(echo, lifespan="off")), Drain(drain_s=0, workers=2)
        drain._begin(server, signal.SIGTERM, None)
        await asyncio.sleep(0.05)
        assert drain.draining
        assert not server.should_exit
        server.started = True
        async with asyncio.timeout(20):
            while not server.should_exit:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0)

    asyncio.run(scenario())


def test_a_worker_that_ends_alone_leaves_the_socket_to_the_others(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITSERVE_METRICS_DIR", str(tmp_path))
    assert drained(workers=2) == [b"HTTP/1.1 200", b"let in"]
    assert marks.count("draining") == 1


def test_the_socket_of_a_worker_that_ends_stays_until_its_queue_is_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draining, "SETTLE_S", 0.001)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            held = socket.socket(fileno=os.dup(listening.fileno()))
            server = uvicorn.Server(uvicorn.Config(echo))
            server.servers = []
            with socket.create_connection(listening.getsockname()):
                Drain(drain_s=0, workers=1)._close_when_empty(server, [held])
                await asyncio.sleep(0)
                assert held.fileno() != -1, "somebody waits"
                listening.accept()[0].close()
                async with asyncio.timeout(20):
                    while held.fileno() != -1:  # noqa: ASYNC110 - a closed socket tells nobody
                        await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(listening.getsockname())

    asyncio.run(scenario())
