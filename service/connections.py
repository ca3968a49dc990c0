"""How long and how large a connection may be: bounds that uvicorn leaves to a proxy, which may not be there.

A look at every connection once a second finds those that are slow. It costs a request nothing, where a timer
for each would; so a limit is kept to within that second.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import secrets
import signal
import socket
import struct
import time
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.exchange import UNDERWAY, GatheringTransport
from service.settings import Settings

LOOK_INTERVAL_S = 1.0
# A closed connection whose peer does not take its leave (TLS asks it to) is cut off after so long.
GOODBYE_S = 1.0
# For models, metrics, logs and libraries; a worker was seen to hold 40 without any connection.
RESERVED_DESCRIPTORS = 100
# What may be around the body of one request beyond its head: the sizes of chunks, their extensions, trailers.
MAX_FRAMING_BYTES = 2**20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What one worker allows; `transfer_s` for a request to arrive, and for its answer to leave."""

    connections: int
    head_bytes: int
    transfer_s: float


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, with an end to everything that a peer might never end."""

    def __init__(self, limits: Limits, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self.access_log = False  # ours is logs.py; uvicorn's would put together a line that nobody reads
        self._limits = limits
        self._counted: object = None  # the request whose bytes are counted, by its scope
        self._framing_bytes = 0
        self._delayed_by: object = None  # what this connection was waiting for when it was last looked at
        self._delayed_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = GatheringTransport(transport, self.loop)  # type: ignore[assignment]
        if len(self.connections) > self._limits.connections:
            self._refuse(503, "overloaded", "There are too many connections; try again in a second.")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._counted is not self.scope:
            # A read may end another request before it begins this one, so its bytes are not counted; the
            # limit is kept to within one read.
            self._counted, self._framing_bytes = self.scope, 0
        else:
            self._framing_bytes += len(data)
        if self._framing_bytes + len(data) > self._limits.head_bytes:
            self._check_size()

    def _check_size(self) -> None:
        most = self._limits.head_bytes
        head_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if head_bytes > most or (self._framing_bytes > most and self._head_is_open()):
            self._refuse(431, "headers_too_large", f"The request's head has more than {most:,} bytes.")
        elif self._framing_bytes > MAX_FRAMING_BYTES:
            self._cut_off()

    def on_body(self, body: bytes) -> None:
        self._framing_bytes -= len(body)
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - one shape for every error
        self._refuse(400, "bad_request", "This is no HTTP/1.1 request.")

    def look(self, now: float) -> None:
        """Close the connection if it has been waiting for the same thing for too long."""
        waiting_for = self._waiting_for()
        if waiting_for is not self._delayed_by:
            self._delayed_by, self._delayed_since = waiting_for, now
            return
        limit_s = GOODBYE_S if waiting_for is self.transport else self._limits.transfer_s
        if waiting_for is None or now - self._delayed_since < limit_s:
            return
        if waiting_for is self.scope and not self._has_answered():
            self._refuse(408, "request_timeout", f"The request did not arrive within {limit_s:g} s.")
        else:
            self._cut_off()
        log.info("closed a connection that kept us waiting for %g s", limit_s)

    def _waiting_for(self) -> object:
        """What the peer owes: the rest of a request, to read an answer, to leave; None for nothing."""
        if self.transport.get_write_buffer_size():
            return self.cycle or self
        if self.transport.is_closing():
            return self.transport
        if self._head_is_open():
            return self if self.scope is None else self.scope
        return self.scope if self.cycle.more_body else None

    def _has_answered(self) -> bool:
        return not self._head_is_open() and self.cycle.response_started

    def _head_is_open(self) -> bool:
        """Whether the next request has begun, or is the first, and its head is not complete."""
        return self.cycle is None or self.cycle.scope is not self.scope

    def _cut_off(self) -> None:
        """Close at once, and have the kernel forget what the peer did not read."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer without the application, and close."""
        if self.transport.is_closing():
            return
        request_id = secrets.token_hex(16)
        body = json.dumps({"error": {"code": code, "message": message, "request_id": request_id}}).encode()
        headers = {
            "content-type": "application/json",
            "content-length": len(body),
            "x-request-id": request_id,
            "connection": "close",
            **({"retry-after": 1} if status == 503 else {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}\r\n".encode() + body)
        self.transport.close()


def running_server() -> uvicorn.Server | None:
    """The uvicorn server that runs this event loop; None in tests that run none."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if isinstance(owner, uvicorn.Server) else None


def _connections_at_most(settings: Settings) -> int:
    """The setting, or what the descriptors of this process allow: past those even a refusal is impossible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    possible = max(1, hard - RESERVED_DESCRIPTORS)
    if possible < settings.max_connections:
        log.warning(
            "%d file descriptors allow %d connections, not %d", hard, possible, settings.max_connections
        )
    return min(possible, settings.max_connections)


def bound(server: uvicorn.Server, settings: Settings) -> None:
    """Have `server`, which does not listen yet, keep our limits, and no browser guess at an answer's type."""
    limits = Limits(_connections_at_most(settings), settings.max_header_bytes, settings.transfer_ms / 1000)
    server.config.http_protocol_class = partial(BoundedProtocol, limits)  # type: ignore[assignment]
    server.config.ws_protocol_class = None  # nothing here speaks WebSocket, whose connections have no bounds
    server.config.encoded_headers.append((b"x-content-type-options", b"nosniff"))
    UNDERWAY.follow(server)


async def watch(server: uvicorn.Server) -> None:
    """Look at every connection for ever."""
    while True:
        await asyncio.sleep(LOOK_INTERVAL_S)
        now = time.monotonic()
        for connection in list(server.server_state.connections):
            assert isinstance(connection, BoundedProtocol), "there are no others"
            connection.look(now)
