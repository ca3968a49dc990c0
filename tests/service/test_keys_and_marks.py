"""Keys by their hashes, marks between workers, and a worker that says that it hangs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from service import liveness, marks
from service.access import Keys, new_key
from service.app import cross_origin
from service.errors import KeysRejected, Unauthorized


def bearing(key: str) -> Headers:
    return Headers({"authorization": f"Bearer {key}"})


def test_a_key_is_known_by_its_hash_alone(tmp_path: Path) -> None:
    key, line = new_key("alice\n of sales")
    assert key not in line
    assert line.endswith(" alice of sales")
    file = tmp_path / "keys"
    file.write_text(f"# a comment\n\n{line}\n")
    keys = Keys(file)
    with pytest.raises(Unauthorized, match="not known"):
        Keys(tmp_path / "absent").check(bearing(key))
    keys.load()
    keys.check(bearing(key))
    keys.check(Headers({"x-api-key": key}))
    for headers in (Headers(), bearing(key + "x"), Headers({"authorization": f"Basic {key}"})):
        with pytest.raises(Unauthorized):
            keys.check(headers)


def test_a_change_of_the_file_counts_at_once_unless_it_is_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (first, line), (second, other) = new_key("a"), new_key("b")
    file = tmp_path / "keys"
    file.write_text(line)
    keys = Keys(file)
    keys.load()
    file.write_text("nonsense")
    keys.check(bearing(first))
    keys.check(bearing(first))
    assert caplog.text.count("stay as they were") == 1
    file.write_text(other)
    keys.check(bearing(second))
    with pytest.raises(Unauthorized):
        keys.check(bearing(first))
    file.unlink()
    keys.check(bearing(second))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "holds no key"), (b"sha256:12 a", "Line 1 of"), (b"\xff", "not UTF-8"), (None, "No such file")],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(KeysRejected, match=reason):
        Keys(file).load()


def test_without_a_file_everybody_may_ask() -> None:
    async def handler(_: Request) -> Response:
        return Response("yes")

    keys = Keys(None)
    keys.load()
    assert keys.guarded(handler) is handler


def test_with_one_a_handler_is_asked_by_callers_with_a_key_alone(tmp_path: Path) -> None:
    async def handler(_: Request) -> Response:
        return Response("yes")

    key, line = new_key("a")
    (tmp_path / "keys").write_text(line)
    keys = Keys(tmp_path / "keys")
    keys.load()
    guarded = keys.guarded(handler)
    scope = {"type": "http", "headers": [(b"x-api-key", key.encode())]}
    assert asyncio.run(guarded(Request(scope))).body == b"yes"  # type: ignore[arg-type]
    with pytest.raises(Unauthorized):
        asyncio.run(guarded(Request({"type": "http", "headers": []})))  # type: ignore[arg-type]


def test_listed_origins_are_let_in_by_starlettes_own_middleware() -> None:
    async def nothing(*_: object) -> None:
        """An application that answers nothing."""

    assert cross_origin(nothing, ["https://a.example"]) is not nothing


def test_marks_are_seen_by_all_workers_and_go_with_their_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks.leave("stuck")
    marks.remove("stuck")
    assert marks.count("stuck") == 0, "without a folder there are no others"
    monkeypatch.setenv("DIGITSERVE_METRICS_DIR", str(tmp_path))
    marks.leave("stuck")
    (tmp_path / "stuck.999999999").touch()
    assert marks.count("stuck") == 1
    assert not liveness.is_alive()
    marks.remove("stuck")
    marks.remove("stuck")
    assert liveness.is_alive()


class Busy:
    """A repository whose batch takes as long as it is told."""

    seconds = 0.0

    def computing_for_s(self) -> float:
        return self.seconds


def test_a_worker_is_marked_while_it_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DIGITSERVE_METRICS_DIR", str(tmp_path))
    monkeypatch.setattr(liveness, "LOOK_INTERVAL_S", 0.001)
    repository = Busy()

    async def scenario() -> None:
        watching = asyncio.create_task(liveness.watch(repository, 1.0))  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            repository.seconds = 2.0
            while liveness.is_alive():  # noqa: ASYNC110 - the watch has no event to wait for
                await asyncio.sleep(0.001)
            repository.seconds = 0.0
            while not liveness.is_alive():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.001)
        watching.cancel()

    asyncio.run(scenario())
    assert "does not live" in caplog.text
