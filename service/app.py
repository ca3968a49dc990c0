"""The BentoML service: routes and lifecycle; the only file that makes HTTP responses.

BentoML runs the processes, the socket and its own routes (`/livez`, `/readyz`, the API explorer at `/`).
Ours are one Starlette application mounted at the root.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

# Before BentoML is imported, which otherwise reports every start, and every twelve hours, to its makers.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")

import bentoml
import numpy as np
from bentoml.exceptions import BentoMLConfigException
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service import metrics
from service.answers import Answer, describe
from service.batching import Images
from service.draining import Drain
from service.errors import (
    AllImagesRejected,
    ArtifactRejected,
    BadRequest,
    CallerGone,
    DigitServeError,
    ImageRejected,
    MethodNotAllowed,
    RouteNotFound,
    Unavailable,
)
from service.images import CanonicalForm, CanonicalMode, is_large, read_image
from service.repository import Repository, ServedModel, load_all
from service.settings import Settings
from service.uploads import Upload, parse_uploads, read_body

Handler = Callable[[Request], Awaitable[Response]]

log = logging.getLogger(__name__)

# BentoML's explorer: its page and what that page loads. It comes after our routes, so these must let it pass.
NOT_BENTOML = re.compile(r"^/(?!$|docs\.json$|static_content/)(?P<path>.*)$")
EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# BentoML's own timeout covers the arrival of the body too. It leaves a timer behind for every request, so it
# has to be short; the deadline of a request (`timeout_ms`) is shorter still.
BENTOML_TIMEOUT_S = 10.0
# This many small images are decoded between two turns of the event loop; more go to the decoding threads.
INLINE_IMAGES = 4


class PredictQuery(BaseModel):
    """The query of `POST /predict`."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str | None, Field(description="which model answers")] = None
    top_k: Annotated[int, Field(ge=1, le=10, description="how many labels `top` lists")] = 1
    canonical: Annotated[CanonicalMode, Field(description="`never` takes 28x28 grey pixels as they are")] = (
        "auto"
    )

    @classmethod
    def of(cls, request: Request) -> PredictQuery:
        try:
            return cls.model_validate(dict(request.query_params))
        except ValidationError as invalid:
            faults = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in invalid.errors())
            raise BadRequest(f"Bad query: {faults}.") from None


class Api:
    """Our routes over the served models."""

    def __init__(self, repository: Repository, drain: Drain, settings: Settings) -> None:
        self._repository = repository
        self._drain = drain
        self._settings = settings
        self._decoders = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")
        self._routes = [
            self._route("/predict", self.predict, ["POST"]),
            self._route("/models", self.list_models, ["GET"]),
            self._route("/models/{name}", self.get_model, ["GET"]),
            self._route("/metrics", self.get_metrics, ["GET"]),
        ]
        unknown = self._route("/{path:path}", self.refuse_unknown, EVERY_METHOD)
        unknown.path_regex = NOT_BENTOML
        self.app = Starlette(routes=[*self._routes, unknown])

    def _route(self, path: str, handler: Handler, methods: list[str]) -> Route:
        """`handler` at `path`, with errors turned into responses and every answer counted."""

        async def endpoint(request: Request) -> Response:
            started = time.perf_counter()
            request_id = _request_id(request)
            try:
                response = await handler(request)
            except DigitServeError as error:
                if error.status == 500:  # the one status whose cause only the log may tell
                    log.exception("request %s failed", request_id)
                response = _error_response(error, request_id)
            except Exception:
                log.exception("request %s failed", request_id)
                response = _error_response(DigitServeError("Something went wrong here."), request_id)
            response.headers["x-request-id"] = request_id
            if self._drain.draining:
                response.headers["connection"] = "close"
            metrics.REQUESTS.labels(path, response.status_code).inc()
            metrics.REQUEST_SECONDS.labels(path).observe(time.perf_counter() - started)
            return response

        return Route(path, endpoint, methods=methods)

    async def predict(self, request: Request) -> Response:
        """Read, canonicalise, classify; one prediction for each image, in order."""
        query = PredictQuery.of(request)
        model = self._repository.get(query.model or self._repository.default)
        body = await read_body(request, self._settings.max_request_bytes)
        uploads = parse_uploads(body, request.headers.get("content-type", ""), self._settings.max_images)
        images = await self._read_images(uploads, model.classifier.card.canonical_form, query.canonical)
        _refuse_if_none_is_readable(images)
        readable = [image for image in images if not isinstance(image, ImageRejected)]
        async with _cancelled_on_disconnect(request):
            probabilities, typicality = await model.predict(
                np.stack(readable), timeout_s=self._settings.timeout_ms / 1000
            )
        answers = iter(describe(model.classifier.card, probabilities, typicality, query.top_k))
        predictions = [
            _error(image) if isinstance(image, ImageRejected) else next(answers) for image in images
        ]
        classifier = model.classifier
        return JSONResponse(
            {"model": classifier.name, "version": classifier.version, "predictions": predictions}
        )

    async def list_models(self, _: Request) -> Response:
        repository = self._repository
        models = [_describe_model(repository.get(name)) for name in repository.names()]
        return JSONResponse({"default": repository.default, "models": models})

    async def get_model(self, request: Request) -> Response:
        return JSONResponse(_describe_model(self._repository.get(request.path_params["name"])))

    async def get_metrics(self, _: Request) -> Response:
        content, media_type = await asyncio.to_thread(metrics.exposition)
        return Response(content, headers={"content-type": media_type})

    async def refuse_unknown(self, request: Request) -> Response:
        path = request.url.path
        allowed = {
            method for route in self._routes if route.path_regex.match(path) for method in route.methods or ()
        }
        if allowed:
            raise MethodNotAllowed(
                f"{path[:80]} answers {' and '.join(sorted(allowed))} only.", sorted(allowed)
            )
        raise RouteNotFound(f"There is nothing at {path[:80]}; the API is described at /docs.json.")

    async def _read_images(
        self, uploads: Sequence[Upload], form: CanonicalForm, mode: CanonicalMode
    ) -> list[Images | ImageRejected]:
        """Canonical pixels (28, 28) for each upload, or why there are none."""

        def read(upload: Upload) -> Images | ImageRejected:
            if isinstance(upload, ImageRejected):
                return upload
            try:
                return read_image(upload, form, mode, self._settings.max_pixels)
            except ImageRejected as rejected:
                return rejected

        if len(uploads) <= INLINE_IMAGES and not any(is_large(u) for u in uploads if isinstance(u, bytes)):
            return [read(upload) for upload in uploads]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, lambda: [read(upload) for upload in uploads])


def _request_id(request: Request) -> str:
    """The caller's X-Request-ID where it is harmless to repeat, else a new one."""
    offered = request.headers.get("x-request-id", "")
    return offered if SAFE_REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex


def _error(error: DigitServeError) -> Answer:
    return {"error": {"code": error.code, "message": error.message}}


def _error_response(error: DigitServeError, request_id: str) -> Response:
    body: Answer = {"code": error.code, "message": error.message, "request_id": request_id}
    headers: dict[str, str] = {}
    if isinstance(error, AllImagesRejected):
        body["details"] = [_error(rejected) for rejected in error.errors]
    if isinstance(error, Unavailable):
        headers["retry-after"] = "1"
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = ", ".join(error.allowed)
    return JSONResponse({"error": body}, status_code=error.status, headers=headers)


def _refuse_if_none_is_readable(images: Sequence[Images | ImageRejected]) -> None:
    rejected = [image for image in images if isinstance(image, ImageRejected)]
    if len(rejected) == len(images):
        raise rejected[0] if len(rejected) == 1 else AllImagesRejected(rejected)


@contextlib.asynccontextmanager
async def _cancelled_on_disconnect(request: Request) -> AsyncIterator[None]:
    """Give up what happens inside when the caller hangs up; the body must have been read."""
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


def _describe_model(model: ServedModel) -> Answer:
    classifier, card = model.classifier, model.classifier.card
    return {
        "name": classifier.name,
        "version": classifier.version,
        "provider": classifier.provider,
        **card.model_dump(mode="json", exclude={"contract_version", "recipe", "packages"}),
    }


SETTINGS = Settings()
REPOSITORY = Repository(SETTINGS)
DRAIN = Drain(drain_s=SETTINGS.drain_ms / 1000, alone=SETTINGS.workers == 1)


@bentoml.service(
    name="digitserve",
    workers=SETTINGS.workers,
    traffic={"timeout": BENTOML_TIMEOUT_S},
    # Each of the three costs more than an inference of the MLP; ours are in metrics.py and the log.
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    tracing={"excluded_urls": [".*"]},
)
@bentoml.asgi_app(Api(REPOSITORY, DRAIN, SETTINGS).app)
class DigitServe:
    """Classifies pictures of handwritten digits and garments."""

    @bentoml.on_deployment
    @staticmethod
    def refuse_to_start_without_models() -> None:
        """Load everything once before any worker exists, so that a bad start ends with one sentence."""
        try:
            load_all(SETTINGS)
        except ArtifactRejected as error:
            raise BentoMLConfigException(error.message) from None

    @bentoml.on_startup
    async def open(self) -> None:
        _configure_logging(SETTINGS.log_level)
        await asyncio.to_thread(REPOSITORY.open)
        DRAIN.install()
        # What is loaded now stays. Collections of this large heap were the long tail of every answer.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)

    @bentoml.on_shutdown
    async def close(self) -> None:
        await REPOSITORY.close()

    async def __is_ready__(self) -> bool:
        return REPOSITORY.ready and not DRAIN.draining


def _configure_logging(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("service")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
