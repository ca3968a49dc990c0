"""What the commands find out: each returns one document, which becomes JSON or tables in front of people.

What is heavy is imported where it is used: who asks a server loads no ONNX Runtime, who asks none no HTTP.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from service.errors import ArtifactRejected, ImageRejected

if TYPE_CHECKING:
    from service.artifacts import Classifier
    from service.client import Client
    from service.settings import Settings

Document = dict[str, Any]
# Passes everything through, and may show how far it is.
Track = Callable[[Iterable[Document], int], Iterable[Document]]

# Requests on their way at once: enough that the server fills batches.
REQUESTS_AT_ONCE = 8
# Refusals that are about a picture, not about the call.
IMAGE_CODES = {kind.code for kind in ImageRejected.__subclasses__()}


class CommandFailed(Exception):
    """A command that cannot do its job, with the sentence that says why."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What to classify and how; `-` among the files is standard input."""

    files: Sequence[str]
    model: str | None
    top_k: int
    canonical: Literal["auto", "never"]


def read_settings() -> Settings:
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings()
    except ValidationError as invalid:
        faults = [f"DIGITSERVE_{'_'.join(map(str, f['loc'])).upper()}: {f['msg']}" for f in invalid.errors()]
        raise CommandFailed("; ".join(faults)) from None


def api_key() -> str | None:
    """The key that a service is asked with; no option, as every user of a machine sees those."""
    return os.environ.get("DIGITSERVE_API_KEY")


def predict_here(question: Question, track: Track) -> Document:
    """Classify with the artifact itself, without a server."""
    from service.answers import describe
    from service.images import read_image

    settings = read_settings()
    classifier = _load(question.model or settings.default_model, settings)

    def classify(content: bytes) -> Document:
        try:
            image = read_image(
                content, classifier.card.canonical_form, question.canonical, settings.max_pixels
            )
        except ImageRejected as rejected:
            return _refusal(rejected.code, rejected.message)
        [answer] = describe(classifier.card, classifier.predict(image[None]), question.top_k)
        return answer

    rows = (_row(file, classify) for file in question.files)
    predictions = list(track(rows, len(question.files)))
    return {"model": classifier.name, "version": classifier.version, "predictions": predictions}


def predict_there(url: str, question: Question, track: Track) -> Document:
    """Have the service at `url` classify: a request for each picture, several at a time."""
    served: Document = {"model": question.model, "version": None}
    with closing(_client(url)) as client, ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        rows = pool.map(
            lambda file: _row(file, lambda content: _ask(client, content, question, served)), question.files
        )
        try:
            predictions = list(track(rows, len(question.files)))
        finally:
            pool.shutdown(cancel_futures=True)
    return {**served, "predictions": predictions}


def _client(url: str) -> Client:
    from service.client import Client, ClientError

    try:
        return Client(url, api_key=api_key())
    except ClientError as error:
        raise CommandFailed(str(error)) from None


def _ask(client: Client, content: bytes, question: Question, served: Document) -> Document:
    from service.client import ClientError, Prediction, ServiceRefused

    try:
        answer = client.predict(
            content, model=question.model, top_k=question.top_k, canonical=question.canonical
        )
    except ServiceRefused as refused:
        if refused.code in IMAGE_CODES:
            return _refusal(refused.code, refused.message)
        raise CommandFailed(str(refused)) from None
    except ClientError as error:
        raise CommandFailed(str(error)) from None
    served.update(model=answer.model, version=answer.version)
    [prediction] = answer.predictions
    assert isinstance(prediction, Prediction), "one picture alone is refused as a whole"
    told = dataclasses.asdict(prediction)
    del told["heat_map"], told["box"]  # which were not asked for
    return told


def _row(file: str, classify: Callable[[bytes], Document]) -> Document:
    """What `classify` says of one file, or why the file cannot be read, with its name."""
    try:
        if file == "-":
            content = sys.stdin.buffer.read()
        else:
            with open(file, "rb") as opened:  # noqa: PTH123 - Path("./a") would lose the spelling in errors
                content = opened.read()
    except OSError as error:
        return {"file": file, **_refusal("unreadable_file", f"{error.strerror}.")}
    return {"file": file, **classify(content)}


def _refusal(code: str, message: str) -> Document:
    return {"error": {"code": code, "message": message}}


def models_here() -> Document:
    """Every model that the settings name, loaded and checked."""
    settings = read_settings()
    models = [_describe(_load(name, settings)) for name in settings.model_names()]
    return {"default": settings.default_model, "models": models}


def models_there(url: str) -> Document:
    from service.client import ClientError

    with closing(_client(url)) as client:
        try:
            return dataclasses.asdict(client.models())
        except ClientError as error:
            raise CommandFailed(str(error)) from None


def check() -> Document:
    """What is installed and set here, how each model answers its golden images, and what is wrong."""
    from service import artifacts

    settings = read_settings()
    models, problems = [], []
    for name in settings.model_names():
        try:
            classifier = artifacts.load_named(name, settings)
        except ArtifactRejected as rejected:
            problems.append(rejected.message)
        else:
            models.append({**_describe(classifier), "golden": _golden(classifier, settings.models_dir)})
    return {
        "ok": not problems,
        "python": f"{platform.python_version()}, {sys.executable}",
        "runtime": artifacts.runtime_facts(),
        "settings": {
            f"DIGITSERVE_{field.upper()}": ",".join(value) if isinstance(value, list) else value
            for field, value in settings.model_dump(mode="json").items()
        },
        "models": models,
        "problems": problems,
    }


def _golden(classifier: Classifier, folder: Path) -> Document:
    """How many golden images there are, and how far our probabilities are from PyTorch's at most."""
    import numpy as np

    with np.load(folder / f"{classifier.name}.golden.npz") as golden:
        images, expected = golden["images"], golden["probabilities"]
    probabilities, _ = classifier.predict(images)
    return {"images": len(images), "largest_difference": float(np.abs(probabilities - expected).max())}


def _describe(classifier: Classifier) -> Document:
    return {
        "name": classifier.name,
        "version": classifier.version,
        "provider": classifier.provider,
        **classifier.card.model_dump(mode="json", exclude={"contract_version", "recipe", "packages"}),
    }


def _load(name: str, settings: Settings) -> Classifier:
    from service import artifacts

    known = settings.model_names()
    if name not in known:
        near = difflib.get_close_matches(name, known) or known or ["none"]
        raise CommandFailed(
            f"There is no model {name!r} in {settings.models_dir}; there is {' or '.join(near)}."
        )
    try:
        return artifacts.load_named(name, settings)
    except ArtifactRejected as rejected:
        raise CommandFailed(rejected.message) from None
