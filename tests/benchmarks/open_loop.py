"""Requests on a fixed schedule, whatever comes back: what a crowd of strangers sends.

A caller who waits for an answer before asking again slows down with the server, and so hides what overload
does. Here every request has its moment, and its time to answer counts from that moment.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

from .servers import Server
from .uploads import Upload

CONNECTIONS = 900  # ours allows 1,000
TICK_S = 0.001
LAST_ANSWERS_WITHIN_S = 10.0
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
LOST, NOT_SENT = 0, -1  # in the place of a status: the connection broke; every connection was in use


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: when it was due and when answered, in seconds since the beginning, and its status."""

    due_s: float
    answered_s: float
    status: int


class Exchange(asyncio.Protocol):
    """A kept connection with at most one request on its way."""

    def __init__(self) -> None:
        self._arrived = b""
        self._answered: Callable[[int], None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def ask(self, request: bytes, answered: Callable[[int], None]) -> None:
        assert self._transport is not None
        self._answered = answered
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        head = self._arrived.find(b"\r\n\r\n")
        length = LENGTH.search(self._arrived, 0, head) if head >= 0 else None
        if length is not None and len(self._arrived) >= head + 4 + int(length[1]):
            status, self._arrived = int(self._arrived[9:12]), b""
            self._tell(status)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell(LOST)

    def _tell(self, status: int) -> None:
        if self._answered is not None:
            answered, self._answered = self._answered, None
            answered(status)

    def close(self) -> None:
        self._answered = None
        if self._transport is not None:
            self._transport.close()


class Schedule:
    """`rate` requests a second for so many seconds."""

    def __init__(self, server: Server, upload: Upload, rate: float, seconds: float) -> None:
        self._address = urlsplit(server.origin)
        head = {"host": self._address.netloc, **upload.headers, "content-length": str(len(upload.body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self._request = f"POST {upload.path} HTTP/1.1\r\n{lines}\r\n".encode() + upload.body
        self._rate = rate
        self._requests = int(rate * seconds)
        self._outcomes: list[Outcome] = []
        self._idle: list[Exchange] = []
        self._complete = asyncio.Event()
        self._began = 0.0

    async def run(self) -> list[Outcome]:
        loop = asyncio.get_running_loop()
        host, _, port = self._address.netloc.partition(":")
        opened = [await loop.create_connection(Exchange, host, int(port)) for _ in range(CONNECTIONS)]
        self._idle = [exchange for _, exchange in opened]
        self._began = time.perf_counter()
        sent = 0
        while sent < self._requests:
            due = min(int((time.perf_counter() - self._began) * self._rate), self._requests)
            for place in range(sent, due):
                self._send(place / self._rate)
            sent = max(sent, due)
            await asyncio.sleep(TICK_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._complete.wait(), LAST_ANSWERS_WITHIN_S)
        for _, exchange in opened:
            exchange.close()
        return self._outcomes

    def _send(self, due_s: float) -> None:
        if not self._idle:
            self._note(Outcome(due_s, due_s, NOT_SENT))
            return
        exchange = self._idle.pop()

        def answered(status: int) -> None:
            self._note(Outcome(due_s, time.perf_counter() - self._began, status))
            if status != LOST:
                self._idle.append(exchange)

        exchange.ask(self._request, answered)

    def _note(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        if len(self._outcomes) == self._requests:
            self._complete.set()


def offer(server: Server, upload: Upload, *, rate: float, seconds: float) -> list[Outcome]:
    """Send the upload `rate` times a second; what became of each request that was answered or lost."""
    return uvloop.run(Schedule(server, upload, rate, seconds).run())
