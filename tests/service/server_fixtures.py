"""Folders with a tiny artifact each, and real servers on free ports; conftest files import them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from real_server import Server, StartServer
from tiny import write_artifact


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `mnist-cnn` answers the first pixel modulo ten."""
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder, "mnist-cnn")
    return folder


@pytest.fixture(scope="session")
def slow_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network, made to cost about a millisecond an image."""
    folder = tmp_path_factory.mktemp("slow-models")
    write_artifact(folder, "mnist-cnn", slow_layers=40)
    return folder


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts ready servers with the given settings, and stops them after the module."""
    servers: list[Server] = []

    def start(**settings: object) -> Server:
        server = Server(tmp_path_factory.mktemp("server") / "log", **settings)
        servers.append(server)
        server.wait_until_ready()
        return server

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.terminate()
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def tiny_server(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[Server]:
    """A server of `tiny_models` as the settings are by default, for all tests that leave it as it is."""
    server = Server(tmp_path_factory.mktemp("server") / "log", models_dir=tiny_models)
    server.wait_until_ready()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def crowded_server(tmp_path_factory: pytest.TempPathFactory, slow_models: Path) -> Iterator[Server]:
    """A server of `slow_models` with room for 256 images, for all tests that leave it as it is."""
    server = Server(tmp_path_factory.mktemp("server") / "log", models_dir=slow_models, max_queue=256)
    server.wait_until_ready()
    yield server
    server.stop()
