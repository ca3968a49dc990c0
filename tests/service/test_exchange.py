"""How answers leave: whole and in order, in one step where that is possible, and like uvicorn's otherwise."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from uvicorn_here import HEAD, serving, talk

from service import exchange
from service.exchange import UNDERWAY, GatheringTransport, send_answer
from service.requests import read_body

LENGTHY = 1_000_000


async def answering(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body and whether it was alone; /stream in parts, /long with a megabyte."""
    body = await read_body(Request(scope, receive), 1_000, 1_000)
    content: Response = Response(body + (b" alone" if UNDERWAY.is_one() else b" among others"))
    if scope["path"] == "/stream":
        content = StreamingResponse(iter([b"part", b"part"]))
    elif scope["path"] == "/long":
        content = Response(bytes(LENGTHY))
    elif scope["path"] == "/last":
        content.headers["connection"] = "close"
    await send_answer(content, scope, receive, send)


def post(path: bytes, body: bytes, *headers: bytes, method: bytes = b"POST") -> bytes:
    lines = (b"%b %b HTTP/1.1" % (method, path), b"host: a", b"content-length: %d" % len(body), *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def exchanged(sent: bytes) -> bytes:
    """All that comes back until the connection closes, of a conversation whose last request asks for that."""
    received: list[bytes] = []

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        received.append(await reader.read())

    talk(answering, conversation)
    return received[0]


class RecordingTransport:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.sent.append(b"closed")

    def abort(self) -> None:
        self.sent.append(b"aborted")


@pytest.mark.parametrize(
    ("end", "sent"), [("close", [b"headbody", b"closed"]), ("abort", [b"aborted"]), ("", [b"headbody"])]
)
def test_what_is_written_in_one_turn_leaves_together_before_the_end(end: str, sent: list[bytes]) -> None:
    transport = RecordingTransport()

    async def write() -> None:
        gathering = GatheringTransport(transport, asyncio.get_running_loop())  # type: ignore[arg-type]
        gathering.write(b"head")
        gathering.write(b"body")
        assert not transport.sent
        if end:
            getattr(gathering, end)()
        await asyncio.sleep(0)

    asyncio.run(write())
    assert transport.sent == sent


def test_an_answer_has_the_status_the_headers_and_the_body_and_says_that_it_is_the_last() -> None:
    head, _, body = exchanged(post(b"/", b"abc", b"connection: close")).partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    assert status == b"HTTP/1.1 200 OK"
    assert sorted(line.split(b":")[0] for line in lines) == sorted(
        [b"content-length", b"x-content-type-options", b"connection", b"date", b"server"]
    )
    assert b"connection: close" in lines
    assert body == b"abc alone"


def test_requests_sent_together_on_one_connection_are_answered_in_their_order() -> None:
    requests = [post(b"/", b"%d" % n) for n in range(5)] + [post(b"/", b"5", b"connection: close")]
    answers = exchanged(b"".join(requests)).split(b"HTTP/1.1 200 OK")[1:]
    assert [answer.partition(b"\r\n\r\n")[2][:1] for answer in answers] == [b"%d" % n for n in range(6)]
    assert sum(b"connection: close" in answer for answer in answers) == 1


def test_an_answer_may_end_its_connection() -> None:
    received = exchanged(post(b"/last", b"abc"))
    assert received.count(b"connection: close") == 1
    assert received.endswith(b"abc alone")


def test_the_head_alone_answers_head() -> None:
    received = exchanged(post(b"/", b"abc", b"connection: close", method=b"HEAD"))
    assert received.endswith(b"\r\n\r\n")
    assert b"content-length: 9" in received


def test_what_comes_in_parts_goes_the_usual_way() -> None:
    received = exchanged(post(b"/stream", b"abc", b"connection: close"))
    assert received.endswith(b"\r\n\r\n4\r\npart\r\n4\r\npart\r\n0\r\n\r\n")


def test_a_caller_that_waits_to_be_asked_for_its_body_is() -> None:
    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: 3\r\nexpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        assert await reader.readexactly(9) == b"abc alone"

    talk(answering, conversation)


def test_a_reader_that_lags_behind_gets_every_answer_whole() -> None:
    """The second request is answered while the first answer still waits to leave."""

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(8):
            writer.write(post(b"/long", b"abc"))
        for _ in range(8):
            assert b"content-length: %d" % LENGTHY in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(LENGTHY) == bytes(LENGTHY)

    talk(answering, conversation)


def test_only_one_request_is_alone() -> None:
    async def two(_: uvicorn.Server, port: int) -> None:
        first, second = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        first[1].write(HEAD + b"content-length: 3\r\n\r\n")  # its body is still to come
        second[1].write(post(b"/", b"abc", b"connection: close"))
        assert (await second[0].read()).endswith(b"abc among others")
        first[1].write(b"abc")
        assert (await first[0].readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await first[0].readexactly(9) == b"abc alone"
        for _, writer in (first, second):
            writer.close()

    asyncio.run(serving(answering, two))


def test_an_answered_request_is_let_go_without_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that collects rarely would otherwise keep thousands of them."""
    cycles: list[weakref.ref[Any]] = []
    send_whole = exchange._send_whole

    def note_and_send(response: Response, cycle: Any) -> None:
        cycles.append(weakref.ref(cycle))
        send_whole(response, cycle)

    monkeypatch.setattr(exchange, "_send_whole", note_and_send)

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gc.disable()
        for _ in range(10):
            writer.write(post(b"/", b"abc"))
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(9)
        assert sum(cycle() is not None for cycle in cycles) <= 1  # the connection holds its latest

    try:
        talk(answering, conversation)
    finally:
        gc.enable()
    assert len(cycles) == 10


def test_an_answer_to_somebody_who_has_left_goes_nowhere() -> None:
    done = asyncio.Event()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await send_answer(Response(b"late"), scope, receive, send)
        done.set()

    async def conversation(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(post(b"/", b"abc"))
        await writer.drain()
        writer.close()
        await asyncio.wait_for(done.wait(), 20)

    talk(late, conversation)
