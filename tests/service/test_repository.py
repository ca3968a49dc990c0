"""A repository follows its folder: what is new is served, what is gone let go, what is broken refused."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tiny import golden_images, write_artifact

import service.repository
from service.artifacts import Classifier
from service.errors import ArtifactRejected, ModelNotFound
from service.repository import Repository, load_all
from service.settings import Settings


def repository(folder: Path, **settings: Any) -> Repository:
    found = Repository(Settings(models_dir=folder, **settings))
    found.open()
    return found


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def states(models: Repository) -> dict[str, tuple[bool, str]]:
    return {entry.name: (entry.version is not None, entry.reason) for entry in models.index()}


def test_everything_in_the_folder_is_served_unless_models_are_named(tmp_path: Path) -> None:
    for name in ("mnist-cnn", "second", "third"):
        write_artifact(tmp_path, name)
    assert repository(tmp_path).names() == ["mnist-cnn", "second", "third"]
    assert repository(tmp_path, models=("second",)).names() == ["mnist-cnn", "second"]
    assert repository(tmp_path, models="second", default_model="second").names() == ["second"]


def test_a_missing_or_broken_default_model_stops_the_start(tmp_path: Path) -> None:
    write_artifact(tmp_path, "second")
    with pytest.raises(ArtifactRejected, match="mnist-cnn: The file cannot be read"):
        repository(tmp_path)
    write_artifact(tmp_path, "mnist-cnn", temperature="0")
    with pytest.raises(ArtifactRejected, match="temperature"):
        repository(tmp_path)


def test_another_broken_artifact_is_left_out_and_a_named_one_stops_the_start(tmp_path: Path) -> None:
    write_artifact(tmp_path, "mnist-cnn")
    write_artifact(tmp_path, "second", temperature="0")
    assert list(load_all(Settings(models_dir=tmp_path))) == ["mnist-cnn"]
    with pytest.raises(ArtifactRejected):
        repository(tmp_path, models="second")


def test_a_new_artifact_is_served_and_a_removed_one_let_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        write_artifact(tmp_path, "mnist-cnn")
        models = repository(tmp_path)
        write_artifact(tmp_path, "second")
        await models.refresh()
        assert models.names() == ["mnist-cnn", "second"]
        (tmp_path / "second.onnx").unlink()
        await models.refresh()
        assert models.names() == ["mnist-cnn"]
        with pytest.raises(ModelNotFound):
            models.get("second")
        write_artifact(tmp_path, "second", temperature="2.0")
        await models.refresh()
        assert models.names() == ["mnist-cnn", "second"]
        await models.close()

    run(scenario)


def test_a_changed_artifact_replaces_the_old_one_while_that_answers_what_it_has(tmp_path: Path) -> None:
    async def scenario() -> None:
        write_artifact(tmp_path, "mnist-cnn")
        models = repository(tmp_path)
        old = models.get("mnist-cnn")
        waiting = asyncio.create_task(old.batcher.submit(golden_images(), timeout_s=30))
        await asyncio.sleep(0)
        write_artifact(tmp_path, "mnist-cnn", temperature="2.0")
        await models.refresh()
        new = models.get("mnist-cnn")
        assert new.classifier.version != old.classifier.version
        assert len((await waiting).outputs[0]) == 16
        late = await old.batcher.submit(golden_images(), timeout_s=30)
        assert len(late.outputs[0]) == 16, "whoever was reading a picture when it was replaced"
        await models.refresh()
        assert models.get("mnist-cnn") is new
        await models.close()

    run(scenario)


def test_a_replaced_model_goes_with_the_last_request_that_has_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        write_artifact(tmp_path, "mnist-cnn")
        models = repository(tmp_path)
        old = models.get("mnist-cnn")
        batcher = weakref.ref(old.batcher)
        await old.batcher.submit(golden_images(), timeout_s=30)
        write_artifact(tmp_path, "mnist-cnn", temperature="2.0")
        await models.refresh()
        assert batcher() is old.batcher
        del old
        assert batcher() is None, "nothing waits for the collector, which runs rarely"
        await models.close()

    run(scenario)


def test_a_broken_change_is_refused_once_and_the_old_model_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        path = write_artifact(tmp_path, "mnist-cnn")
        models = repository(tmp_path)
        old = models.get("mnist-cnn")
        path.write_bytes(path.read_bytes()[:-300])
        await models.refresh()
        await models.refresh()
        assert models.get("mnist-cnn") is old
        served, reason = states(models)["mnist-cnn"]
        assert served
        assert "ONNX Runtime" in reason
        assert [record.levelname for record in caplog.records].count("ERROR") == 1
        write_artifact(tmp_path, "mnist-cnn", temperature="2.0")
        await models.refresh()
        assert models.get("mnist-cnn") is not old
        assert states(models)["mnist-cnn"] == (True, "")
        await models.close()

    run(scenario)


def test_a_default_model_whose_files_vanish_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = write_artifact(tmp_path, "mnist-cnn")
        models = repository(tmp_path)
        old = models.get("mnist-cnn")
        path.unlink()
        path.with_suffix(".golden.npz").unlink()
        await models.refresh()
        assert models.get("mnist-cnn") is old
        assert states(models)["mnist-cnn"] == (
            True,
            "mnist-cnn: The file cannot be read: No such file or directory.",
        )
        await models.close()

    run(scenario)


def test_an_unloaded_model_stays_away_until_it_is_loaded(tmp_path: Path) -> None:
    async def scenario() -> None:
        write_artifact(tmp_path, "mnist-cnn")
        write_artifact(tmp_path, "second")
        models = repository(tmp_path)
        models.unload("second")
        await models.refresh()
        assert models.names() == ["mnist-cnn"]
        assert states(models)["second"] == (False, "unloaded")
        await models.load("second")
        assert models.names() == ["mnist-cnn", "second"]
        await models.close()

    run(scenario)


def test_what_changes_while_the_service_starts_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_all(settings: Settings) -> dict[str, Classifier]:
        loaded = real(settings)
        write_artifact(tmp_path, "mnist-cnn", temperature="2.0")
        return loaded

    async def scenario() -> None:
        write_artifact(tmp_path, "mnist-cnn")
        models = repository(tmp_path)
        before = models.get("mnist-cnn").classifier.version
        await models.refresh()
        assert models.get("mnist-cnn").classifier.version != before
        await models.close()

    real = service.repository.load_all
    monkeypatch.setattr("service.repository.load_all", load_all)
    run(scenario)


def test_following_survives_a_look_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where no descriptors are left, or somebody removes what was loaded by hand before the next look."""

    async def scenario() -> None:
        write_artifact(tmp_path, "mnist-cnn")
        models = repository(tmp_path)
        write_artifact(tmp_path, "second")
        await models.load("second")
        (tmp_path / "second.onnx").unlink()
        looks = iter((OSError(24, "Too many open files"),))
        real = Settings.model_names

        def model_names(settings: Settings) -> list[str]:
            for error in looks:
                raise error
            return real(settings)

        monkeypatch.setattr(Settings, "model_names", model_names)
        following = asyncio.create_task(models.follow(0.001))
        async with asyncio.timeout(30):
            while "second" in models.names():  # noqa: ASYNC110 - the repository has no event to wait for
                await asyncio.sleep(0)
        assert not following.done()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await models.close()

    run(scenario)
    assert "cannot follow the folder of models" in caplog.text


def test_following_goes_on_until_it_is_cancelled(tmp_path: Path) -> None:
    async def scenario() -> None:
        write_artifact(tmp_path, "mnist-cnn")
        models = repository(tmp_path)
        following = asyncio.create_task(models.follow(0.001))
        write_artifact(tmp_path, "second")
        async with asyncio.timeout(30):
            while "second" not in models.names():  # noqa: ASYNC110 - the repository has no event to wait for
                await asyncio.sleep(0)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert following.cancelled()
        await models.close()

    run(scenario)
