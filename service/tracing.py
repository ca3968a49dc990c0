"""OpenTelemetry traces, when they are switched on: a span for each request, and one for each of its stages.

`OTEL_TRACES_EXPORTER` says where spans go: `otlp` (the default; OTLP over HTTP) or `console`. The endpoint,
the sampler and the rest are OpenTelemetry's own variables. BentoML's tracing stays off: it records three
spans for every request, sampled or not, and knows no route. Switched off, ours cost nothing; switched on, the
four spans of a prediction cost 160 us (CPU time on one of two busy cores, before they are sent).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from importlib.metadata import entry_points

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import __version__

OTLP = "otlp_proto_http"  # what `otlp` stands for; it needs no compiler and no second port
STAGE = re.compile(r"(\w+);dur=([\d.]+)")

# Gives spans of the provider that `start` sets, once it has.
tracer = trace.get_tracer("digitserve", __version__)


class ExporterUnknown(Exception):
    """`OTEL_TRACES_EXPORTER` names what is not installed."""


def exporter() -> SpanExporter:
    """The exporter that `OTEL_TRACES_EXPORTER` names.

    Raises:
        ExporterUnknown: with the names that there are.
    """
    name = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    installed = {found.name: found for found in entry_points(group="opentelemetry_traces_exporter")}
    installed["otlp"] = installed[OTLP]
    if name not in installed:
        raise ExporterUnknown(
            f"OTEL_TRACES_EXPORTER is {name!r}; what is installed is {', '.join(sorted(installed))}."
        )
    made: SpanExporter = installed[name].load()()
    return made


def start() -> TracerProvider:
    """Trace from now on; its `shutdown` sends what has not been sent yet."""
    resource = Resource.create({"service.name": "digitserve", "service.version": __version__})
    provider = TracerProvider(resource=resource.merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(exporter()))
    trace.set_tracer_provider(provider)
    return provider


class TracedRoute:
    """The ASGI application of a route, in a span that continues the caller's trace where it names one."""

    def __init__(self, route: Route) -> None:
        self._app: ASGIApp = route.app
        self._template = route.path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        attributes = {
            "http.request.method": scope["method"],
            "http.route": self._template,
            "url.path": scope["path"],
        }
        with tracer.start_as_current_span(
            f"{scope['method']} {self._template}",
            context=propagate.extract(Headers(scope=scope)),
            kind=SpanKind.SERVER,
            attributes=attributes,
        ) as span:

            async def send_described(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _describe(span, message)
                await send(message)

            await self._app(scope, receive, send_described)


def _describe(span: Span, response: Message) -> None:
    """What the head of the answer tells of the request: status, id and, from Server-Timing, the stages."""
    headers = Headers(raw=response["headers"])
    span.set_attribute("http.response.status_code", response["status"])
    span.set_attribute("digitserve.request_id", headers.get("x-request-id", ""))
    if response["status"] >= 500:
        span.set_status(Status(StatusCode.ERROR))
    timing = STAGE.findall(headers.get("server-timing", ""))
    stages = [(name, round(float(ms) * 1e6)) for name, ms in timing if name != "total"]
    # They follow one another, and the answer follows the last.
    start_ns = time.time_ns() - sum(duration_ns for _, duration_ns in stages)
    for name, duration_ns in stages:
        stage = tracer.start_span(name, start_time=start_ns)
        start_ns += duration_ns
        stage.end(start_ns)


def trace_routes(routes: Iterable[Route]) -> None:
    """Put a span around whatever each of `routes` answers."""
    for route in routes:
        route.app = TracedRoute(route)
