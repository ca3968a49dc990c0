"""The models that are served, by name: follows the folder of artifacts and gives each model its batcher."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service import artifacts
from service.artifacts import Classifier
from service.batching import Batcher
from service.errors import ArtifactRejected, ModelNotFound
from service.metrics import ModelMetrics
from service.settings import Settings

# What tells that an artifact on disk is another one: inode, size and time of change of its two files.
Signature = tuple[tuple[int, int, int], ...]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A classifier and the queue in front of it."""

    classifier: Classifier
    batcher: Batcher
    metrics: ModelMetrics


@dataclass(frozen=True)
class IndexEntry:
    """One artifact of the folder, served or not; `reason` says why it, or its newest version, is not."""

    name: str
    version: str | None
    reason: str


class Repository:
    """Every model that requests may name. Construction does nothing; `open` loads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models: dict[str, ServedModel] = {}
        self._refusals: dict[str, str] = {}
        self._signatures: dict[str, Signature] = {}
        self._unloaded: set[str] = set()
        self._changing = asyncio.Lock()

    def open(self) -> None:
        """Load what the settings ask for.

        An artifact that breaks the contract is logged and left out, unless it is one that must be served.

        Raises:
            ArtifactRejected: the default model, or one named in `models`, cannot be served.
        """
        names = self._settings.model_names()
        as_they_are = {name: _signature(self._settings.models_dir, name) for name in names}
        for name, classifier in load_all(self._settings).items():
            self._signatures[name] = as_they_are.get(name, ())  # what changes meanwhile is loaded again
            self._serve(classifier)

    async def follow(self, interval_s: float) -> None:
        """Keep to the folder for ever: load what is new or changed there, let go what is gone."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.refresh()
            except Exception:  # such as no descriptors left: another look may find better times
                log.exception("cannot follow the folder of models; what is served goes on")

    async def refresh(self) -> None:
        """Load every artifact that is new or has changed; a refused one leaves the old one in service."""
        names = self._settings.model_names()
        for name in names:
            signature = await asyncio.to_thread(_signature, self._settings.models_dir, name)
            if signature != self._signatures.get(name) and name not in self._unloaded:
                self._signatures[name] = signature
                try:
                    await self.load(name)
                except ArtifactRejected as rejected:
                    log.error("not served: %s", rejected)  # noqa: TRY400 - its sentences say all
        for name in self._models.keys() - set(names):
            self._signatures.pop(name, None)  # one that was loaded by hand has none before the next look
            self._stop(name)

    async def load(self, name: str) -> None:
        """Serve the artifact `name` as it is on disk now, in place of an older one, without a gap.

        Raises:
            ArtifactRejected: it breaks the contract; what was served before goes on.
        """
        async with self._changing:
            try:
                classifier = await asyncio.to_thread(artifacts.load_named, name, self._settings)
            except ArtifactRejected as rejected:
                self._refusals[name] = rejected.message
                raise
            self._unloaded.discard(name)
            self._serve(classifier)

    def unload(self, name: str) -> None:
        """Stop serving `name` until it is loaded again."""
        self._unloaded.add(name)
        self._stop(name)

    # A model that is let go stays open: requests that found it before, and are still being read, are answered
    # by it. It goes with the last of them.

    def _stop(self, name: str) -> None:
        self._models.pop(name).metrics.retire()
        log.info("no longer serving %s", name)

    def _serve(self, classifier: Classifier) -> None:
        name = classifier.name
        if name in self._models:
            self._models[name].metrics.retire()
        metrics = ModelMetrics(classifier, max_queue=self._settings.max_queue)
        batcher = Batcher(
            classifier.predict,
            max_batch=self._settings.max_batch,
            max_queue=self._settings.max_queue,
            max_wait_s=self._settings.max_wait_ms / 1000,
            observer=metrics,
        )
        self._models[name] = ServedModel(classifier, batcher, metrics)
        self._refusals.pop(name, None)
        log.info("serving %s, version %s, on %s", name, classifier.version, classifier.provider)

    async def close(self) -> None:
        """Answer what waits, refuse what comes."""
        for model in self._models.values():
            await model.batcher.close()

    @property
    def ready(self) -> bool:
        return bool(self._models)

    def computing_for_s(self) -> float:
        """Seconds that the longest of the present batches has been computed; 0 when idle."""
        return max((model.batcher.computing_for_s for model in self._models.values()), default=0.0)

    @property
    def default(self) -> str:
        return self._settings.default_model

    def names(self) -> list[str]:
        return sorted(self._models)

    def get(self, name: str) -> ServedModel:
        """The served model called `name`.

        Raises:
            ModelNotFound: with the nearest names there are.
        """
        try:
            return self._models[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._models) or self.names()
            raise ModelNotFound(
                f"There is no model {name[:80]!r}; did you mean {' or '.join(near)}?"
            ) from None

    def index(self) -> Iterator[IndexEntry]:
        """Every artifact there is, in order of name."""
        for name in sorted({*self._settings.model_names(), *self._models}):
            model = self._models.get(name)
            reason = self._refusals.get(name, "unloaded" if name in self._unloaded else "")
            yield IndexEntry(name, model.classifier.version if model else None, reason)


def load_all(settings: Settings) -> dict[str, Classifier]:
    """The classifiers that `settings` asks for, by name; raises as `Repository.open` does."""
    required = {settings.default_model, *settings.models}
    classifiers: dict[str, Classifier] = {}
    for name in settings.model_names():
        try:
            classifiers[name] = artifacts.load_named(name, settings)
        except ArtifactRejected as rejected:
            if name in required or settings.device == "cuda":
                raise
            log.error("not served: %s", rejected)  # noqa: TRY400 - its sentences say all that a traceback would
    return classifiers


def _signature(folder: Path, name: str) -> Signature:
    found = []
    for file in (folder / f"{name}.onnx", folder / f"{name}.golden.npz"):
        try:
            status = file.stat()
        except OSError:
            continue
        found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
