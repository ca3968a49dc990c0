"""How a worker ends on SIGTERM: no new connections, `Connection: close` on what is answered, then the end.

uvicorn closes idle keep-alive connections at once, and a caller that sends a request at that moment loses it.
So for a short while this worker still answers whatever comes on the connections it has, and asks for each to
be closed. Readiness fails meanwhile, so that a load balancer looks elsewhere.

New connections are another matter: the kernel completes them by itself and keeps them in a queue that all
workers accept from. Whatever is in it when the last listener closes is reset, requests and all. So when every
worker is ending, the kernel is told to ignore whoever begins to connect, the queue is emptied, and only then
the socket closes: a caller is either answered or was never let in, and so may ask elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import struct
from types import FrameType

import uvicorn

from service import marks

# Linux's, which Python's socket module does not name.
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
# A filter of what reaches a listening socket, in Berkeley's instructions (code, true, false, operand). A
# packet whose flags, byte 13 of its header, have SYN without ACK is dropped; its sender tries again.
IGNORE_NEW_CALLERS = (
    (0x30, 0, 0, 13),  # load that byte
    (0x54, 0, 0, 0x12),  # of it SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # keep
)
PR_SET_PDEATHSIG = 1  # Linux's, of prctl
# By then a connection that was half open is complete, and whatever was in the queue has been accepted.
SETTLE_S = 0.1


class Drain:
    """Knows whether this worker is ending, and ends it gently."""

    def __init__(self, *, drain_s: float, workers: int) -> None:
        """`workers` is how many processes accept on the same listening socket."""
        self._drain_s = drain_s
        self._workers = workers
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
        loop = asyncio.get_running_loop()
        if not server.started:  # it was told so early that it does not listen yet
            loop.call_later(SETTLE_S, self._begin, server, number, frame)
            return
        if self._is_last_to_begin():
            listening = _duplicates(server)
            for each in listening:
                _ignore_new_callers(each)
            loop.call_later(SETTLE_S, self._close_when_empty, server, listening)
        loop.call_later(max(self._drain_s, 2 * SETTLE_S), server.handle_exit, number, frame)

    def _is_last_to_begin(self) -> bool:
        """Whether every worker of this server is ending; one that was told to alone leaves the rest be."""
        marks.leave("draining")
        return self._workers == 1 or marks.count("draining") >= self._workers

    def _close_when_empty(self, server: uvicorn.Server, listening: list[socket.socket]) -> None:
        if any(_callers_in_queue(each) for each in listening):
            asyncio.get_running_loop().call_later(SETTLE_S, self._close_when_empty, server, listening)
            return
        for listener in server.servers:
            listener.close()
        for each in listening:
            with each:  # closing is not enough, as the supervisor and other workers have the socket too
                each.shutdown(socket.SHUT_RD)
                each.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)  # for a worker that follows


def end_with_the_supervisor() -> None:
    """Have this worker told to end when its supervisor is gone, however that came: it would keep the port."""
    prctl = getattr(ctypes.CDLL(None), "prctl", lambda *_: None)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _duplicates(server: uvicorn.Server) -> list[socket.socket]:
    """The listening sockets, which asyncio itself shows without their options."""
    shown = [listening for listener in server.servers for listening in listener.sockets]
    return [socket.socket(fileno=os.dup(listening.fileno())) for listening in shown]


def _ignore_new_callers(listening: socket.socket) -> None:
    """Have the kernel drop what begins a connection; what is half open is still completed."""
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in IGNORE_NEW_CALLERS)
    held = ctypes.create_string_buffer(program)
    pointer = struct.pack("HP", len(IGNORE_NEW_CALLERS), ctypes.addressof(held))
    with contextlib.suppress(OSError):  # where there is no such filter, some callers may be reset
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)


def _callers_in_queue(listening: socket.socket) -> int:
    """How many connections wait to be accepted: the field `unacked` of TCP_INFO, for a listening socket."""
    (waiting,) = struct.unpack_from("I", listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64), 24)
    return int(waiting)
