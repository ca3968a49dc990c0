"""Our own routes: `/predict`, `/models`, `/metrics` and the page at `/ui`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from service import explain, metrics, overlap
from service.access import Keys
from service.answers import Answer, describe, in_base64
from service.canonical import CanonicalForm
from service.draining import Drain
from service.errors import BadRequest, RouteNotFound
from service.exchange import UNDERWAY
from service.exposition import exposition
from service.images import CanonicalMode
from service.reading import ImageReader, Pictures, images_of, readable, refuse_too_many
from service.repository import Repository, ServedModel
from service.requests import caller_left, header, read_body
from service.responses import (
    Handler,
    JsonResponse,
    answered_route,
    error_response,
    in_their_places,
    server_timing,
)
from service.settings import Settings
from service.uploads import Upload, UploadLimits, parse_uploads

PAGE = Path(__file__).parent / "page"
PAGE_KINDS = {".css", ".html", ".js", ".svg"}
PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class PredictQuery(BaseModel):
    """The query of `POST /predict`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str | None, Field(description="Which model answers.")] = None
    top_k: Annotated[int, Field(ge=1, le=10, description="How many labels `top` lists.")] = 1
    canonical: Annotated[CanonicalMode, Field(description="`never` takes 28x28 grey pixels as they are.")] = (
        "auto"
    )
    pixels: Annotated[
        bool, Field(description="Whether each prediction shows the 28x28 pixels that the model saw.")
    ] = False
    segments: Annotated[
        bool, Field(description="Whether each digit on a picture is answered, with its box.")
    ] = False
    explain: Annotated[
        bool, Field(description="Whether each prediction has a heat map of where the model looked.")
    ] = False

    @classmethod
    @lru_cache(maxsize=256)
    def of(cls, query: bytes) -> PredictQuery:
        try:
            return cls.model_validate(dict(QueryParams(query)))
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
        self._timeout_s = settings.timeout_ms / 1000
        self._limits = UploadLimits(settings.max_images, settings.max_parts, settings.max_json_values)
        metrics = self.get_metrics if settings.open_metrics else keys.guarded(self.get_metrics)
        self.routes = [
            self._route("/predict", keys.guarded(self.predict), ["POST"]),
            self._route("/models", keys.guarded(self.list_models), ["GET"]),
            self._route("/models/{name}", keys.guarded(self.get_model), ["GET"]),
            self._route("/metrics", metrics, ["GET"]),
            self._route("/ui", self.get_page, ["GET"]),
            self._route("/ui/", self.redirect_to_page, ["GET"]),
            self._route("/ui/{file}", self.get_page, ["GET"]),
        ]

    def _route(self, path: str, handler: Handler, methods: list[str]) -> Route:
        return answered_route(path, handler, methods, self._drain, error_response)

    async def predict(self, request: Request) -> Response:
        """Read, canonicalise, classify; one prediction for each image, in order."""
        query = PredictQuery.of(request.scope["query_string"])
        model = self._repository.get(query.model or self._repository.default)
        form = model.classifier.card.canonical_form
        if query.segments and (form != "digit" or query.canonical == "never"):
            raise BadRequest("segments=true is for models of digits, and not for canonical=never.")
        body = await read_body(request, self._settings.max_request_bytes, self._settings.max_pending_bytes)
        started = time.perf_counter()
        ends = started + self._timeout_s
        uploads = parse_uploads(body, header(request, b"content-type"), self._limits)
        left = partial(caller_left, request)
        pictures: Pictures
        if len(uploads) > overlap.STEP_IMAGES and not query.segments and not query.explain:
            steps = self._reader.read_in_steps(uploads, form, query.canonical, overlap.STEP_IMAGES)
            left_s = ends - time.perf_counter()
            room = model.batcher.room_for(len(uploads), timeout_s=left_s, caller_left=left)
            with room as submit:
                pictures, computed = await overlap.read_and_compute(steps, submit)
            images = images_of(readable(pictures))
        else:
            pictures = await self._read(uploads, form, query)
            images = images_of(readable(pictures))
            refuse_too_many(len(images), self._most_images(explained=query.explain))
            computed = await model.batcher.submit(
                np.array(images),  # (n, 28, 28); np.stack takes three times as long
                timeout_s=ends - time.perf_counter(),
                caller_left=left,
                alone=UNDERWAY.is_one(),
            )
        read_s = time.perf_counter() - started - computed.waited_s - computed.computed_s
        timing = server_timing(read_s, computed)
        answers = describe(model.classifier.card, computed.outputs, query.top_k)
        if query.pixels:
            _attach("pixels", images, answers)
        if query.explain:
            left_s = ends - time.perf_counter()
            heat_maps, explain_s = await explain.heat_maps(
                *(model.batcher, np.array(images), computed.outputs[0]), timeout_s=left_s, caller_left=left
            )
            _attach("heat_map", heat_maps, answers)
            timing += f", explain;dur={explain_s * 1000:.2f}"
        return JsonResponse(
            {
                "model": model.classifier.name,
                "version": model.classifier.version,
                "predictions": in_their_places(pictures, answers),
            },
            headers={"server-timing": timing},
        )

    async def _read(self, uploads: Sequence[Upload], form: CanonicalForm, query: PredictQuery) -> Pictures:
        if query.segments:
            return await self._reader.read_digits(uploads)
        return await self._reader.read(uploads, form, query.canonical)

    def _most_images(self, *, explained: bool) -> int:
        most = self._settings.max_images
        return min(most, explain.most_images(self._settings.max_queue)) if explained else most

    async def list_models(self, _: Request) -> Response:
        repository = self._repository
        models = [self._describe(repository.get(name)) for name in repository.names()]
        return JsonResponse({"default": repository.default, "models": models})

    async def get_model(self, request: Request) -> Response:
        return JsonResponse(self._describe(self._repository.get(request.path_params["name"])))

    def _describe(self, model: ServedModel) -> Answer:
        classifier, card = model.classifier, model.classifier.card
        return {
            "name": classifier.name,
            "version": classifier.version,
            "provider": classifier.provider,
            "max_images": self._most_images(explained=False),
            "max_explained_images": self._most_images(explained=True),
            **card.model_dump(mode="json", exclude={"contract_version", "recipe", "packages"}),
        }

    async def get_metrics(self, _: Request) -> Response:
        metrics.GATHERED.count()
        content, media_type = await asyncio.to_thread(exposition)
        return Response(content, headers={"content-type": media_type})

    async def get_page(self, request: Request) -> Response:
        file = request.path_params.get("file", "index.html")
        if file not in _page_files():
            raise RouteNotFound("The page has no such file.")
        return FileResponse(PAGE / file, headers=PAGE_HEADERS)

    async def redirect_to_page(self, _: Request) -> Response:
        return Response(status_code=308, headers={"location": "../ui"})  # a proxy may have added a prefix


def _attach(name: str, planes: Sequence[NDArray[np.uint8]], answers: Sequence[Answer]) -> None:
    """Put each plane (28, 28) into the answer that it belongs to."""
    for plane, answer in zip(planes, answers, strict=True):
        answer[name] = in_base64(plane)


@cache
def _page_files() -> frozenset[str]:
    return frozenset(path.name for path in PAGE.iterdir() if path.suffix in PAGE_KINDS)
