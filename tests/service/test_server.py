"""What only a real server process can promise: shared batches, shedding, hang-ups, draining, workers."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest
from real_server import ROOT, Server, StartServer, metric
from tiny import picture, write_artifact

NEVER = "/predict?canonical=never"


def form(body: bytes, count: int = 1) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", ("a.png", body))] * count


async def post_all(server: Server, bodies: list[bytes], count: int = 1) -> list[httpx2.Response]:
    """Post every body at once, each on a connection of its own."""
    limits = httpx2.Limits(max_connections=len(bodies))
    async with httpx2.AsyncClient(base_url=server.url, timeout=30, limits=limits) as client:
        return await asyncio.gather(*(client.post(NEVER, files=form(body, count)) for body in bodies))


@pytest.fixture
def server(tiny_server: Server) -> Server:
    return tiny_server


def test_thirty_two_callers_share_batches_and_each_gets_its_own_answer(crowded_server: Server) -> None:
    server = crowded_server
    series = [f'digitserve_batch_images_{kind}{{model="mnist-cnn"}}' for kind in ("sum", "count")]
    before = [metric(server, each) for each in series]
    labels = [n % 10 for n in range(320)]
    responses = asyncio.run(post_all(server, [picture(label) for label in labels[:32]]))
    for _ in range(9):
        responses += asyncio.run(post_all(server, [picture(label) for label in labels[:32]]))
    assert [r.json()["predictions"][0]["label"] for r in responses] == [str(n) for n in labels[:32]] * 10
    computed, batches = (metric(server, each) - so_far for each, so_far in zip(series, before, strict=True))
    assert computed == 320
    assert batches < computed / 2, "callers that wait at the same time share batches"


def test_one_poison_picture_among_many_callers_fails_alone(server: Server) -> None:
    bodies = [picture(n % 10) for n in range(32)]
    bodies[13] = bodies[13][:50]
    responses = asyncio.run(post_all(server, bodies))
    assert [r.status_code for r in responses] == [422 if n == 13 else 200 for n in range(32)]
    labels = [r.json()["predictions"][0]["label"] for n, r in enumerate(responses) if n != 13]
    assert labels == [str(n % 10) for n in range(32) if n != 13]


def test_a_full_queue_answers_503_with_retry_after_and_recovers(crowded_server: Server) -> None:
    server = crowded_server
    responses = asyncio.run(post_all(server, [picture(5)] * 8, count=200))
    statuses = [response.status_code for response in responses]
    assert set(statuses) == {200, 503}
    for response in responses:
        if response.status_code == 503:
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["code"] == "overloaded"
        else:
            assert [p["label"] for p in response.json()["predictions"]] == ["5"] * 200
    assert asyncio.run(post_all(server, [picture(6)]))[0].status_code == 200


def test_past_the_deadline_a_request_gets_504_and_the_next_is_answered(
    start_server: StartServer, tmp_path: Path
) -> None:
    """One batch takes a quarter of the deadline, and all 256 images four times as long."""
    write_artifact(tmp_path, "mnist-cnn", slow_layers=800)
    server = start_server(models_dir=tmp_path, timeout_ms=600, max_batch=16)
    [late] = asyncio.run(post_all(server, [picture(5)], count=256))
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "deadline_exceeded"
    # On a busy machine the deadline may pass while the last pictures are still being read.
    dropped = 'digitserve_dropped_images_total{model="mnist-cnn",reason="%s"}'
    assert sum(metric(server, dropped % reason) for reason in ("expired", "cancelled")) > 0
    assert asyncio.run(post_all(server, [picture(6)]))[0].status_code == 200


def test_a_caller_that_hangs_up_is_not_computed(start_server: StartServer, tmp_path: Path) -> None:
    write_artifact(tmp_path, "mnist-cnn", slow_layers=400)  # 256 images take a second
    server = start_server(models_dir=tmp_path, max_batch=16)
    dropped = 'digitserve_dropped_images_total{model="mnist-cnn",reason="caller_gone"}'
    request = httpx2.Request("POST", f"{server.url}{NEVER}", files=form(picture(5), 256))
    head = b"".join(b"%s: %s\r\n" % header for header in request.headers.raw)
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        caller.sendall(f"POST {NEVER} HTTP/1.1\r\n".encode() + head + b"\r\n" + request.read())
        # The rest of the 256 images still waits when this one, behind them in the queue, is being answered.
        while metric(server, 'digitserve_batch_images_count{model="mnist-cnn"}') < 1:
            pass
    assert asyncio.run(post_all(server, [picture(6)]))[0].status_code == 200
    assert metric(server, dropped) > 0
    computed = metric(server, 'digitserve_batch_images_sum{model="mnist-cnn"}')
    assert computed + metric(server, dropped) == 257


def test_a_50_mb_body_is_refused_and_the_answer_arrives(server: Server) -> None:
    response = httpx2.post(f"{server.url}/predict", content=bytes(50_000_000), timeout=30)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"
    chunks = (bytes(1_000_000) for _ in range(50))
    assert httpx2.post(f"{server.url}/predict", content=chunks, timeout=30).status_code == 413


def test_bentomls_own_routes_tell_the_truth(server: Server) -> None:
    for path in ("/livez", "/readyz", "/", "/static_content/swagger-ui.css"):
        assert httpx2.get(f"{server.url}{path}").status_code == 200, path


def test_nothing_is_reported_to_bentomls_makers(server: Server) -> None:
    family = [
        psutil.Process(server.process.pid),
        *psutil.Process(server.process.pid).children(recursive=True),
    ]
    assert len(family) > 1
    told = [process.environ().get("BENTOML_DO_NOT_TRACK", "").lower() for process in server.workers()]
    assert told == ["true"], "and the supervisor, whose environment this is"
    remote = [c.raddr for p in family for c in p.net_connections() if c.raddr and c.raddr.ip != "127.0.0.1"]
    assert remote == []


def test_the_provider_is_in_the_log_and_in_models(server: Server) -> None:
    [model] = httpx2.get(f"{server.url}/models").json()["models"]
    assert f"on {model['provider']}" in server.log.read_text()


def test_workers_sets_the_worker_processes_and_metrics_cover_them_all(
    start_server: StartServer, tiny_models: Path
) -> None:
    server = start_server(models_dir=tiny_models, workers=2)
    commands = [" ".join(child.cmdline()) for child in psutil.Process(server.process.pid).children()]
    assert sum("_bentoml_impl.worker.service" in command for command in commands) == 2
    asyncio.run(post_all(server, [picture(1)] * 40))
    give_up = time.monotonic() + 10  # each worker counts ten times a second
    while metric(server, 'digitserve_requests_total{route="/predict",status="200"}') < 40:
        assert time.monotonic() < give_up


def test_after_sigterm_every_accepted_request_is_answered(
    start_server: StartServer, slow_models: Path
) -> None:
    server = start_server(models_dir=slow_models)

    def ask(_: int) -> list[str]:
        """Outcomes of requests, one after another, until the server accepts no more of them."""
        outcomes: list[str] = []
        with httpx2.Client(base_url=server.url, timeout=30) as client:
            for _ in range(10_000):
                try:
                    response = client.post(NEVER, files=form(picture(7), 8))
                except httpx2.ConnectError:
                    return outcomes
                except httpx2.TransportError as error:
                    return [*outcomes, f"accepted and lost: {error!r}"]
                labels = {p["label"] for p in response.json().get("predictions", [{"label": "none"}])}
                outcomes.append(f"{response.status_code} {labels}")
                if len(outcomes) == 20:
                    server.terminate()
        raise AssertionError("the server never stopped")

    with ThreadPoolExecutor(8) as pool:
        outcomes = [outcome for caller in pool.map(ask, range(8)) for outcome in caller]
    assert server.process.wait(timeout=30) == 0
    assert len(outcomes) >= 20
    assert set(outcomes) == {"200 {'7'}"}


def refused(*, largest_file_bytes: int = -1, **variables: str) -> subprocess.CompletedProcess[str]:
    """A start that fails, with what it said."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file_bytes, largest_file_bytes))

    environment = {**os.environ, **variables}
    command = [sys.executable, "-m", "service", "serve", "--port", "0"]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=limit,
    )


def test_a_worker_does_not_outlive_a_supervisor_that_was_killed(
    start_server: StartServer, tiny_models: Path
) -> None:
    server = start_server(models_dir=tiny_models)
    workers = server.workers()
    assert workers
    server.process.kill()
    server.process.wait(30)
    assert not psutil.wait_procs(workers, timeout=30)[1]


def test_a_bad_setting_or_a_missing_model_stops_the_start_with_a_sentence(tiny_models: Path) -> None:
    bad_setting = refused(DIGITSERVE_WORKERS="many")
    assert bad_setting.returncode != 0
    assert "DIGITSERVE_WORKERS" in bad_setting.stderr
    missing = refused(DIGITSERVE_MODELS_DIR=str(tiny_models), DIGITSERVE_DEFAULT_MODEL="absent")
    assert missing.returncode != 0
    assert "absent: The file cannot be read" in missing.stderr + missing.stdout
    assert "Traceback" not in missing.stderr


def test_where_the_workers_metrics_find_no_place_the_start_ends_with_a_sentence(tiny_models: Path) -> None:
    no_place = refused(largest_file_bytes=1_000_000, DIGITSERVE_MODELS_DIR=str(tiny_models))
    assert no_place.returncode != 0
    assert "The workers' metrics find no place: File too large." in no_place.stderr + no_place.stdout
    assert "Traceback" not in no_place.stderr


OF_ANOTHER_SERVER = """
import sys
from starlette.testclient import TestClient
from service.app import DigitServe

with TestClient(DigitServe.to_asgi()) as client:
    answer = client.post("/predict?canonical=never", content=sys.stdin.buffer.read())
    ready, metrics = client.get("/readyz"), client.get("/metrics")
print(answer.json()["predictions"][0]["label"], ready.status_code, metrics.status_code)
"""


def test_as_an_asgi_application_the_service_answers_under_any_other_server(tiny_models: Path) -> None:
    """Without uvicorn nothing bounds its connections; who runs it so has a server that does."""
    done = subprocess.run(
        [sys.executable, "-c", OF_ANOTHER_SERVER],
        cwd=ROOT,
        env={**os.environ, "DIGITSERVE_MODELS_DIR": str(tiny_models)},
        input=picture(7),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == [b"7", b"200", b"200"], done.stderr.decode()
