"""What arrives is bounded before it is kept: bodies, values in JSON, and the time to read pictures."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from tiny import write_artifact

from service.access import Keys
from service.app import web_app
from service.draining import Drain
from service.errors import BadRequest, CallerGone, DeadlineExceeded, Overloaded, RequestTooLarge
from service.json_bodies import parse_json
from service.reading import ImageReader
from service.repository import Repository
from service.requests import DRAINED_BYTES, SMALL_BODY_BYTES, BodiesInHand, read_body
from service.settings import Settings


def request(*messages: dict[str, Any], length: int | None = None) -> Request:
    """A request that arrives in these messages; after the last, nobody may ask for another."""
    left: Iterator[dict[str, Any]] = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(left)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    return Request({"type": "http", "headers": headers}, receive)


def part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def read(asked: Request, max_bytes: int = 10) -> bytes:
    return asyncio.run(read_body(asked, max_bytes, max_pending_bytes=100))


def test_a_body_is_put_together_from_its_parts() -> None:
    assert read(request(part(b"12345", more=True), part(b"67890", more=False))) == b"1234567890"


def test_a_body_past_the_limit_is_read_to_its_end_and_refused() -> None:
    with pytest.raises(RequestTooLarge, match="more than 10 bytes"):
        read(request(part(b"12345", more=True), part(b"67890", more=True), part(b"1", more=False)))


def test_a_body_that_announces_more_than_is_ever_read_is_refused_before_it_arrives() -> None:
    with pytest.raises(RequestTooLarge):
        read(request(length=DRAINED_BYTES + 1))


def test_a_sender_that_leaves_before_the_end_of_its_body_is_gone() -> None:
    with pytest.raises(CallerGone):
        read(request(part(b"12345", more=True), {"type": "http.disconnect"}))


def test_bodies_in_hand_are_bounded_until_their_requests_end() -> None:
    async def scenario() -> None:
        bodies, first_may_end = BodiesInHand(), asyncio.Event()

        async def hold(count: int) -> None:
            bodies.take(count, most=100)
            await first_may_end.wait()

        first = asyncio.create_task(hold(60))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await asyncio.create_task(hold(41))
        assert not bodies.were_released()
        first_may_end.set()
        await first
        await asyncio.create_task(hold(100))
        assert bodies.were_released()
        assert not bodies.were_released(), "nothing since it was last asked"

    asyncio.run(scenario())


def test_json_of_more_values_than_allowed_is_refused_before_they_are_made() -> None:
    assert parse_json(b"[1, 2, 3]", max_values=3) == [1, 2, 3]
    with pytest.raises(RequestTooLarge, match="more than 3 values"):
        parse_json(b"[1, 2, 3, 4]", max_values=3)
    with pytest.raises(BadRequest):
        parse_json(b"[" * 100_000, max_values=10**6)


def test_reading_ends_when_the_deadline_has_passed() -> None:
    reader = ImageReader(max_pixels=1_000, timeout_s=-1)
    with pytest.raises(DeadlineExceeded):
        asyncio.run(reader.read([b"a picture"], "digit", "auto"))


def test_what_had_arrived_of_a_refused_body_is_let_go_at_once() -> None:
    first = bytes(SMALL_BODY_BYTES + 1)
    asked = request(part(first, more=True))
    before = sys.getrefcount(first)
    with pytest.raises(Overloaded) as refused:
        read(asked, max_bytes=10**6)
    assert refused.tb is not None, "somebody still holds the error"
    assert sys.getrefcount(first) == before


FORM = b'--x\r\ncontent-disposition: form-data; name="a"; filename="b"\r\n\r\n%b\r\n--x--\r\n'
CUT = b"\x89PNG\r\n\x1a\n" + bytes(2 * SMALL_BODY_BYTES)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/predict", bytes(2 * SMALL_BODY_BYTES), 415),
        ("/predict", CUT, 422),
        ("/predict", CUT[:8], 422),
        ("/predict", FORM % CUT, 422),
        ("/predict", FORM[:-9] % CUT, 400),
        ("/predict", b'{"images": [1, ' + b" " * 2 * SMALL_BODY_BYTES, 400),
        ("/v2/models/mnist-cnn/infer", b"[" + b" " * 2 * SMALL_BODY_BYTES, 400),
    ],
)
def test_a_refused_body_is_let_go_without_the_collector(
    tmp_path: Path, path: str, body: bytes, status: int
) -> None:
    """A server that collects rarely would otherwise hold, uncounted, all that comes in a second."""
    write_artifact(tmp_path, "mnist-cnn")
    settings = Settings(models_dir=tmp_path)
    repository = Repository(settings)
    repository.open()
    app = web_app(repository, Drain(drain_s=0, workers=1), Keys(None), settings)
    kind = b"multipart/form-data; boundary=x" if body.startswith(b"--x") else b"a/b"
    answered: list[int] = []

    async def post() -> None:
        messages = [part(body, more=False)]

        async def receive() -> dict[str, Any]:
            return messages.pop()

        async def send(message: Any) -> None:
            answered.extend(message[key] for key in message if key == "status")

        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        await app(scope, receive, send)

    before = sys.getrefcount(body)
    gc.disable()
    try:
        asyncio.run(post())
        give_up = time.monotonic() + 10  # a thread lets go of its work a moment after its answer
        while sys.getrefcount(body) > before:
            assert time.monotonic() < give_up, "something still holds the body"
    finally:
        gc.enable()
    assert answered == [status]
