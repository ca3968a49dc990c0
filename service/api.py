"""Our own routes: `/predict`, `/models`, `/metrics` and the page at `/ui`."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from service import metrics
from service.access import Keys
from service.answers import Answer, describe
from service.draining import Drain
from service.errors import BadRequest, ImageRejected, RouteNotFound
from service.exposition import exposition
from service.images import CanonicalMode
from service.reading import ImageReader, readable
from service.repository import Repository, ServedModel
from service.requests import caller_left, read_body
from service.responses import Handler, answered_route, describe_error, error_response, server_timing
from service.settings import Settings
from service.uploads import parse_uploads

PAGE = Path(__file__).parent / "page"
PAGE_KINDS = {".css", ".html", ".js", ".svg"}
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

    def __init__(
        self, repository: Repository, reader: ImageReader, drain: Drain, keys: Keys, settings: Settings
    ) -> None:
        self._repository = repository
        self._reader = reader
        self._drain = drain
        self._settings = settings
        metrics = self.get_metrics if settings.open_metrics else keys.guarded(self.get_metrics)
        self.routes = [
            self._route("/predict", keys.guarded(self.predict), ["POST"]),
            self._route("/models", keys.guarded(self.list_models), ["GET"]),
            self._route("/models/{name}", keys.guarded(self.get_model), ["GET"]),
            self._route("/metrics", metrics, ["GET"]),
            self._route("/ui", self.get_page, ["GET"]),
            self._route("/ui/{file}", self.get_page, ["GET"]),
        ]

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
        images = await self._reader.read(uploads, card.canonical_form, query.canonical)
        pixels = np.stack(readable(images))  # (n, 28, 28)
        read_s = time.perf_counter() - started
        computed = await model.batcher.submit(
            pixels, timeout_s=self._settings.timeout_ms / 1000, caller_left=partial(caller_left, request)
        )
        answers = describe(card, computed.outputs, query.top_k)
        if query.pixels:
            for answer, image in zip(answers, pixels, strict=True):
                answer["pixels"] = b64encode(image.tobytes()).decode("ascii")
        in_order = iter(answers)
        predictions = [describe_error(i) if isinstance(i, ImageRejected) else next(in_order) for i in images]
        return JSONResponse(
            {"model": model.classifier.name, "version": model.classifier.version, "predictions": predictions},
            headers={"server-timing": server_timing(read_s, computed)},
        )

    async def list_models(self, _: Request) -> Response:
        repository = self._repository
        models = [_describe_model(repository.get(name)) for name in repository.names()]
        return JSONResponse({"default": repository.default, "models": models})

    async def get_model(self, request: Request) -> Response:
        return JSONResponse(_describe_model(self._repository.get(request.path_params["name"])))

    async def get_metrics(self, _: Request) -> Response:
        metrics.GATHERED.count()
        content, media_type = await asyncio.to_thread(exposition)
        return Response(content, headers={"content-type": media_type})

    async def get_page(self, request: Request) -> Response:
        file = request.path_params.get("file", "index.html")
        if file not in _page_files():
            raise RouteNotFound("The page has no such file.")
        return FileResponse(PAGE / file, headers=PAGE_HEADERS)


@cache
def _page_files() -> frozenset[str]:
    return frozenset(path.name for path in PAGE.iterdir() if path.suffix in PAGE_KINDS)


def _describe_model(model: ServedModel) -> Answer:
    classifier, card = model.classifier, model.classifier.card
    return {
        "name": classifier.name,
        "version": classifier.version,
        "provider": classifier.provider,
        **card.model_dump(mode="json", exclude={"contract_version", "recipe", "packages"}),
    }
