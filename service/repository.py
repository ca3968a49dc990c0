"""The models that are served, by name: loads them from the folder of artifacts and gives each its batcher."""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass

from service import artifacts
from service.artifacts import Classifier
from service.batching import Batcher
from service.errors import ArtifactRejected, ModelNotFound
from service.metrics import BatchMetrics
from service.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A classifier and the queue in front of it."""

    classifier: Classifier
    batcher: Batcher


class Repository:
    """Every model that requests may name. Construction does nothing; `open` loads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models: dict[str, ServedModel] = {}

    def open(self) -> None:
        """Load all artifacts that the settings name.

        An artifact that breaks the contract is logged and left out, unless it is one that must be served.

        Raises:
            ArtifactRejected: the default model, or one named in `models`, cannot be served.
        """
        for name, classifier in load_all(self._settings).items():
            batcher = Batcher(
                classifier.predict,
                max_batch=self._settings.max_batch,
                max_queue=self._settings.max_queue,
                observer=BatchMetrics(name),
            )
            self._models[name] = ServedModel(classifier, batcher)
            log.info("serving %s, version %s, on %s", name, classifier.version, classifier.provider)

    async def close(self) -> None:
        """Answer what waits, refuse what comes."""
        for model in self._models.values():
            await model.batcher.close()

    @property
    def ready(self) -> bool:
        return bool(self._models)

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


def load_all(settings: Settings) -> dict[str, Classifier]:
    """The classifiers that `settings` asks for, by name; raises as `Repository.open` does."""
    required = {settings.default_model, *settings.models}
    classifiers: dict[str, Classifier] = {}
    for name in dict.fromkeys((*settings.model_names(), settings.default_model)):
        try:
            classifiers[name] = artifacts.load_named(name, settings)
        except ArtifactRejected as error:
            if name in required or settings.device == "cuda":
                raise
            log.error("not served: %s", error)  # noqa: TRY400 - its sentences say all that a traceback would
    return classifiers
