"""Artifacts that break or are replaced while being served: the old one goes on, or the new one takes over."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from callers import RIGHT, Callers
from real_server import Server, StartServer
from tiny import write_artifact

Fault = Callable[[Path, Path], None]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_artifact(tmp_path, "mnist-cnn")
    return tmp_path


@pytest.fixture
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server") / "log", models_dir=models)
    server.wait_until_ready()
    yield server
    server.stop()


def index(server: Server) -> dict[str, Any]:
    [entry] = httpx2.post(f"{server.url}/v2/repository/index").json()
    return dict(entry)


def wait_for(server: Server, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The index entry once it is as `condition` wants it; the folder is looked at every second."""
    give_up = time.monotonic() + 30
    while not condition(entry := index(server)):
        assert time.monotonic() < give_up, entry
    return entry


def replace(path: Path, content: bytes) -> None:
    """As a writer should: the new file under another name, then renamed."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)


def truncate(model: Path, _: Path) -> None:
    with model.open("r+b") as file:
        file.truncate(200)


def corrupt(model: Path, _: Path) -> None:
    content = bytearray(model.read_bytes())
    content[10:200] = bytes(190)
    replace(model, content)


def empty(model: Path, _: Path) -> None:
    model.write_bytes(b"")


def make_unreadable(model: Path, _: Path) -> None:
    """For everybody, root too."""
    model.unlink()
    model.mkdir()


def remove(model: Path, _: Path) -> None:
    model.unlink()


def swap(model: Path, elsewhere: Path) -> None:
    replace(model, write_artifact(elsewhere, "another").read_bytes())


def fail_golden(model: Path, elsewhere: Path) -> None:
    """Answers that differ from those in its own golden file."""
    golden = model.with_suffix(".golden.npz")
    with np.load(golden) as old:
        arrays = dict(old)
    arrays["probabilities"] = np.roll(arrays["probabilities"], 1, axis=1)
    np.savez(golden, **arrays)


def lose_golden(model: Path, _: Path) -> None:
    model.with_suffix(".golden.npz").unlink()


@pytest.mark.reliability
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (truncate, "ONNX Runtime cannot open"),
        (corrupt, "ONNX Runtime cannot open|Metadata"),
        (empty, "ONNX Runtime cannot open"),
        (make_unreadable, "cannot be read"),
        (remove, "cannot be read"),
        (swap, "names the recipe 'another'"),
        (fail_golden, "answers differ for golden images"),
        (lose_golden, "golden file .* cannot be read"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_model_that_breaks_while_it_is_served_goes_on_and_the_reason_is_told(
    server: Server, models: Path, tmp_path_factory: pytest.TempPathFactory, fault: Fault, reason: str
) -> None:
    version = index(server)["version"]
    kept = tmp_path_factory.mktemp("kept")
    shutil.copytree(models, kept, dirs_exist_ok=True)
    with Callers(server.port, 4) as callers:
        callers.wait_for_more(20)
        fault(models / "mnist-cnn.onnx", tmp_path_factory.mktemp("elsewhere"))
        entry = wait_for(server, lambda entry: entry["reason"] != "")
        callers.wait_for_more(20)
        mend(models, kept)
        wait_for(server, lambda entry: entry["reason"] == "")
        callers.wait_for_more(20)
    assert set(callers.outcomes) == {RIGHT}
    assert (entry["state"], entry["version"]) == ("READY", version)
    assert re.search(reason, entry["reason"])
    assert re.search(f"not served: mnist-cnn: .*({reason})", server.log.read_text())
    assert str(models) not in entry["reason"], "where the files lie is nobody's business"


def mend(models: Path, kept: Path) -> None:
    for name in ("mnist-cnn.golden.npz", "mnist-cnn.onnx"):
        if (models / name).is_dir():
            (models / name).rmdir()
        replace(models / name, (kept / name).read_bytes())


@pytest.mark.reliability
def test_a_good_model_takes_over_without_a_failed_request(
    start_server: StartServer, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Ten times in a row, in two workers: every answer is one version's or the other's, and right."""
    server = start_server(models_dir=models, workers=2)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with Callers(server.port, 8) as callers:
        for n in range(10):
            callers.wait_for_more(20)
            before = index(server)["version"]
            new = write_artifact(elsewhere, "mnist-cnn", temperature=str(1.5 + n))
            for name in ("mnist-cnn.golden.npz", "mnist-cnn.onnx"):
                replace(models / name, (new.parent / name).read_bytes())
            wait_for(server, lambda entry, before=before: entry["version"] != before)
    print(f"hot reload: ten versions under {callers.outcomes}")
    assert set(callers.outcomes) == {RIGHT}


@pytest.mark.reliability
def test_an_unreadable_file_is_refused_for_want_of_permission(
    start_server: StartServer, models: Path
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    server = start_server(models_dir=models)
    (models / "mnist-cnn.onnx").chmod(0)
    entry = wait_for(server, lambda entry: entry["reason"] != "")
    assert "Permission denied" in entry["reason"]
