"""How an answer leaves: the one shape of errors, the request id, the counting of every route."""

from __future__ import annotations

import re
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service import logs, metrics
from service.answers import Answer
from service.batching import Computed
from service.draining import Drain
from service.errors import (
    AllImagesRejected,
    DigitServeError,
    ImageRejected,
    MethodNotAllowed,
    RouteNotFound,
    Unauthorized,
    Unavailable,
)
from service.exchange import send_answer
from service.reading import Pictures
from service.requests import header

Handler = Callable[[Request], Awaitable[Response]]
ErrorResponse = Callable[[DigitServeError, str], Response]

SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
RETRY_AFTER_S = 1


class JsonResponse(Response):
    """JSON by orjson, which takes a tenth of the standard encoder's time."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return orjson.dumps(content)


def answered_route(
    path: str, handler: Handler, methods: list[str] | None, drain: Drain, error_response: ErrorResponse
) -> Route:
    """`handler` at `path`: errors become responses, every answer is counted and carries its request id.

    Without `methods` it answers every method, WebDAV's and those not invented yet too.
    """
    return Route(path, Answered(path, handler, drain, error_response), methods=methods)


class Answered:
    """The ASGI application of a route; a function would be wrapped to catch what is caught here."""

    def __init__(self, path: str, handler: Handler, drain: Drain, error_response: ErrorResponse) -> None:
        self._path = path
        self._handler = handler
        self._drain = drain
        self._error_response = error_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request = Request(scope, receive, send)
        request_id = _request_id(request)
        failure: Exception | None = None
        try:
            response = await self._handler(request)
        except DigitServeError as error:
            failure = error
            response = self._error_response(error, request_id)
        except Exception as error:  # noqa: BLE001 - the log tells its cause, and this caller its request id
            failure = error
            response = self._error_response(DigitServeError("Something went wrong here."), request_id)
        response.raw_headers.append((b"x-request-id", request_id.encode("ascii")))
        if self._drain.draining:
            response.raw_headers.append((b"connection", b"close"))
        seconds = time.perf_counter() - started
        response.headers.setdefault("server-timing", f"total;dur={seconds * 1000:.2f}")
        metrics.request_answered(self._path, response.status_code, seconds)
        logs.answered(self._path, response.status_code, request_id, seconds, failure)
        if failure is not None:  # its traceback, and so this request's body, would stay until a collection
            traceback.clear_frames(failure.__traceback__)
            failure = None
        await send_answer(response, scope, receive, send)


def refusal(known: Sequence[Route]) -> Handler:
    """A handler that refuses, by its path or its method, whatever is not one of `known`."""

    async def refuse(request: Request) -> Response:
        path = request.url.path
        here = [route for route in known if route.path_regex.match(path)]
        if here:
            allowed = sorted({method for route in here for method in route.methods or ()})
            raise MethodNotAllowed(f"{path[:80]} answers {' and '.join(allowed)} only.", allowed)
        raise RouteNotFound(f"There is nothing at {path[:80]}; the API is described at /docs.json.")

    return refuse


def _request_id(request: Request) -> str:
    """The caller's X-Request-ID where it is harmless to repeat, else a new one."""
    offered = header(request, b"x-request-id")
    return offered if SAFE_REQUEST_ID.fullmatch(offered) else secrets.token_hex(16)


def server_timing(read_s: float, computed: Computed) -> str:
    """The Server-Timing header, in milliseconds: reading the images, waiting for the model, computing."""
    return (
        f"read;dur={read_s * 1000:.2f}, queue;dur={computed.waited_s * 1000:.2f}, "
        f'compute;dur={computed.computed_s * 1000:.2f};desc="batch of {computed.batch_images}"'
    )


def describe_error(error: DigitServeError) -> Answer:
    """What stands in the place of an image's prediction when it has none."""
    return {"error": {"code": error.code, "message": error.message}}


def in_their_places(pictures: Pictures, answers: Sequence[Answer]) -> list[Answer]:
    """For each picture its answer, the answers to the digits on it, or its error; in order."""
    in_order = iter(answers)
    entries: list[Answer] = []
    for picture in pictures:
        if isinstance(picture, ImageRejected):
            entries.append(describe_error(picture))
        elif isinstance(picture, list):
            digits = [{"box": segment.box._asdict(), **next(in_order)} for segment in picture]
            entries.append({"segments": digits})
        else:
            entries.append(next(in_order))
    return entries


def error_response(error: DigitServeError, request_id: str) -> Response:
    """The response to `error` in the shape that every route but `/v2` has."""
    body: Answer = {"code": error.code, "message": error.message, "request_id": request_id}
    if isinstance(error, AllImagesRejected):
        body["details"] = [describe_error(rejected) for rejected in error.errors]
    return JsonResponse({"error": body}, status_code=error.status, headers=error_headers(error))


def error_headers(error: DigitServeError) -> dict[str, str]:
    """The headers that HTTP asks for beside a status."""
    if isinstance(error, Unavailable):
        return {"retry-after": str(RETRY_AFTER_S)}
    if isinstance(error, Unauthorized):
        return {"www-authenticate": 'Bearer realm="digitserve"'}
    if isinstance(error, MethodNotAllowed):
        return {"allow": ", ".join(error.allowed)}
    return {}
