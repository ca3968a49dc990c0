"""Load: steady, too much, and unfair."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest
from callers import PREDICT, RIGHT, Callers
from real_server import Server, StartServer
from soak import faults, soak, table
from tiny import picture

SOAK_S = 120


@pytest.mark.reliability
def test_mixed_traffic_at_80_percent_of_capacity_neither_fails_nor_drifts(tmp_path: Path) -> None:
    server = Server(tmp_path / "log", workers=2)
    try:
        server.wait_until_ready()
        rate, parts = soak(server, SOAK_S)
    finally:
        server.stop()
    print(table(rate, parts))
    assert faults(parts) == []


def images(count: int) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", ("a.png", picture(5)))] * count


async def flood(server: Server, seconds: float) -> Counter[int]:
    """Far more than the server can do; counts the statuses."""
    statuses: Counter[int] = Counter()
    until = time.monotonic() + seconds
    limits = httpx2.Limits(max_connections=24)

    async with httpx2.AsyncClient(base_url=server.url, timeout=30, limits=limits) as client:

        async def ask_on() -> None:
            while time.monotonic() < until:
                statuses[(await client.post(PREDICT, files=images(64))).status_code] += 1

        await asyncio.gather(*(ask_on() for _ in range(24)))
    return statuses


@pytest.mark.reliability
def test_overload_is_shed_and_a_second_later_all_is_well(
    start_server: StartServer, slow_models: Path
) -> None:
    server = start_server(models_dir=slow_models, max_queue=256)
    statuses = asyncio.run(flood(server, 5))
    started = time.monotonic()
    answer = httpx2.post(server.url + PREDICT, content=picture(5), timeout=30)
    seconds = time.monotonic() - started
    print(f"overload: {dict(statuses)}; answered {seconds * 1000:.0f} ms after it ended")
    assert answer.status_code == 200
    assert seconds < 1
    assert set(statuses) == {200, 503}
    assert statuses[503] > 10


@pytest.mark.reliability
def test_a_caller_with_256_images_at_a_time_starves_nobody(
    start_server: StartServer, slow_models: Path
) -> None:
    server = start_server(models_dir=slow_models)
    with Callers(server.port, 4) as callers, httpx2.Client(base_url=server.url, timeout=30) as greedy:
        for _ in range(20):
            assert greedy.post(PREDICT, files=images(256)).status_code == 200
    slowest = max(callers.latencies_s)
    print(f"beside 256 images at a time: {callers.outcomes}, the slowest {slowest * 1000:.0f} ms")
    assert set(callers.outcomes) == {RIGHT}
    assert callers.outcomes[RIGHT] > 40
    assert slowest < 2
