"""How a request arrives: its body within a limit, and the news that its sender has left."""

from __future__ import annotations

from starlette.requests import Request

from service.errors import CallerGone, RequestTooLarge

# A sender that is told 413 before it has sent everything may see a broken connection instead of the answer,
# so an oversized body is read to its end as long as that stays cheap.
DRAINED_BYTES = 128 * 2**20


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        RequestTooLarge: it has more than `max_bytes`; nothing of the excess is kept.
        CallerGone: the sender left before its end.
    """
    if int(request.headers.get("content-length", 0)) > DRAINED_BYTES:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    received = 0
    more = True
    while more and received <= DRAINED_BYTES:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise CallerGone("The connection closed before the whole body had arrived.")
        more = message.get("more_body", False)
        received += len(message["body"])
        if received <= max_bytes:
            chunks.append(message["body"])
    if received > max_bytes:
        raise _too_large(max_bytes)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


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
