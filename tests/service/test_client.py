"""The Python client, blocking and asynchronous alike, on real servers: ours, and one that plays a script."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from real_server import ROOT, Server, metric
from test_api import digits
from tiny import picture

from service import client as client_module
from service.client import (
    Answer,
    AsyncClient,
    Client,
    ClientError,
    ImageError,
    Prediction,
    Retries,
    Segments,
    ServiceRefused,
    ServiceUnreachable,
)

Ask = Callable[..., Any]


@pytest.fixture
def server(tiny_server: Server) -> Server:
    return tiny_server


@pytest.fixture(params=["blocking", "asynchronous"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Calls one method of a new client of either kind: `ask(url, "predict", …)`."""

    def blocking(url: str, method: str, *pictures: Any, options: Any = None, **query: Any) -> Any:
        with Client(url, **(options or {})) as client:
            return getattr(client, method)(*pictures, **query)

    def asynchronous(url: str, method: str, *pictures: Any, options: Any = None, **query: Any) -> Any:
        async def call() -> Any:
            async with AsyncClient(url, **(options or {})) as client:
                return await getattr(client, method)(*pictures, **query)

        return asyncio.run(call())

    return blocking if request.param == "blocking" else asynchronous


def labels(answer: Answer) -> list[str]:
    return [each.label if isinstance(each, Prediction) else each.code for each in answer.predictions]


def test_paths_bytes_and_open_files_are_answered_in_order(ask: Ask, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "seven.png"
    path.write_bytes(picture(7))
    pictures = [path, picture(1), io.BytesIO(picture(4)), str(path)]
    answer = ask(server.url, "predict", *pictures, canonical="never", top_k=2)
    assert labels(answer) == ["7", "1", "4", "7"]
    assert answer.model == "mnist-cnn"
    assert len(answer.version) == 12
    assert answer.request_id
    first = answer.predictions[0]
    assert first.index == 7
    assert [each.label for each in first.top] == ["7", "0"]
    assert first.top[0].probability == first.probability
    assert first.prediction_set == ("7",)
    assert first.in_distribution is True


def test_a_bad_picture_among_good_ones_has_its_error_in_its_place(ask: Ask, server: Server) -> None:
    answer = ask(server.url, "predict", picture(3), b"text", picture(5), canonical="never")
    assert labels(answer) == ["3", "unsupported_format", "5"]
    assert isinstance(answer.predictions[1], ImageError)
    assert answer.predictions[1].message


def test_a_refusal_carries_status_code_message_and_request_id(ask: Ask, server: Server) -> None:
    with pytest.raises(ServiceRefused, match="mnist-cnn") as caught:
        ask(server.url, "predict", picture(3), model="mnist-cn")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert caught.value.request_id
    assert caught.value.details == ()


def test_when_no_picture_can_be_read_details_tell_why_for_each(ask: Ask, server: Server) -> None:
    with pytest.raises(ServiceRefused) as caught:
        ask(server.url, "predict", b"text", picture(3)[:60])
    assert (caught.value.status, caught.value.code) == (422, "all_images_rejected")
    assert [each.code for each in caught.value.details] == ["unsupported_format", "undecodable_image"]


def test_every_digit_of_a_picture_comes_with_its_box_and_a_heat_map_if_asked_for(
    ask: Ask, server: Server
) -> None:
    answer = ask(server.url, "predict", digits("4", "2"), segments=True, explain=True)
    [entry] = answer.predictions
    assert isinstance(entry, Segments)
    boxes = [digit.box for digit in entry.segments]
    assert [box.x // 90 for box in boxes if box] == [0, 1]
    assert [len(digit.heat_map or b"") for digit in entry.segments] == [784, 784]


def test_no_picture_at_all_is_refused_by_the_service(ask: Ask, server: Server) -> None:
    with pytest.raises(ServiceRefused) as caught:
        ask(server.url, "predict")
    assert caught.value.status == 400


def test_a_file_that_is_not_there_is_an_os_error(ask: Ask, server: Server, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(server.url, "predict", tmp_path / "absent.png")


def test_models_are_listed_with_what_they_promise(ask: Ask, server: Server) -> None:
    listed = ask(server.url, "models")
    assert listed.default == "mnist-cnn"
    [model] = listed.models
    assert model.name == "mnist-cnn"
    assert model.labels == tuple("0123456789")
    assert model.test_accuracy == 0.5
    assert model.conformal_level == 0.99


def test_a_url_may_leave_out_its_scheme(ask: Ask, server: Server) -> None:
    assert ask(f"127.0.0.1:{server.port}", "ready") is True


def test_where_nothing_listens_the_service_is_unreachable_and_not_ready(ask: Ask, free_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{free_tcp_port}"
    assert ask(url, "ready") is False
    with pytest.raises(ServiceUnreachable, match=str(free_tcp_port)):
        ask(url, "models")


def test_callers_turned_away_by_a_full_queue_come_back_and_are_answered(crowded_server: Server) -> None:
    server = crowded_server
    turned_away = 'digitserve_requests_total{route="/predict",status="503"}'
    before = metric(server, turned_away)

    async def together() -> list[Answer]:
        async with AsyncClient(server.url, timeout_s=30, retries=Retries(times=8)) as client:
            calls = (client.predict(*[picture(n)] * 200, canonical="never") for n in range(3))
            return await asyncio.gather(*calls)

    answers = asyncio.run(together())
    assert [set(labels(answer)) for answer in answers] == [{"0"}, {"1"}, {"2"}]
    assert metric(server, turned_away) > before


# From here on the server plays a script, for what ours does rarely or never.

ANSWER = (
    b'{"model": "m", "version": "v", "predictions": [{"label": "7", "index": 7, "probability": 1.0,'
    b' "top": [], "prediction_set": null, "in_distribution": null, "something_newer": 1}]}'
)
BUSY = b'{"error": {"code": "overloaded", "message": "The queue is full.", "request_id": "r1"}}'
Reply = tuple[int, dict[str, str], bytes]


class Script(ThreadingHTTPServer):
    """Answers each request with the next reply; the last one is repeated."""

    daemon_threads = True

    def __init__(self, replies: list[Reply]) -> None:
        super().__init__(("127.0.0.1", 0), ScriptedHandler)
        self.replies = replies
        self.bodies: list[bytes] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class ScriptedHandler(BaseHTTPRequestHandler):
    server: Script

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers.get("content-length", 0))))
        position = min(len(self.server.bodies), len(self.server.replies)) - 1
        status, headers, body = self.server.replies[position]
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def playing(*replies: Reply) -> Iterator[Script]:
    with Script(list(replies)) as script:
        thread = Thread(target=script.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield script
        finally:
            script.shutdown()
            thread.join()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, which are recorded instead of slept through."""
    waited: list[float] = []

    async def record(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(client_module.time, "sleep", waited.append)
    monkeypatch.setattr(client_module.asyncio, "sleep", record)
    return waited


def busy(retry_after: str | None = "2") -> Reply:
    return 503, {} if retry_after is None else {"retry-after": retry_after}, BUSY


def test_a_503_is_tried_again_with_the_same_body_when_it_said(ask: Ask, waits: list[float]) -> None:
    with playing(busy("2"), busy("3"), (200, {}, ANSWER)) as script:
        answer = ask(script.url, "predict", io.BytesIO(picture(7)))
    assert labels(answer) == ["7"]
    assert len(script.bodies) == 3
    assert script.bodies == [script.bodies[0]] * 3
    assert picture(7) in script.bodies[0]
    assert 2 <= waits[0] <= 2.4
    assert 3 <= waits[1] <= 3.6


def test_retry_after_may_be_a_date(ask: Ask, waits: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=5), usegmt=True)
    with playing(busy(soon), (200, {}, ANSWER)) as script:
        assert labels(ask(script.url, "predict", b"x")) == ["7"]
    [waited] = waits
    assert 2 < waited <= 6


@pytest.mark.parametrize("never", [busy(None), busy("11"), busy("later"), (500, {"retry-after": "1"}, BUSY)])
def test_what_does_not_say_to_come_back_soon_is_not_tried_again(
    ask: Ask, waits: list[float], never: Reply
) -> None:
    with playing(never) as script, pytest.raises(ServiceRefused, match="The queue is full"):
        ask(script.url, "predict", b"x")
    assert waits == []
    assert len(script.bodies) == 1


def test_tries_are_bounded(ask: Ask, waits: list[float]) -> None:
    with playing(busy("0")) as script, pytest.raises(ServiceRefused) as caught:
        ask(script.url, "predict", b"x", options={"retries": Retries(times=2)})
    assert (caught.value.status, caught.value.code) == (503, "overloaded")
    assert len(script.bodies) == 3
    assert waits == [0, 0]


def test_an_error_of_a_proxy_in_between_is_a_refusal_too(ask: Ask) -> None:
    with playing((502, {}, b"<html>Bad Gateway</html>")) as script, pytest.raises(ServiceRefused) as caught:
        ask(script.url, "predict", b"x")
    assert (caught.value.status, caught.value.message) == (502, "Bad Gateway")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"predictions": 1}', ANSWER[:-1]])
def test_an_answer_of_another_service_is_told_apart(ask: Ask, body: bytes) -> None:
    with playing((200, {}, body)) as script, pytest.raises(ServiceUnreachable, match="not this service"):
        ask(script.url, "predict", b"x")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"default": "a", "models": [{"name": "a"}]}'])
def test_a_list_of_models_of_another_service_is_told_apart(ask: Ask, body: bytes) -> None:
    with playing((200, {}, body)) as script, pytest.raises(ServiceUnreachable, match="not this service"):
        ask(script.url, "models")


def test_an_answer_that_cannot_be_unpacked_is_none(ask: Ask) -> None:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    with playing((200, headers, b"no gzip")) as script, pytest.raises(ServiceUnreachable):
        ask(script.url, "models")


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("http://localhost:abc", {}, "'http://localhost:abc' is no address"),
        ("localhost", {"api_key": "k€y"}, "letters that no key has"),
    ],
)
def test_what_cannot_be_asked_at_all_is_told_in_a_sentence(
    ask: Ask, url: str, options: dict[str, str], says: str
) -> None:
    with pytest.raises(ClientError, match=says):
        ask(url, "models", options=options)


def test_an_answer_that_takes_too_long_is_given_up(ask: Ask) -> None:
    given_up = Event()

    class Silent(ScriptedHandler):
        def do_POST(self) -> None:
            given_up.wait(30)

    with playing((200, {}, ANSWER)) as script:
        script.RequestHandlerClass = Silent
        with pytest.raises(ServiceUnreachable):
            ask(script.url, "predict", b"x", options={"timeout_s": 0.2})
        given_up.set()


def test_the_client_loads_nothing_that_serves_or_trains() -> None:
    heavy = "{'bentoml', 'onnxruntime', 'torch', 'numpy', 'PIL', 'cv2', 'starlette', 'pydantic'}"
    code = f"import sys, service.client; print(*{heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
