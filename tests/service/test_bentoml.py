"""What BentoML's users do: serve by import path, build a bento, serve that, make an image of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import yaml
from packaging.requirements import Requirement
from real_server import ROOT, Server
from tiny import picture

MODELS = sorted(path.stem for path in (ROOT / "models").glob("*.onnx"))


class BentoServer(Server):
    """`bentoml serve` in a process of its own."""

    def __init__(self, folder: Path, served: str, port: int, **variables: str) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bentoml", "serve", served],
                cwd=folder if ":" in served and "." not in served else ROOT,
                env={**os.environ, "BENTOML_DO_NOT_TRACK": "true", **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
            )


Start = Callable[..., BentoServer]


@pytest.fixture
def start(tmp_path: Path, free_tcp_port: int) -> Iterator[Start]:
    """Starts one ready server on a free port."""
    servers: list[BentoServer] = []

    def start(served: str, *, config: dict[str, Any] | None = None, **variables: str) -> BentoServer:
        if config is not None:
            (tmp_path / "bentoml.yaml").write_text(yaml.safe_dump({"services": {"digitserve": config}}))
            variables["BENTOML_CONFIG"] = str(tmp_path / "bentoml.yaml")
        servers.append(BentoServer(tmp_path, served, free_tcp_port, **variables))
        servers[0].wait_until_ready()
        return servers[0]

    yield start
    for server in servers:
        server.stop()


def predict(server: Server, **query: str) -> str:
    response = httpx2.post(f"{server.url}/predict", params=query, files={"image": picture(7)}, timeout=30)
    assert response.status_code == 200, response.text
    return str(response.json()["predictions"][0]["label"])


def workers(server: Server) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "_bentoml_impl.worker.service" in child.cmdline()]


# Serving by import path


def test_the_service_is_served_by_its_import_path_with_our_settings(
    start: Start, free_tcp_port: int, tiny_models: Path
) -> None:
    server = start(
        "service.app:DigitServe", BENTOML_PORT=str(free_tcp_port), DIGITSERVE_MODELS_DIR=str(tiny_models)
    )
    assert predict(server, canonical="never") == "7"


def test_bentomls_configuration_sets_port_workers_and_timeout(
    start: Start, free_tcp_port: int, slow_models: Path
) -> None:
    config = {
        "http": {"port": free_tcp_port, "host": "127.0.0.1"},
        "workers": 2,
        "traffic": {"timeout": 0.02},
    }
    server = start("service.app:DigitServe", config=config, DIGITSERVE_MODELS_DIR=str(slow_models))
    assert len(workers(server)) == 2
    assert {worker.environ()["DIGITSERVE_WORKERS"] for worker in workers(server)} == {"2"}, (
        "a worker knows how many share its cores and its socket"
    )
    forms = [("image", ("a.png", picture(7)))] * 200
    late = httpx2.post(f"{server.url}/predict?canonical=never", files=forms, timeout=30)
    assert late.status_code == 504


# The bento


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BentoML's home with one bento in its store, built as people build it."""
    home = tmp_path_factory.mktemp("bentoml")
    # Without a package index and without git: a build only packs.
    environment = {
        **os.environ,
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "true",
        "PIP_NO_INDEX": "1",
        "UV_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "bentoml", "build", "--output", "tag"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^__tag__:digitserve:\w+$", done.stdout, re.MULTILINE)
    return home


@pytest.fixture(scope="module")
def bento(store: Path) -> Path:
    [folder] = [path for path in (store / "bentos" / "digitserve").iterdir() if path.is_dir()]
    return folder


def test_a_bento_holds_the_service_its_models_and_the_versions_alone(bento: Path) -> None:
    files = {path.relative_to(bento / "src") for path in (bento / "src").rglob("*") if path.is_file()}
    assert {path.parts[0] for path in files} == {"service", "models", "constraints.txt", "bentofile.yaml"}
    assert {path.name for path in files if path.parts[0] == "models"} == {
        f"{name}{kind}" for name in MODELS for kind in (".onnx", ".golden.npz")
    }
    ours = {path.relative_to(ROOT) for path in (ROOT / "service").rglob("*") if path.is_file()}
    left_out = {
        path for path in ours if {"deploy", "plots", "PERFORMANCE.md", "__pycache__"} & set(path.parts)
    }
    assert {path for path in files if path.parts[0] == "service"} == ours - left_out


def test_a_bento_asks_for_the_serving_dependencies_in_our_versions(bento: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (bento / "env" / "python" / "requirements.txt").read_text().splitlines()
    asked = {Requirement(line).name for line in lines}
    assert asked == {Requirement(line).name for line in project["dependencies"]}
    assert asked.isdisjoint({"torch", "pytest"})
    assert (bento / "src" / "constraints.txt").read_text() == (ROOT / "constraints.txt").read_text()
    assert f"bentoml=={metadata.version('bentoml')}" in lines


def test_the_generated_dockerfile_installs_no_version_but_ours(bento: Path) -> None:
    lines = [line for line in (bento / "env" / "docker" / "Dockerfile").read_text().splitlines() if line]

    def position(pattern: str) -> int:
        [found] = [n for n, line in enumerate(lines) if re.search(pattern, line)]
        return found

    assert lines[position("^FROM")] == "FROM docker.io/library/python:3.11-slim AS base-container"
    home = re.search(r"=(.*)", lines[position("^ARG BENTO_PATH")])
    assert home is not None
    assert lines[position("^ARG UV_CONSTRAINT")] == f"ARG UV_CONSTRAINT={home[1]}/src/constraints.txt"
    before, copied = position("^ENV UV_CONSTRAINT"), position(r"^COPY .* \./src/constraints\.txt")
    assert before < copied < position(r"uv .*pip install -r .*requirements\.txt")
    assert position("^USER bentoml") < position("^ENTRYPOINT")
    assert not [line for line in lines if "apt-get" in line]


def test_a_bento_is_served_from_the_store(start: Start, store: Path, free_tcp_port: int) -> None:
    server = start("digitserve:latest", BENTOML_HOME=str(store), BENTOML_PORT=str(free_tcp_port))
    served = httpx2.get(f"{server.url}/models").json()
    assert [model["name"] for model in served["models"]] == MODELS
    assert predict(server)
    [worker] = workers(server)
    assert Path(worker.cwd()).is_relative_to(store), "it runs on its own files, not on ours"
