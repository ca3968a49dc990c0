"""The log: one line for each error under its request id, in text or JSON, and nothing that callers send."""

from __future__ import annotations

import base64
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from real_server import ROOT, StartServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from service.draining import Drain
from service.errors import DeadlineExceeded, InferenceFailed, ModelNotFound, Overloaded
from service.responses import answered_route, error_response

FAILURES = {
    "none": None,
    "absent": ModelNotFound("There is no model 'written-by-a-caller'."),
    "overloaded": Overloaded("7 images are waiting already."),
    "late": DeadlineExceeded("No answer within 5 s."),
    "failed": InferenceFailed("The model failed on this request."),
    "surprise": ZeroDivisionError("nobody expected this"),
}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """A route that fails as its last segment says."""

    async def fail(request: Request) -> Response:
        failure = FAILURES[request.path_params["how"]]
        if failure is not None:
            raise failure
        return PlainTextResponse("well")

    drain = Drain(drain_s=0, workers=1)
    with TestClient(Starlette(routes=[answered_route("/{how}", fail, ["GET"], drain, error_response)])) as it:
        yield it


def lines_of(
    client: TestClient, caplog: pytest.LogCaptureFixture, *paths: str, level: int = logging.INFO
) -> tuple[list[logging.LogRecord], list[httpx2.Response]]:
    """What the service logs at this level while it answers `paths`, and its answers."""
    with caplog.at_level(level, "service"):
        answers = [client.get(path) for path in paths]
    return [line for line in caplog.records if line.name.startswith("service")], answers


@pytest.mark.parametrize(
    ("how", "level", "fields"),
    [
        ("absent", logging.INFO, {"status": 404, "code": "model_not_found"}),
        ("overloaded", logging.WARNING, {"status": 503, "code": "overloaded"}),
        ("late", logging.WARNING, {"status": 504, "code": "deadline_exceeded"}),
        ("failed", logging.ERROR, {"status": 500, "code": "inference_failed"}),
        ("surprise", logging.ERROR, {"status": 500, "code": "internal"}),
    ],
)
def test_an_error_has_one_line_with_its_request_id(
    client: TestClient, caplog: pytest.LogCaptureFixture, how: str, level: int, fields: dict[str, Any]
) -> None:
    [line], [answer] = lines_of(client, caplog, f"/{how}")
    assert answer.status_code == fields["status"]
    fields = fields | {"route": "/{how}", "request_id": answer.headers["x-request-id"]}
    assert line.levelno == level
    assert fields.items() <= vars(line).items()
    message = line.getMessage()
    assert all(str(field) in message for field in fields.values()), "the text line says the same"


def test_the_cause_of_a_500_is_in_the_log_and_nowhere_else(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    [line], [answer] = lines_of(client, caplog, "/surprise")
    assert "expected" not in answer.text
    assert "ZeroDivisionError: nobody expected this" in logging.Formatter().format(line)


def test_other_errors_need_no_traceback(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    lines, _ = lines_of(client, caplog, "/absent", "/overloaded")
    assert [line.exc_info for line in lines] == [None, None]


def test_the_line_of_an_error_repeats_nothing_that_its_message_may_quote(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    [line], [answer] = lines_of(client, caplog, "/absent")
    assert "written-by-a-caller" in answer.text
    assert "written-by-a-caller" not in f"{line.getMessage()} {vars(line)}"


def test_a_success_is_logged_at_debug_alone(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    assert lines_of(client, caplog, "/none")[0] == []
    [line], [answer] = lines_of(client, caplog, "/none", level=logging.DEBUG)
    assert line.levelno == logging.DEBUG
    assert f"/{{how}}: 200 ok after {vars(line)['duration_ms']} ms" in line.getMessage()
    assert vars(line)["request_id"] == answer.headers["x-request-id"]


def logged(log_format: str, level: str, statements: str) -> list[str]:
    """The lines of a fresh process that configures its log and does `statements`."""
    program = (
        f"import logging\nfrom service import logs\nlogs.configure({level!r}, {log_format!r})\n{statements}"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


RAISE = """
try:
    1 / 0
except ZeroDivisionError as error:
    logs.answered("/predict", 500, "the-id", 0.0123, error)
"""


def test_in_json_an_error_with_its_traceback_is_one_line() -> None:
    [line] = logged("json", "info", RAISE)
    document = json.loads(line)
    expected = {
        "level": "ERROR",
        "logger": "service.access",
        "route": "/predict",
        "status": 500,
        "code": "internal",
        "duration_ms": 12.3,
        "request_id": "the-id",
    }
    assert expected.items() <= document.items()
    assert document["exc_info"].endswith("ZeroDivisionError: division by zero")
    assert document["timestamp"].endswith("+00:00")


def test_in_text_a_line_begins_with_time_level_and_process() -> None:
    first, *traceback = logged("text", "info", RAISE)
    _, level, process, logger, *_ = first.split()
    assert (level, logger) == ("ERROR", "service.access:")
    assert process.strip("[]").isdigit()
    assert "request the-id" in first
    assert traceback[-1] == "ZeroDivisionError: division by zero"


def test_the_level_holds_for_the_service_and_others_are_heard_from_warning_on() -> None:
    statements = "\n".join(
        f"logging.getLogger({name!r}).{level}('{name} {level}')"
        for name in ("service.app", "bentoml.serve", "opentelemetry")
        for level in ("debug", "info", "warning")
    )
    messages = [json.loads(line)["message"] for line in logged("json", "debug", statements)]
    assert messages == [
        "service.app debug",
        "service.app info",
        "service.app warning",
        "bentoml.serve warning",
        "opentelemetry warning",
    ]


def picture(noise: int) -> bytes:
    """A picture of noise, so that no part of its bytes is anywhere else by chance."""
    out = io.BytesIO()
    pixels = np.random.default_rng(noise).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_a_real_server_logs_json_from_its_first_line_and_never_what_was_sent(
    start_server: StartServer, tiny_models: Path
) -> None:
    server = start_server(models_dir=tiny_models, log_format="json", log_level="debug")
    body, secret = picture(1), "name-of-a-person"
    encoded = base64.b64encode(body).decode()
    tensor: dict[str, Any] = {"name": secret, "datatype": "BYTES", "shape": [1], "data": [encoded]}
    with httpx2.Client(base_url=server.url) as http:
        answers = [
            http.post("/predict?canonical=never", files={"image": (f"{secret}.png", body)}),
            http.post("/predict", files={secret: (f"{secret}.png", body[:100])}),
            http.post("/predict", json={"images": [encoded, encoded[:-7]]}),
            http.post(f"/predict?model={secret}", content=body),
            http.post("/v2/models/mnist-cnn/infer", json={"inputs": [tensor]}),
            http.post("/v2/models/mnist-cnn/infer", content=body),
            http.get(f"/{secret}/forged"),
        ]
    server.stop()
    log = server.log.read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    by_request = {line["request_id"]: line for line in lines if "request_id" in line}
    for answer in answers:
        assert by_request[answer.headers["x-request-id"]]["status"] == answer.status_code
    assert len([line for line in lines if "request_id" in line]) >= len(answers)
    assert {line["level"] for line in lines} <= {"DEBUG", "INFO"}, "these errors are the callers' own"
    assert secret not in log
    assert "forged" not in log
    chunks = [encoded[i : i + 24] for i in range(0, len(encoded) - 24, 24)]
    assert not [chunk for chunk in chunks if chunk in log]
    assert repr(body[60:70])[2:-1] not in log
