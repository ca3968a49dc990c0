"""Settings that contradict each other are refused, and threads are those that this process may really use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from service import settings
from service.settings import Settings, usable_cores


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"max_queue": 10, "max_images": 11}, "max_queue (10) must hold one request of max_images (11)"),
        ({"model_control": True, "workers": 2}, "model_control reaches one worker, and workers is 2"),
        (
            {"max_pending_bytes": 10, "max_request_bytes": 11},
            "max_pending_bytes (10) must hold one request of max_request_bytes (11)",
        ),
        ({"open_metrics": False}, "api_keys_file must name the keys there are"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, int], says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**values)
    assert says in str(refused.value)


def test_lists_are_separated_by_commas_with_or_without_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITSERVE_MODELS", "one, two,,three ")
    assert Settings().models == ("one", "two", "three")
    assert Settings(models=("one", "two")).models == ("one", "two")


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        (None, 8),
        ("max 100000", 8),
        ("nonsense", 8),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
    ],
)
def test_a_containers_quota_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(settings, "CPU_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores() == cores


def test_workers_share_the_cores_unless_their_threads_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "usable_cores", lambda: 8)
    assert Settings().inference_threads() == 8
    assert Settings(workers=3).inference_threads() == 2
    assert Settings(workers=16).inference_threads() == 1
    assert Settings(workers=3, threads=5).inference_threads() == 5
