"""Workers that die, end or hang, and replicas that are replaced, while people keep asking."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from callers import PREDICT, RIGHT, Callers, connect_until_refused
from real_server import ROOT, Server, StartServer, free_port
from tiny import NEVER_ENDS, THROWS, trap, write_artifact

NGINX = ROOT / "service" / "deploy" / "nginx" / "digitserve.conf"
RequireProgram = Callable[[str], Path]


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> float:
    """Seconds until `condition` holds; asking the server is the only way to know."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s, what
    return time.monotonic() - started


# kill -9


@pytest.mark.reliability
@pytest.mark.parametrize("containerized", [False, True], ids=["bare", "in-bentomls-image"])
def test_a_killed_worker_loses_its_own_requests_alone_and_comes_back(
    start_server: StartServer, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, *, containerized: bool
) -> None:
    if containerized:
        monkeypatch.setenv("BENTOML_CONTAINERIZED", "true")
    server = start_server(models_dir=tiny_models, workers=2)
    victim, survivor = server.workers()
    with Callers(server.port, 8) as callers:
        callers.wait_for_more(200)
        victim.kill()
        callers.wait_for_more(200)
        seconds = wait_until(lambda: len(server.workers()) == 2, 60, "the worker never came back")
        newcomer = (set(server.workers()) - {survivor}).pop()
        wait_until(lambda: f"[{newcomer.pid}] service.repository: serving" in server.log.read_text(), 60, "")
        callers.wait_for_more(200)
    lost = {outcome: n for outcome, n in callers.outcomes.items() if outcome != RIGHT}
    print(f"killed: {sum(lost.values())} of {callers.outcomes.total()} lost, replaced after {seconds:.1f} s")
    assert sum(lost.values()) <= 8, "at most the one request that each connection had on its way"
    assert all(outcome.startswith("lost: ") for outcome in lost), lost
    assert survivor.is_running()


# SIGTERM


@pytest.mark.reliability
def test_a_worker_that_is_told_to_end_alone_fails_nobody_and_is_replaced(
    start_server: StartServer, tiny_models: Path
) -> None:
    server = start_server(models_dir=tiny_models, workers=2)
    told, _ = server.workers()
    with Callers(server.port, 8) as callers:
        callers.wait_for_more(200)
        told.terminate()
        told.wait(timeout=30)
        wait_until(lambda: len(server.workers()) == 2, 60, "the worker never came back")
        callers.wait_for_more(200)
    assert set(callers.outcomes) == {RIGHT}


@pytest.mark.reliability
def test_the_only_worker_may_be_told_to_end_and_is_replaced(
    start_server: StartServer, tiny_models: Path
) -> None:
    server = start_server(models_dir=tiny_models)
    [told] = server.workers()
    told.terminate()
    told.wait(timeout=30)
    wait_until(lambda: server.workers() not in ([], [told]), 60, "the worker never came back")
    server.wait_until_ready()


@pytest.mark.reliability
@pytest.mark.parametrize("attempt", range(3))
@pytest.mark.parametrize("workers", [1, 3])
def test_at_sigterm_no_accepted_connection_is_reset(
    tmp_path: Path, tiny_models: Path, workers: int, attempt: int
) -> None:
    """Each request comes on a new connection, so the listening socket's queue is never empty for long."""
    server = Server(tmp_path / "log", models_dir=tiny_models, workers=workers)
    server.wait_until_ready()
    wait_until(lambda: server.log.read_text().count("serving mnist-cnn") == workers, 60, "too few workers")
    outcomes = asyncio.run(connect_until_refused(server.port, 16, after_200=server.terminate))
    assert server.process.wait(timeout=30) == 0
    assert set(outcomes) == {RIGHT}


# Replicas behind nginx


@pytest.fixture
def replicas(tmp_path: Path, tiny_models: Path) -> Iterator[list[Server]]:
    found = [Server(tmp_path / f"replica{n}", models_dir=tiny_models) for n in (1, 2)]
    for replica in found:
        replica.wait_until_ready()
    yield found
    for replica in found:
        replica.stop()


@pytest.fixture
def nginx(tmp_path: Path, replicas: list[Server], require_program: RequireProgram) -> Iterator[int]:
    """nginx with the configuration that we ship; yields its port."""
    port = free_port()
    shipped = NGINX.read_text().replace("127.0.0.1:3000", f"127.0.0.1:{port}")
    for n, replica in enumerate(replicas, 1):
        shipped = shipped.replace(f"127.0.0.1:300{n}", f"127.0.0.1:{replica.port}")
    paths = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi"))
    paths += " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("uwsgi", "scgi"))
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/nginx.pid; worker_processes 1; daemon off; error_log {tmp_path}/nginx.log info;\n"
        f"events {{}}\nhttp {{ access_log off; {paths}\n{shipped}\n}}\n"
    )
    command = [str(require_program("nginx")), "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until(lambda: answers(port), 30, "nginx never answered")
    yield port
    process.terminate()
    process.wait(timeout=30)


def answers(port: int) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(f"http://127.0.0.1:{port}/livez").status_code == 200
    return False


@pytest.mark.reliability
def test_a_rolling_restart_behind_nginx_fails_not_one_request_of_10_000(
    tmp_path: Path, tiny_models: Path, replicas: list[Server], nginx: int
) -> None:
    with Callers(nginx, 8) as callers:
        for n, old in enumerate(replicas):
            callers.wait_for_more(500)
            old.terminate()
            assert old.process.wait(timeout=30) == 0
            replicas[n] = Server(tmp_path / f"new{n}", port=old.port, models_dir=tiny_models)
            replicas[n].wait_until_ready()
        callers.wait_for(lambda outcomes: outcomes.total() >= 10_000, within_s=300)
    slowest = max(callers.latencies_s)
    print(f"rolling restart: {callers.outcomes}, the slowest {slowest:.2f} s")
    assert set(callers.outcomes) == {RIGHT}


@pytest.mark.reliability
def test_a_replica_that_is_killed_behind_nginx_fails_no_request(replicas: list[Server], nginx: int) -> None:
    with Callers(nginx, 8) as callers:
        callers.wait_for_more(500)
        replicas[0].kill()
        callers.wait_for_more(1_000)
    assert set(callers.outcomes) == {RIGHT}


# Inference that fails or hangs


@pytest.fixture(scope="module")
def trap_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trap-models")
    write_artifact(folder, "mnist-cnn", slow_layers=20, traps=True)
    return folder


def test_a_session_that_throws_on_a_batch_fails_the_culprit_alone(
    start_server: StartServer, trap_models: Path
) -> None:
    server = start_server(models_dir=trap_models)
    with Callers(server.port, 8) as callers:
        for _ in range(20):
            culprit = httpx2.post(server.url + PREDICT, content=trap(THROWS), timeout=30)
            assert (culprit.status_code, culprit.json()["error"]["code"]) == (500, "inference_failed")
    assert set(callers.outcomes) == {RIGHT}
    assert "inference failed on a batch" in server.log.read_text(), "some shared a batch with the culprit"


@pytest.mark.reliability
def test_when_inference_is_stuck_livez_fails_whichever_worker_is_asked(
    tmp_path: Path, trap_models: Path
) -> None:
    server = Server(tmp_path / "log", models_dir=trap_models, workers=2, stuck_ms=1_000, timeout_ms=500)
    try:
        server.wait_until_ready()
        assert httpx2.get(f"{server.url}/livez").status_code == 200
        stuck = httpx2.post(server.url + PREDICT, content=trap(NEVER_ENDS), timeout=30)
        assert stuck.status_code == 504
        seconds = wait_until(lambda: httpx2.get(f"{server.url}/livez").status_code != 200, 30, "it lives on")
        print(f"stuck: /livez fails after {seconds:.1f} s")
        statuses = {httpx2.get(f"{server.url}/livez").status_code for _ in range(20)}
        assert statuses == {503}
        assert "this worker does not live" in server.log.read_text()
    finally:
        server.kill()  # a worker that hangs does not end by itself
