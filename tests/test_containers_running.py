"""What the serving image promises, built and run by a real engine; `make test-containers` asks for it.

Docker with Compose, or podman with podman-compose: the first that answers. The image holds the models of this
tree, so it takes minutes, and `make test` skips it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
COMPOSE_FILE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def find_compose() -> list[str] | None:
    """The command of an engine that answers, or None."""
    for compose, probe in (
        (["docker", "compose"], ["docker", "compose", "ls"]),
        (["podman-compose"], ["podman", "info"]),
    ):
        found = shutil.which(probe[0]) and shutil.which(compose[0])
        if found and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return compose
    return None


@dataclass
class Container:
    """The CPU service, brought up by Compose as a project of its own."""

    compose: list[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *arguments: str) -> str:
        """What `docker compose <arguments>` prints."""
        return subprocess.run(
            [*self.compose, "--project-name", "digitserve-test", *arguments],
            cwd=ROOT,
            env={**os.environ, "PORT": str(self.port)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    def python(self, program: str) -> Any:
        """What `program` prints as JSON inside the container."""
        return json.loads(self.run("exec", "-T", "serving", "python", "-c", program))

    def wait_until_ready(self, within_s: float = 120) -> None:
        give_up = time.monotonic() + within_s
        while time.monotonic() < give_up:
            try:
                urllib.request.urlopen(f"{self.url}/readyz", timeout=5).close()
            except OSError:
                time.sleep(0.1)  # of a container that starts, engines have no event in common
            else:
                return
        pytest.fail(f"not ready within {within_s} s:\n{self.run('logs', 'serving')}")


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """The serving image, built from this tree and run on a free port."""
    if "TEST_CONTAINERS" not in os.environ:
        pytest.skip("builds an image, which takes minutes: make test-containers")
    compose = find_compose()
    if compose is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)("needs Docker with Compose, or podman-compose")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    container = Container(compose, port)
    try:
        container.run("up", "--detach", "--build", "serving")
        container.wait_until_ready()
        yield container
    finally:
        container.run("down")


def test_the_published_port_answers_what_the_artifact_promises(container: Container) -> None:
    golden = np.load(ROOT / "models" / "mnist-cnn.golden.npz")
    version = hashlib.sha256((ROOT / "models" / "mnist-cnn.onnx").read_bytes()).hexdigest()[:12]
    labels = []
    for pixels in golden["images"][:10]:
        picture = io.BytesIO()
        Image.fromarray(pixels).save(picture, "PNG")
        request = urllib.request.Request(f"{container.url}/predict?canonical=never", picture.getvalue())
        with urllib.request.urlopen(request, timeout=10) as answer:
            answered = json.load(answer)
        assert answered["version"] == version, (
            "another server holds the port, or the image is of another tree"
        )
        labels.append(answered["predictions"][0]["index"])
    assert labels == golden["probabilities"][:10].argmax(axis=1).tolist()


def test_the_health_check_passes_inside_the_container(container: Container) -> None:
    container.run("exec", "-T", "serving", *COMPOSE_FILE["services"]["serving"]["healthcheck"]["test"][1:])


def test_the_process_is_nobody_special(container: Container) -> None:
    status = container.run("exec", "-T", "serving", "cat", "/proc/1/status")
    facts = dict(line.split(":\t") for line in status.splitlines())
    assert facts["Uid"] == "10001\t10001\t10001\t10001"
    assert {int(facts[key], 16) for key in ("CapPrm", "CapEff", "CapBnd")} == {0}
    assert facts["NoNewPrivs"] == "1"


def test_nothing_can_be_written_but_to_the_tmpfs(container: Container) -> None:
    program = (
        "import os, json; print(json.dumps([os.access(f, os.W_OK) for f in ('/', '/app', '/etc', '/tmp')]))"
    )
    assert container.python(program) == [False, False, False, True]
    options = {
        line.split()[1]: line.split()[3]
        for line in container.run("exec", "-T", "serving", "cat", "/proc/1/mounts").splitlines()
    }
    assert options["/"].split(",")[0] == "ro"


def test_the_image_has_neither_torch_nor_training_nor_tests(container: Container) -> None:
    program = (
        "import importlib.util, json; "
        "names = ('torch', 'onnx', 'pytest', 'training', 'tests', 'onnxruntime'); "
        "print(json.dumps([name for name in names if importlib.util.find_spec(name)]))"
    )
    assert container.python(program) == ["onnxruntime"]


def test_it_comes_down_within_ten_seconds(container: Container) -> None:
    started = time.monotonic()
    container.run("down")
    assert time.monotonic() - started < 10
