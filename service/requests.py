"""How a request arrives: its body within a limit, and the news that its sender has left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from service.errors import BadRequest, CallerGone, RequestTooLarge

# A sender that is told 413 before it has sent everything may see a broken connection instead of the answer,
# so an oversized body is read to its end as long as that stays cheap.
DRAINED_BYTES = 128 * 2**20


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        RequestTooLarge: it has more than `max_bytes`; nothing of the excess is kept.
        BadRequest: the sender left before its end.
    """
    chunks: list[bytes] = []
    received = 0
    if int(request.headers.get("content-length", 0)) > DRAINED_BYTES:
        raise _too_large(max_bytes)
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > DRAINED_BYTES:
                break
            if received <= max_bytes:
                chunks.append(chunk)
    except ClientDisconnect:
        raise BadRequest("The connection closed before the whole body had arrived.") from None
    if received > max_bytes:
        raise _too_large(max_bytes)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"The body has more than {max_bytes:,} bytes; send fewer or smaller images.")


@contextlib.asynccontextmanager
async def cancelled_on_disconnect(request: Request) -> AsyncIterator[None]:
    """Give up what happens inside when the caller hangs up; the body must have been read.

    Raises:
        CallerGone: it has.
    """
    caller_is_gone = False
    task = asyncio.current_task()
    assert task is not None

    async def watch() -> None:
        nonlocal caller_is_gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        caller_is_gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not caller_is_gone:
            raise
        task.uncancel()
        raise CallerGone("The connection closed before the answer.") from None
    finally:
        watcher.cancel()
