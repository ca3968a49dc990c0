"""The BentoML service: what is served, and the life of a worker.

BentoML runs the processes, the socket and its own routes (`/livez`, `/readyz`, the API explorer at `/`).
Ours are one ASGI application in front of BentoML's.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
from collections.abc import Sequence

# Before BentoML is imported, which otherwise reports every start, and every twelve hours, to its makers.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
# Before prometheus_client is imported: where the workers of this server share their series (exposition.py).
if "DIGITSERVE_METRICS_DIR" in os.environ:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["DIGITSERVE_METRICS_DIR"]

import bentoml
import bentoml.images
from bentoml._internal.configuration.containers import BentoMLContainer  # there is no public way to ask
from bentoml.exceptions import BentoMLConfigException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from service import connections, exposition, liveness, logs, metrics, openapi, protocol_v2, responses, tracing
from service.access import Keys
from service.api import Api
from service.draining import Drain, end_with_the_supervisor
from service.errors import ArtifactRejected, KeysRejected
from service.protocol_v2 import ProtocolV2
from service.reading import ImageReader
from service.repository import Repository, load_all
from service.requests import return_memory
from service.responses import ErrorResponse, answered_route, refusal
from service.settings import Settings, usable_cores

NAME = "digitserve"

# What BentoML answers: its probes, its explorer's page, and what that page loads.
BENTOML = re.compile(r"/(livez|readyz|healthz)?|/static_content/.*")
# How often each worker looks for new, changed and removed artifacts.
FOLLOW_INTERVAL_S = 1.0


def web_app(repository: Repository, drain: Drain, keys: Keys, settings: Settings) -> ASGIApp:
    """All our routes, and one that refuses the rest."""
    reader = ImageReader(settings.max_pixels, timeout_s=settings.timeout_ms / 1000)

    async def describe(_: Request) -> Response:
        return responses.JsonResponse(openapi.document())

    docs = answered_route("/docs.json", describe, ["GET"], drain, responses.error_response)
    ours = [*Api(repository, reader, drain, keys, settings).routes, docs]
    v2 = ProtocolV2(repository, reader, drain, keys, settings).routes

    def refusing_route(path: str, known: list[Route], error_response: ErrorResponse) -> Route:
        return answered_route(path, keys.guarded(refusal(known)), None, drain, error_response)

    unknown_v2 = refusing_route("/v2/{path:path}", v2, protocol_v2.error_response)
    unknown = refusing_route("/{path:path}", ours, responses.error_response)
    routes = [*ours, *v2, unknown_v2, unknown]
    if settings.tracing:
        tracing.trace_routes(routes)
    app: ASGIApp = FixedPathsFirst(routes, default=unknown.app)  # `OPTIONS *` matches no path
    return cross_origin(app, settings.cors_origins) if settings.cors_origins else app


class FixedPathsFirst(Router):
    """Looks up a path without parameters, where Starlette's router tries one pattern after another."""

    def __init__(self, routes: Sequence[Route], default: ASGIApp) -> None:
        super().__init__(routes, default=default)
        fixed = [route for route in routes if not route.param_convertors]
        self._fixed: dict[object, ASGIApp] = {
            (method, route.path): route.app for route in fixed for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._fixed.get((scope.get("method"), scope.get("path")), super().__call__)
        await app(scope, receive, send)


def cross_origin(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let the pages of these origins ask; without this, browsers keep every other page away."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["inference-header-content-length", "retry-after", "server-timing", "x-request-id"],
    )


class OursFirst:
    """Our application in front of BentoML's, whose routing and middleware would cost each request more."""

    def __init__(self, bentoml_app: ASGIApp, ours: ASGIApp) -> None:
        self._bentoml_app = bentoml_app
        self._ours = ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        theirs = scope["type"] != "http" or BENTOML.fullmatch(scope["path"])
        await (self._bentoml_app if theirs else self._ours)(scope, receive, send)


def _settings() -> Settings:
    """Our settings, with the deadline of BentoML's own configuration where that is shorter."""
    settings = Settings()
    services = BentoMLContainer.config.get().get("services", {})
    timeout_s = services.get(NAME, {}).get("traffic", {}).get("timeout")
    if timeout_s is None:
        return settings
    return settings.model_copy(update={"timeout_ms": min(settings.timeout_ms, round(1000 * timeout_s))})


# For `bentoml build`. Every package has a wheel, in the version of constraints.txt: Debian adds nothing.
IMAGE = bentoml.images.Image(
    base_image="docker.io/library/python:3.11-slim", distro="", lock_python_packages=False
).build_include("constraints.txt")

SETTINGS = _settings()
# BentoML's own timeout covers a request's arrival too. It is never the first to pass, and no longer than that
# needs, as it leaves a timer behind for every request.
BENTOML_TIMEOUT_S = (SETTINGS.transfer_ms + SETTINGS.timeout_ms) / 1000 + connections.LOOK_INTERVAL_S + 1
REPOSITORY = Repository(SETTINGS)
KEYS = Keys(SETTINGS.api_keys_file)
DRAIN = Drain(drain_s=SETTINGS.drain_ms / 1000, workers=SETTINGS.workers)
OURS = web_app(REPOSITORY, DRAIN, KEYS, SETTINGS)


@bentoml.service(
    name=NAME,
    image=IMAGE,
    workers=SETTINGS.workers,
    traffic={"timeout": BENTOML_TIMEOUT_S},
    # Each of the three costs more than an inference of the MLP; ours are metrics.py, logs.py and tracing.py.
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    tracing={"excluded_urls": [".*"]},
)
class DigitServe:
    """Classifies pictures of handwritten digits and garments."""

    @bentoml.on_deployment
    @staticmethod
    def prepare_workers() -> None:
        """Load everything once before any worker exists, so that a bad start ends with one sentence."""
        logs.configure(SETTINGS.log_level, SETTINGS.log_format)
        try:
            KEYS.load()
            load_all(SETTINGS)
            if SETTINGS.tracing:
                tracing.exporter()
        except (ArtifactRejected, KeysRejected, tracing.ExporterUnknown) as error:
            raise BentoMLConfigException(str(error)) from None
        try:
            exposition.make_folder()
        except OSError as error:
            raise BentoMLConfigException(f"The workers' metrics find no place: {error.strerror}.") from None
        # In its own images BentoML replaces no dead worker, as if the container ended with it; it does not.
        os.environ.pop("BENTOML_CONTAINERIZED", None)
        # Each worker shares the cores, and drains, by how many there are.
        os.environ["DIGITSERVE_WORKERS"] = str(_worker_processes())

    def __init__(self) -> None:
        logs.configure(SETTINGS.log_level, SETTINGS.log_format)

    @bentoml.on_startup
    async def open(self) -> None:
        self._tracing = tracing.start() if SETTINGS.tracing else None
        KEYS.load()
        await asyncio.to_thread(REPOSITORY.open)
        exposition.reserve_space()
        watched = [REPOSITORY.follow(FOLLOW_INTERVAL_S), liveness.watch(REPOSITORY, SETTINGS.stuck_ms / 1000)]
        watched.append(return_memory())
        server = connections.running_server()
        if server is not None:
            connections.bound(server, SETTINGS)
            # In front of BentoML's tracing and timeout too; ours are tracing.py and our own deadlines.
            server.config.loaded_app = OursFirst(server.config.loaded_app, ours=OURS)
            watched.append(connections.watch(server))
            DRAIN.install(server)
            end_with_the_supervisor()
        self._watching = [asyncio.create_task(task) for task in watched]
        # What is loaded now stays. Collections of this large heap were the long tail of every answer.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)

    @bentoml.on_shutdown
    async def close(self) -> None:
        for watching in self._watching:
            watching.cancel()
        await REPOSITORY.close()
        metrics.GATHERED.count()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.shutdown)

    async def __is_alive__(self) -> bool:
        return liveness.is_alive()

    async def __is_ready__(self) -> bool:
        return REPOSITORY.ready and not DRAIN.draining


def _worker_processes() -> int:
    """As many as BentoML starts: its own configuration, where it has them, wins over DIGITSERVE_WORKERS."""
    workers: int | str = BentoMLContainer.config.services[NAME].workers.get()
    return usable_cores() if isinstance(workers, str) else workers  # the one string it knows is `cpu_count`


DigitServe.add_asgi_middleware(OursFirst, ours=OURS)  # type: ignore[attr-defined]  # the decorator made a Service of it
