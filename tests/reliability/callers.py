"""People who keep asking, each on a connection of its own, and note what becomes of every request."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tiny import picture

PICTURES = [picture(label) for label in range(10)]
PREDICT = "/predict?canonical=never"
RIGHT = "right"


class Callers:
    """`count` callers of the server at `port`, from entering the context to leaving it.

    Each asks for the label of a picture, again and again, over a kept connection. An outcome is `RIGHT`, a
    status with what was answered, or how the request was lost.
    """

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self.outcomes: Counter[str] = Counter()
        self.latencies_s: list[float] = []
        self._stopped = threading.Event()
        self._told = threading.Condition()
        self._threads = [threading.Thread(target=self._ask_on, args=(n,)) for n in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, done: Callable[[Counter[str]], bool], within_s: float = 120) -> None:
        """Wait until the outcomes so far are as `done` wants them."""
        with self._told:
            assert self._told.wait_for(lambda: done(self.outcomes), timeout=within_s), self.outcomes

    def wait_for_more(self, requests: int) -> None:
        """Wait until so many more requests have been answered right."""
        wanted = self.outcomes[RIGHT] + requests
        self.wait_for(lambda outcomes: outcomes[RIGHT] >= wanted)

    def _ask_on(self, label: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stopped.is_set():
            label = (label + 1) % 10
            started = time.monotonic()
            outcome = ask(connection, label)
            with self._told:
                self.latencies_s.append(time.monotonic() - started)
                self.outcomes[outcome] += 1
                self._told.notify_all()
        connection.close()


def ask(connection: http.client.HTTPConnection, label: int) -> str:
    """Ask for one picture; a connection that is lost is made anew by the next call."""
    try:
        connection.request("POST", PREDICT, body=PICTURES[label])
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"lost: {error!r}"
    if answer.status != 200:
        return f"{answer.status} {body[:200]!r}"
    found = json.loads(body)["predictions"][0]["label"]
    return RIGHT if found == str(label) else f"wrong: {found} for {label}"


async def connect_until_refused(port: int, count: int, after_200: Callable[[], None]) -> Counter[str]:
    """Outcomes of `count` callers, each request on a connection of its own, until nobody is let in."""
    outcomes: Counter[str] = Counter()
    head = f"POST {PREDICT} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
    requests = [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in PICTURES]

    async def ask_on(label: int) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            try:
                writer.write(requests[label])
                answer = (await reader.read()).decode()
                is_right = answer.startswith("HTTP/1.1 200") and f'"label":"{label}"' in answer
                outcomes[RIGHT if is_right else answer or "closed without an answer"] += 1
            except ConnectionError as error:
                outcomes[f"lost: {error!r}"] += 1
            finally:
                writer.close()
            if outcomes.total() == 200:
                after_200()

    await asyncio.gather(*(ask_on(n % 10) for n in range(count)))
    return outcomes
