"""How an answer leaves: in one step, where ASGI takes two and looks at every header.

Works where nothing stands between our application and uvicorn; every other answer takes the usual way.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle


class GatheringTransport:
    """Sends at once what is written in one turn of the event loop, at its end.

    A packet for the head alone would wake a caller who can do nothing yet. And a caller who is answered
    before the others of the same batch asks again before they do, and so splits the next batch.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self.flush)
        self._written.append(data)

    def flush(self) -> None:
        """Send what was written, now."""
        if self._written:
            gathered = b"".join(self._written)
            self._written.clear()
            self._transport.write(gathered)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self._written.clear()
        self._transport.abort()


class Underway:
    """The requests that this process is answering; where no server runs it, none."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, server: uvicorn.Server) -> None:
        self._tasks = server.server_state.tasks

    def is_one(self) -> bool:
        """Whether one request is being answered, and no other has arrived."""
        return len(self._tasks) == 1


UNDERWAY = Underway()


async def send_answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send `response`, whose headers hold no line break, in one step where that is possible."""
    cycle = getattr(send, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle) or not _fits(response, cycle):
        await response(scope, receive, send)
    elif not cycle.disconnected:
        _send_whole(response, cycle)


def _fits(response: Response, cycle: RequestResponseCycle) -> bool:
    """Whether the answer is in memory, and its connection is ours and takes it."""
    return (
        isinstance(cycle.transport, GatheringTransport)
        and not isinstance(response, FileResponse | StreamingResponse)
        and not cycle.flow.write_paused
        and cycle.scope["method"] != "HEAD"
    )


def _send_whole(response: Response, cycle: RequestResponseCycle) -> None:
    """What uvicorn does with both messages of an answer."""
    transport = cycle.transport
    assert isinstance(transport, GatheringTransport), "as _fits says"
    headers = [*cycle.default_headers, *response.raw_headers]
    if (b"connection", b"close") in headers:
        cycle.keep_alive = False
    elif not cycle.keep_alive:
        headers.append((b"connection", b"close"))
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    transport.write(b"%b%b\r\n%b" % (STATUS_LINE[response.status_code], lines, bytes(response.body)))
    if UNDERWAY.is_one():
        transport.flush()
    cycle.waiting_for_100_continue = False
    cycle.response_started = cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        transport.close()
    cycle.on_response()
