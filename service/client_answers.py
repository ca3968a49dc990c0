"""What the client returns and raises, and how it is read from an HTTP answer."""

from __future__ import annotations

import dataclasses
from base64 import b64decode
from dataclasses import dataclass
from typing import Any, Literal

import httpx


@dataclass(frozen=True)
class Scored:
    """A label and how likely it is."""

    label: str
    probability: float


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels in the upright picture."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Prediction:
    """What the model says of one picture, or of one digit on it.

    Attributes:
        prediction_set: every label that cannot be ruled out; None for a model without calibration.
        in_distribution: whether the picture looks like the training data; None likewise.
        heat_map: 28x28 levels, row by row, of where the model looked, if asked for.
        box: where the digit is, if all digits were asked for.
    """

    label: str
    index: int
    probability: float
    top: tuple[Scored, ...]
    prediction_set: tuple[str, ...] | None
    in_distribution: bool | None
    heat_map: bytes | None = None
    box: Box | None = None


@dataclass(frozen=True)
class Segments:
    """What the model says of each digit on one picture: line by line, from left to right."""

    segments: tuple[Prediction, ...]


@dataclass(frozen=True)
class ImageError:
    """Why one picture has no prediction."""

    code: str
    message: str


@dataclass(frozen=True)
class Answer:
    """One prediction for each picture, in order; a picture that cannot be read has its error in its place."""

    model: str
    version: str
    predictions: tuple[Prediction | Segments | ImageError, ...]
    request_id: str | None


@dataclass(frozen=True)
class Model:
    """What a served model says of itself; models/README.md explains every field."""

    name: str
    version: str
    provider: str
    max_images: int
    max_explained_images: int
    dataset: str
    labels: tuple[str, ...]
    canonical_form: Literal["digit", "garment"]
    parameters: int
    macs_per_image: int
    test_accuracy: float
    calibrated: bool
    temperature: float
    seed: int
    commit: str
    created: str
    expected_calibration_error: float | None
    conformal_level: float | None
    conformal_quantile: float | None
    in_distribution_level: float | None
    in_distribution_threshold: float | None


@dataclass(frozen=True)
class ModelList:
    """Every served model, and the name of the one that answers when a request names none."""

    default: str
    models: tuple[Model, ...]


class ClientError(Exception):
    """A call that came to nothing."""


class ServiceUnreachable(ClientError):
    """No answer came from the service: nothing listens there, it took too long, or it is another service."""


class ServiceRefused(ClientError):
    """The service answered with an error.

    Attributes:
        status: the HTTP status.
        code: stable and machine-readable, such as `image_too_large`.
        message: a sentence that says what to change.
        request_id: what to look for in the service's log.
        details: where none of several pictures can be read, the reason for each, in order.
    """

    def __init__(
        self, status: int, code: str, message: str, request_id: str | None, details: tuple[ImageError, ...]
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.details = details


def read_answer(response: httpx.Response) -> Answer:
    try:
        document = _document(response)
        predictions = tuple(_entry(each) for each in document["predictions"])
        request_id = response.headers.get("x-request-id")
        return Answer(document["model"], document["version"], predictions, request_id)
    except (ValueError, KeyError, TypeError) as error:
        raise _not_ours(response) from error


def _entry(document: dict[str, Any]) -> Prediction | Segments | ImageError:
    if "error" in document:
        return _image_error(document)
    if "segments" in document:
        return Segments(tuple(_prediction(each) for each in document["segments"]))
    return _prediction(document)


def _prediction(document: dict[str, Any]) -> Prediction:
    possible = document["prediction_set"]
    return Prediction(
        label=document["label"],
        index=document["index"],
        probability=document["probability"],
        top=tuple(Scored(each["label"], each["probability"]) for each in document["top"]),
        prediction_set=None if possible is None else tuple(possible),
        in_distribution=document["in_distribution"],
        heat_map=b64decode(document["heat_map"]) if "heat_map" in document else None,
        box=Box(**document["box"]) if "box" in document else None,
    )


def _image_error(document: dict[str, Any]) -> ImageError:
    return ImageError(document["error"]["code"], document["error"]["message"])


def read_models(response: httpx.Response) -> ModelList:
    fields = [field.name for field in dataclasses.fields(Model)]
    try:
        document = _document(response)
        models = [{field: each[field] for field in fields} for each in document["models"]]
        return ModelList(
            document["default"], tuple(Model(**{**each, "labels": tuple(each["labels"])}) for each in models)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _not_ours(response) from error


def _document(response: httpx.Response) -> dict[str, Any]:
    """The JSON of an answer.

    Raises:
        ServiceRefused: it is an error.
    """
    if response.is_success:
        document: dict[str, Any] = response.json()
        return document
    request_id = response.headers.get("x-request-id")
    try:
        error = response.json()["error"]
        details = tuple(_image_error(each) for each in error.get("details", ()))
        code, message = error["code"], error["message"]
    except (ValueError, KeyError, TypeError, AttributeError):  # from a proxy in between
        code, message, details = "no_answer", response.reason_phrase or "no reason given", ()
    raise ServiceRefused(response.status_code, code, message, request_id, details)


def _not_ours(response: httpx.Response) -> ServiceUnreachable:
    return ServiceUnreachable(f"What answers at {response.request.url} is not this service.")
