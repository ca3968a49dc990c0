"""Our own routes: `/predict`, `/models`, `/metrics` and the page at `/ui`."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from service import metrics
from service.answers import Answer, describe
from service.batching import Computed, Images
from service.draining import Drain
from service.errors import (
    AllImagesRejected,
    BadRequest,
    CallerGone,
    ImageRejected,
    MethodNotAllowed,
    RouteNotFound,
)
from service.images import CanonicalForm, CanonicalMode, is_large, read_image
from service.repository import Repository, ServedModel
from service.responses import Handler, answered_route, describe_error, error_response
from service.settings import Settings
from service.uploads import Upload, parse_uploads, read_body

# BentoML's explorer: its page and what that page loads. It comes after our routes, so these must let it pass.
NOT_BENTOML = re.compile(r"^/(?!$|docs\.json$|static_content/)(?P<path>.*)$")
EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
# This many small images are decoded between two turns of the event loop; more go to the decoding threads.
INLINE_IMAGES = 4

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {"": "index.html", "page.css": "page.css", "page.js": "page.js"}
PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


class PredictQuery(BaseModel):
    """The query of `POST /predict`."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str | None, Field(description="Which model answers.")] = None
    top_k: Annotated[int, Field(ge=1, le=10, description="How many labels `top` lists.")] = 1
    canonical: Annotated[CanonicalMode, Field(description="`never` takes 28x28 grey pixels as they are.")] = (
        "auto"
    )
    pixels: Annotated[
        bool, Field(description="Whether each prediction shows the 28x28 pixels that the model saw.")
    ] = False

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
        self._known = [
            self._route("/predict", self.predict, ["POST"]),
            self._route("/models", self.list_models, ["GET"]),
            self._route("/models/{name}", self.get_model, ["GET"]),
            self._route("/metrics", self.get_metrics, ["GET"]),
            self._route("/ui", self.get_page, ["GET"]),
            self._route("/ui/{file}", self.get_page, ["GET"]),
        ]

    def routes(self) -> list[Route]:
        """Every route, the last of which refuses whatever is neither ours nor BentoML's."""
        unknown = self._route("/{path:path}", self.refuse_unknown, EVERY_METHOD)
        unknown.path_regex = NOT_BENTOML
        return [*self._known, unknown]

    def _route(self, path: str, handler: Handler, methods: list[str]) -> Route:
        return answered_route(path, handler, methods, self._drain, error_response)

    async def predict(self, request: Request) -> Response:
        """Read, canonicalise, classify; one prediction for each image, in order."""
        query = PredictQuery.of(request)
        model = self._repository.get(query.model or self._repository.default)
        card = model.classifier.card
        body = await read_body(request, self._settings.max_request_bytes)
        started = time.perf_counter()
        uploads = parse_uploads(body, request.headers.get("content-type", ""), self._settings.max_images)
        images = await self._read_images(uploads, card.canonical_form, query.canonical)
        readable = _readable(images)
        read_s = time.perf_counter() - started
        async with _cancelled_on_disconnect(request):
            computed = await model.batcher.submit(
                np.stack(readable), timeout_s=self._settings.timeout_ms / 1000
            )
        answers = describe(card, computed.outputs, query.top_k)
        if query.pixels:
            for answer, image in zip(answers, readable, strict=True):
                answer["pixels"] = b64encode(image.tobytes()).decode("ascii")
        in_order = iter(answers)
        predictions = [describe_error(i) if isinstance(i, ImageRejected) else next(in_order) for i in images]
        return JSONResponse(
            {"model": model.classifier.name, "version": model.classifier.version, "predictions": predictions},
            headers={"server-timing": _server_timing(read_s, computed)},
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

    async def get_page(self, request: Request) -> Response:
        file = PAGE_FILES.get(request.path_params.get("file", ""))
        if file is None:
            raise RouteNotFound("The page has no such file.")
        return FileResponse(PAGE / file, headers=PAGE_HEADERS)

    async def refuse_unknown(self, request: Request) -> Response:
        path = request.url.path
        here = [route for route in self._known if route.path_regex.match(path)]
        if here:
            allowed = sorted(method for route in here for method in route.methods or ())
            raise MethodNotAllowed(f"{path[:80]} answers {' and '.join(allowed)} only.", allowed)
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


def _readable(images: Sequence[Images | ImageRejected]) -> list[Images]:
    """The images that could be read, at least one; raises why there is none."""
    rejected = [image for image in images if isinstance(image, ImageRejected)]
    if len(rejected) == len(images):
        raise rejected[0] if len(rejected) == 1 else AllImagesRejected(rejected)
    return [image for image in images if not isinstance(image, ImageRejected)]


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


def _server_timing(read_s: float, computed: Computed) -> str:
    """The Server-Timing header, in milliseconds: reading the images, waiting for the model, computing."""
    return (
        f"read;dur={read_s * 1000:.2f}, queue;dur={computed.waited_s * 1000:.2f}, "
        f'compute;dur={computed.computed_s * 1000:.2f};desc="batch of {computed.batch_images}"'
    )


def _describe_model(model: ServedModel) -> Answer:
    classifier, card = model.classifier, model.classifier.card
    return {
        "name": classifier.name,
        "version": classifier.version,
        "provider": classifier.provider,
        **card.model_dump(mode="json", exclude={"contract_version", "recipe", "packages"}),
    }
