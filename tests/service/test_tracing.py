"""Traces: off unless asked for; then a span for each request, under its route, reaches a collector."""

from __future__ import annotations

import io
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from PIL import Image
from real_server import ROOT, Server, StartServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from service import tracing
from service.access import Keys
from service.app import web_app
from service.draining import Drain
from service.repository import Repository
from service.responses import answered_route, error_response
from service.settings import Settings


@dataclass
class Collector:
    """Receives spans as an OpenTelemetry collector does: OTLP over HTTP, in protobuf."""

    url: str
    received: queue.Queue[Span] = field(default_factory=queue.Queue)
    services: set[str] = field(default_factory=set)
    seen: list[Span] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {
                attribute.value.string_value
                for attribute in resource.resource.attributes
                if attribute.key == "service.name"
            }
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.received.put(span)

    def trace(self, trace_id: str, spans: int) -> list[Span]:
        """The first so many spans of a trace, as soon as they have arrived."""

        def of_trace() -> list[Span]:
            return [span for span in self.seen if span.trace_id.hex() == trace_id]

        while len(of_trace()) < spans:
            self.seen.append(self.received.get(timeout=30))
        return of_trace()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield collector
        server.shutdown()


@pytest.fixture(scope="module")
def server(start_server: StartServer, tiny_models: Path, collector: Collector) -> Server:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")  # milliseconds from a span's end to its sending
        return start_server(models_dir=tiny_models, tracing="true")


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def picture() -> bytes:
    out = io.BytesIO()
    pixels = np.full((28, 28), 200, np.uint8)
    pixels[0, 0] = 7
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def traceparent(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-00000000000000ab-01"}


def test_a_request_arrives_at_the_collector_under_its_route_with_its_stages(
    server: Server, collector: Collector
) -> None:
    trace_id = "1" * 32
    response = httpx2.post(
        f"{server.url}/predict?canonical=never", content=picture(), headers=traceparent(trace_id)
    )
    assert response.status_code == 200
    by_name = {span.name: span for span in collector.trace(trace_id, spans=4)}
    assert by_name.keys() == {"POST /predict", "read", "queue", "compute"}
    request = by_name["POST /predict"]
    assert request.kind == Span.SPAN_KIND_SERVER
    assert request.parent_span_id.hex() == "00000000000000ab", "it continues the caller's trace"
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "url.path": "/predict",
        "http.response.status_code": 200,
        "digitserve.request_id": response.headers["x-request-id"],
    }
    assert collector.services == {"digitserve"}
    stages = [by_name[name] for name in ("read", "queue", "compute")]
    assert {stage.parent_span_id for stage in stages} == {request.span_id}
    ends = [request.start_time_unix_nano]
    for stage in stages:
        ends += [stage.start_time_unix_nano, stage.end_time_unix_nano]
    assert ends == sorted(ends), "one after another"
    assert ends[-1] <= request.end_time_unix_nano


def test_names_of_spans_are_templates_whatever_is_asked_for(server: Server, collector: Collector) -> None:
    trace_id = "2" * 32
    with httpx2.Client(base_url=server.url, headers=traceparent(trace_id)) as client:
        client.get("/models/mnist-cnn")
        client.get("/models/absent")
        client.get("/nothing/here")
        client.post("/v2/models/mnist-cnn/infer", content=b"{")
    spans = collector.trace(trace_id, spans=4)
    described = sorted((span.name, attributes(span)["http.response.status_code"]) for span in spans)
    assert described == [
        ("GET /models/{name}", 200),
        ("GET /models/{name}", 404),
        ("GET /{path:path}", 404),
        ("POST /v2/models/{model}/infer", 400),
    ]


def test_a_caller_that_does_not_sample_is_not_traced(server: Server, collector: Collector) -> None:
    unsampled, sampled = "3" * 32, "4" * 32
    headers = {"traceparent": f"00-{unsampled}-00000000000000ab-00"}
    httpx2.get(f"{server.url}/models", headers=headers)
    httpx2.get(f"{server.url}/models", headers=traceparent(sampled))
    collector.trace(sampled, spans=1)
    assert unsampled not in {span.trace_id.hex() for span in collector.seen}


def test_what_was_not_sent_yet_is_sent_at_the_end(
    start_server: StartServer, tiny_models: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    server = start_server(models_dir=tiny_models, tracing="true")
    httpx2.get(f"{server.url}/models", headers=traceparent("5" * 32))
    server.stop()
    assert [span.name for span in collector.trace("5" * 32, spans=1)] == ["GET /models"]


def test_an_error_of_ours_marks_its_span(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("test"))

    async def fail(_: Request) -> Response:
        raise ZeroDivisionError

    routes = [answered_route("/fail", fail, ["GET"], Drain(drain_s=0, workers=1), error_response)]
    tracing.trace_routes(routes)
    with TestClient(Starlette(routes=routes)) as client:
        assert client.get("/fail").status_code == 500
    [span] = exporter.get_finished_spans()
    assert span.name == "GET /fail"
    assert span.status.status_code is StatusCode.ERROR


def test_without_the_setting_no_route_is_traced(tiny_models: Path) -> None:
    for tracing_on in (False, True):
        config = Settings(models_dir=tiny_models, tracing=tracing_on)
        app = web_app(Repository(config), Drain(drain_s=0, workers=1), Keys(None), config)
        traced = [isinstance(route.app, tracing.TracedRoute) for route in app.routes]
        assert traced
        assert set(traced) == {tracing_on}
    assert Settings.model_fields["tracing"].default is False


def test_the_exporter_is_the_one_that_opentelemetrys_variable_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OTEL_TRACES_EXPORTER", raising=False)
    assert isinstance(tracing.exporter(), OTLPSpanExporter)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    assert isinstance(tracing.exporter(), ConsoleSpanExporter)


def test_an_unknown_exporter_stops_the_start_with_a_sentence(tiny_models: Path) -> None:
    variables = {"MODELS_DIR": str(tiny_models), "TRACING": "true"}
    environment = os.environ | {f"DIGITSERVE_{name}": value for name, value in variables.items()}
    command = [sys.executable, "-m", "service", "serve", "--port", "0"]
    refused = subprocess.run(
        command,
        cwd=ROOT,
        env=environment | {"OTEL_TRACES_EXPORTER": "pigeon"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode != 0
    assert "OTEL_TRACES_EXPORTER is 'pigeon'; what is installed is console, otlp" in refused.stderr
    assert "Traceback" not in refused.stderr
