"""How a worker ends on SIGTERM: no new connections, `Connection: close` on what is answered, then the end.

uvicorn closes idle keep-alive connections at once, and a caller that sends a request at that moment loses it.
So for a short while this worker still answers whatever comes on the connections it has, and asks for each to
be closed. Readiness fails meanwhile, so that a load balancer looks elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from types import FrameType

import uvicorn


class Drain:
    """Knows whether this worker is ending, and ends it gently."""

    def __init__(self, *, drain_s: float, alone: bool) -> None:
        """`alone` is whether no other worker accepts on the same listening socket."""
        self._drain_s = drain_s
        self._alone = alone
        self.draining = False

    def install(self, server: uvicorn.Server) -> None:
        """Take over SIGTERM from the uvicorn server that runs this event loop."""
        stop = signal.getsignal(signal.SIGTERM)
        loop = asyncio.get_running_loop()

        def begin(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGTERM, stop)  # a second one does not wait
            loop.call_soon_threadsafe(self._begin, server, number, frame)

        signal.signal(signal.SIGTERM, begin)

    def _begin(self, server: uvicorn.Server, number: int, frame: FrameType | None) -> None:
        self.draining = True
        if self._alone:
            _stop_listening(server)
        asyncio.get_running_loop().call_later(self._drain_s, server.handle_exit, number, frame)


def _stop_listening(server: uvicorn.Server) -> None:
    """Have the kernel refuse new connections; closing is not enough, as the supervisor has the socket too."""
    for listener in server.servers:
        descriptors = [os.dup(listening.fileno()) for listening in listener.sockets]
        listener.close()
        for descriptor in descriptors:
            with socket.socket(fileno=descriptor) as listening:
                listening.shutdown(socket.SHUT_RD)
