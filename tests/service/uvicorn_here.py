"""uvicorn with our bounds in this process, for tests that talk to it byte by byte."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from service.connections import bound, watch
from service.settings import Settings

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"


async def serving(app: Any, talk: Callable[[uvicorn.Server, int], Awaitable[None]], **settings: Any) -> None:
    """Run a bounded server on a free port, talk to it, stop it."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", http="httptools"))
    server.config.load()
    bound(server, Settings(**settings))
    running = asyncio.create_task(server._serve(sockets=[listening]))
    watching = asyncio.create_task(watch(server))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    try:
        async with asyncio.timeout(20):
            await talk(server, listening.getsockname()[1])
    finally:
        server.should_exit = True
        await running
        watching.cancel()


def talk(app: Any, conversation: Talk, **settings: Any) -> None:
    async def connect(_: uvicorn.Server, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await conversation(reader, writer)
        finally:
            writer.close()

    asyncio.run(serving(app, connect, **settings))
