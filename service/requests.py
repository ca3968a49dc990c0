"""How a request arrives: its body within limits, and the news that its sender has left."""

from __future__ import annotations

import asyncio
import ctypes
import gc

from starlette.requests import Request

from service.errors import CallerGone, Overloaded, RequestTooLarge

# A sender that is told 413 before it has sent everything may see a broken connection instead of the answer,
# so an oversized body is read to its end as long as that stays cheap.
DRAINED_BYTES = 128 * 2**20
# Bodies up to this size are not counted among those in hand: all connections together bring little of them.
SMALL_BODY_BYTES = 64 * 2**10
RETURN_INTERVAL_S = 1.0


class BodiesInHand:
    """How much this process holds of large bodies, from their arrival to the end of their request."""

    def __init__(self) -> None:
        self._bytes = 0
        self._released = False

    def take(self, count: int, most: int) -> None:
        """Count so many more bytes, until the task of this request ends.

        Raises:
            Overloaded: they would be more than `most`.
        """
        if self._bytes + count > most:
            raise Overloaded("Too much is being uploaded already; try again in a second.")
        self._bytes += count
        task = asyncio.current_task()
        assert task is not None, "a request is answered in a task"
        task.add_done_callback(lambda _: self._give_back(count))

    def _give_back(self, count: int) -> None:
        self._bytes -= count
        self._released = True

    def were_released(self) -> bool:
        """Whether any were let go since this was last asked."""
        released, self._released = self._released, False
        return released


IN_HAND = BodiesInHand()


async def return_memory() -> None:
    """Give back to the system, for ever, what large bodies and their pictures took.

    Pillow leaves cycles, which a server that collects rarely would keep for hundreds of requests, each with
    its megabytes; and glibc keeps what it is given back.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)
    while True:
        await asyncio.sleep(RETURN_INTERVAL_S)
        if IN_HAND.were_released():
            gc.collect()
            await asyncio.to_thread(trim, 0)


def header(request: Request, name: bytes) -> str:
    """The first header of this lower-case name, or ""; in a fifth of the time of Starlette's mapping."""
    for key, value in request.scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return ""


async def read_body(request: Request, max_bytes: int, max_pending_bytes: int) -> bytes:
    """The whole body.

    Raises:
        RequestTooLarge: it has more than `max_bytes`; nothing of the excess is kept.
        Overloaded: the large bodies in hand would be more than `max_pending_bytes`.
        CallerGone: the sender left before its end.
    """
    if int(header(request, b"content-length") or 0) > DRAINED_BYTES:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    received = 0
    more = True
    try:
        while more and received <= DRAINED_BYTES:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise CallerGone("The connection closed before the whole body had arrived.")
            more = message.get("more_body", False)
            received += len(message["body"])
            if received <= max_bytes:
                chunks.append(message["body"])
                if received > SMALL_BODY_BYTES:
                    IN_HAND.take(len(message["body"]), max_pending_bytes)
        if received > max_bytes:
            raise _too_large(max_bytes)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    finally:
        chunks.clear()  # or the traceback of an error keeps them, uncounted, until the next collection


def _too_large(max_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"The body has more than {max_bytes:,} bytes; send fewer or smaller images.")


def caller_left(request: Request) -> bool:
    """Whether the sender has hung up, asked without waiting; the body must have been read.

    ASGI tells of it in a message that somebody has to wait for. A task that waits would cost each request
    more than parsing its form, so this takes one step of that wait and gives it up.
    """
    waiting = request.receive().__await__()
    try:
        next(waiting)
    except StopIteration as arrived:
        return bool(arrived.value["type"] == "http.disconnect")
    waiting.close()
    return False
