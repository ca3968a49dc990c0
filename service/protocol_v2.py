"""The Open Inference Protocol at `/v2`, as Triton and KServe speak it, in JSON and in binary tensors.

The input `images` holds canonical pixels (UINT8, [n, 28, 28]), or encoded pictures (BYTES, [n]) that become
canonical as they do at `/predict`. The tensors themselves are read and written in tensors_v2.py.
"""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service import __version__, metrics
from service.access import Keys
from service.batching import Images
from service.draining import Drain
from service.errors import DigitServeError, Forbidden, ModelNotFound, NotReady, TooManyImages
from service.exposition import model_totals
from service.reading import ImageReader, readable
from service.repository import Repository, ServedModel
from service.requests import IN_HAND, caller_left, header, read_body
from service.responses import Handler, JsonResponse, answered_route, error_headers, server_timing
from service.settings import Settings
from service.tensors_v2 import (
    InferRequest,
    compressed,
    decompressed,
    read_infer_request,
    write_infer_response,
)

EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"]


class ProtocolV2:
    """The routes of the protocol over the served models."""

    def __init__(
        self, repository: Repository, reader: ImageReader, drain: Drain, keys: Keys, settings: Settings
    ) -> None:
        self._repository = repository
        self._reader = reader
        self._drain = drain
        self._keys = keys
        self._settings = settings
        model = "/v2/models/{model}"
        self.routes = [
            self._route("/v2", self.server_metadata),
            self._open_route("/v2/health/live", self.live),
            self._open_route("/v2/health/ready", self.ready),
            self._route("/v2/models/stats", self.all_statistics),
            self._route("/v2/repository/index", self.repository_index, "POST"),
            self._route("/v2/repository/models/{model}/load", self.load, "POST"),
            self._route("/v2/repository/models/{model}/unload", self.unload, "POST"),
        ]
        for path in (model, model + "/versions/{version}"):
            self.routes += [
                self._route(path, self.model_metadata),
                self._route(path + "/ready", self.model_ready),
                self._route(path + "/config", self.model_config),
                self._route(path + "/stats", self.model_statistics),
                self._route(path + "/infer", self.infer, "POST"),
            ]

    def _route(self, path: str, handler: Handler, method: str = "GET") -> Route:
        return self._open_route(path, self._keys.guarded(handler), method)

    def _open_route(self, path: str, handler: Handler, method: str = "GET") -> Route:
        return answered_route(path, handler, [method], self._drain, error_response)

    async def server_metadata(self, _: Request) -> Response:
        return JsonResponse({"name": "digitserve", "version": __version__, "extensions": EXTENSIONS})

    async def live(self, _: Request) -> Response:
        return JsonResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        if not self._repository.ready or self._drain.draining:
            raise NotReady("The server is not ready.")
        return JsonResponse({"ready": True})

    async def model_metadata(self, request: Request) -> Response:
        model = self._model(request)
        return JsonResponse(
            {
                "name": model.classifier.name,
                "versions": [model.classifier.version],
                "platform": "onnx_onnxv1",
                "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}],
                "outputs": [
                    {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
                    {"name": "typicality", "datatype": "FP32", "shape": [-1]},
                ],
            }
        )

    async def model_ready(self, request: Request) -> Response:
        model = self._model(request)
        return JsonResponse({"name": model.classifier.name, "ready": True})

    async def model_config(self, request: Request) -> Response:
        model = self._model(request)
        return JsonResponse(
            {
                "name": model.classifier.name,
                "platform": "onnxruntime_onnx",
                "backend": "onnxruntime",
                "max_batch_size": self._settings.max_images,
                "input": [{"name": "images", "data_type": "TYPE_UINT8", "dims": [28, 28]}],
                "output": [
                    {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [10]},
                    {"name": "typicality", "data_type": "TYPE_FP32", "dims": []},
                ],
                "dynamic_batching": {"preferred_batch_size": [self._settings.max_batch]},
            }
        )

    async def model_statistics(self, request: Request) -> Response:
        return JsonResponse({"model_stats": [_statistics(self._model(request))]})

    async def all_statistics(self, _: Request) -> Response:
        models = [self._repository.get(name) for name in self._repository.names()]
        return JsonResponse({"model_stats": [_statistics(model) for model in models]})

    async def repository_index(self, _: Request) -> Response:
        return JsonResponse(
            [
                {
                    "name": entry.name,
                    "version": entry.version or "",
                    "state": "READY" if entry.version else "UNAVAILABLE",
                    "reason": entry.reason,
                }
                for entry in self._repository.index()
            ]
        )

    async def load(self, request: Request) -> Response:
        self._refuse_unless_controlled()
        name = request.path_params["model"]
        if name not in self._settings.model_names():
            raise ModelNotFound(f"There is no artifact {name[:80]!r} in the folder of models.")
        await self._repository.load(name)
        return JsonResponse({})

    async def unload(self, request: Request) -> Response:
        self._refuse_unless_controlled()
        self._repository.unload(self._model(request).classifier.name)
        return JsonResponse({})

    async def infer(self, request: Request) -> Response:
        """Run the model on canonical pixels as they are, or on encoded pictures."""
        model = self._model(request)
        body = await read_body(request, self._settings.max_request_bytes, self._settings.max_pending_bytes)
        if sent_in := header(request, b"content-encoding"):  # little may inflate to much
            body = await asyncio.to_thread(decompressed, body, sent_in, self._settings.max_request_bytes)
            IN_HAND.take(len(body), self._settings.max_pending_bytes)
        started = time.perf_counter()
        call = read_infer_request(
            body, request.headers.get("inference-header-content-length"), self._settings.max_json_values
        )
        images = await self._images(call, model)
        read_s = time.perf_counter() - started
        asked_ms = call.document.parameters.timeout / 1000
        timeout_s = min(asked_ms or math.inf, self._settings.timeout_ms) / 1000
        computed = await model.batcher.submit(
            images, timeout_s=timeout_s - read_s, caller_left=partial(caller_left, request)
        )
        outputs = dict(zip(("probabilities", "typicality"), computed.outputs, strict=True))
        content, header_length = write_infer_response(
            call, outputs, model.classifier.card.labels, model.classifier.name, model.classifier.version
        )
        content, encoding = compressed(content, header(request, b"accept-encoding"))
        headers = {"vary": "accept-encoding", "server-timing": server_timing(read_s, computed)}
        if encoding is not None:
            headers["content-encoding"] = encoding
        if header_length is None:
            return Response(content, media_type="application/json", headers=headers)
        headers["inference-header-content-length"] = str(header_length)
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def _images(self, call: InferRequest, model: ServedModel) -> Images:
        """The canonical images (n, 28, 28) of a call, whichever way it brings them."""
        count = len(call.pictures if call.pixels is None else call.pixels)
        if count > self._settings.max_images:
            raise TooManyImages(f"A request holds at most {self._settings.max_images} images.")
        if call.pixels is not None:
            return call.pixels
        form = model.classifier.card.canonical_form
        read = await self._reader.read(call.pictures, form, "auto")
        images = readable(read)
        if len(images) < len(read):
            raise next(image for image in read if isinstance(image, DigitServeError))
        return np.stack(images)

    def _model(self, request: Request) -> ServedModel:
        model = self._repository.get(request.path_params["model"])
        wanted = request.path_params.get("version", model.classifier.version)
        if wanted != model.classifier.version:
            raise ModelNotFound(
                f"{model.classifier.name} is served in version {model.classifier.version} only."
            )
        return model

    def _refuse_unless_controlled(self) -> None:
        if not self._settings.model_control:
            raise Forbidden("Loading and unloading is off; DIGITSERVE_MODEL_CONTROL=true allows it.")


def _statistics(model: ServedModel) -> dict[str, Any]:
    """What Triton's statistics extension tells of a model; durations in nanoseconds."""
    name = model.classifier.name
    metrics.GATHERED.count()
    totals = model_totals(name)

    def duration(seconds: float) -> dict[str, int]:
        return {"count": totals.batches, "ns": round(seconds * 1e9)}

    return {
        "name": name,
        "version": model.classifier.version,
        "inference_count": totals.images,
        "execution_count": totals.batches,
        "inference_stats": {
            "success": duration(totals.queue_s + totals.compute_s),
            "queue": duration(totals.queue_s),
            "compute_infer": duration(totals.compute_s),
        },
    }


def error_response(error: DigitServeError, _: str) -> Response:
    """The response to `error` as the protocol wants it."""
    return JsonResponse({"error": error.message}, status_code=error.status, headers=error_headers(error))
