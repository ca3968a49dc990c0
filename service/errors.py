"""Every way in which the service says no.

DigitServeError
├── RequestRejected                  the request as a whole is wrong
│   ├── BadRequest              400
│   ├── Unauthorized            401
│   ├── Forbidden               403
│   ├── ModelNotFound           404
│   ├── RouteNotFound           404
│   ├── MethodNotAllowed        405
│   ├── RequestTooLarge         413
│   ├── TooManyImages           413
│   ├── AllImagesRejected       422  several images, each with its own error
│   └── CallerGone              499  nobody is left to read this
├── ImageRejected                    one image is wrong; its neighbours are answered
│   ├── EmptyUpload             400
│   ├── BadBase64               400
│   ├── ImageTooLarge           413
│   ├── UnsupportedFormat       415
│   ├── UndecodableImage        422
│   ├── NotCanonical            422
│   ├── SeveralDigits           422
│   └── EmptyImage              422
├── Unavailable                      try again later
│   ├── Overloaded              503
│   ├── NotReady                503
│   └── DeadlineExceeded        504
├── InferenceFailed             500  the model failed on this image, even alone
├── ArtifactRejected         409  a file under models/ breaks the contract; for who asks to load it
└── KeysRejected                     the file of API keys cannot be used; never reaches a caller

A 4xx tells the caller what to change. Only `app.py` turns these into responses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class DigitServeError(Exception):
    """An error with an HTTP status, a stable machine-readable code and a sentence for people."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestRejected(DigitServeError):
    status = 400
    code = "bad_request"


class BadRequest(RequestRejected):
    """Empty body, form without a file, malformed JSON, or a parameter with a bad value."""


class Unauthorized(RequestRejected):
    """No API key, or one that is not known, where keys are asked for."""

    status = 401
    code = "unauthorized"


class Forbidden(RequestRejected):
    """Something that this service could do, but that its settings do not allow."""

    status = 403
    code = "forbidden"


class ModelNotFound(RequestRejected):
    status = 404
    code = "model_not_found"


class RouteNotFound(RequestRejected):
    status = 404
    code = "route_not_found"


class MethodNotAllowed(RequestRejected):
    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = allowed


class RequestTooLarge(RequestRejected):
    status = 413
    code = "request_too_large"


class TooManyImages(RequestRejected):
    status = 413
    code = "too_many_images"


class AllImagesRejected(RequestRejected):
    """None of several images could be read; `errors` has one for each, in order."""

    status = 422
    code = "all_images_rejected"

    def __init__(self, errors: Sequence[ImageRejected]) -> None:
        super().__init__(f"None of the {len(errors)} images can be read; see details.")
        self.errors = errors


class CallerGone(RequestRejected):
    """The caller closed the connection before its answer; the status is the one that nginx logs."""

    status = 499
    code = "caller_gone"


class ImageRejected(DigitServeError):
    status = 422
    code = "image_rejected"


class EmptyUpload(ImageRejected):
    """Zero bytes where an image should be."""

    status = 400
    code = "empty_upload"


class BadBase64(ImageRejected):
    status = 400
    code = "bad_base64"


class ImageTooLarge(ImageRejected):
    """More pixels than allowed, known from the header before anything is decoded."""

    status = 413
    code = "image_too_large"


class UnsupportedFormat(ImageRejected):
    """The content is no image format we read, whatever its name or declared type says."""

    status = 415
    code = "unsupported_format"


class UndecodableImage(ImageRejected):
    """A known format, but truncated, corrupt or of zero size."""

    code = "undecodable_image"


class NotCanonical(ImageRejected):
    """`canonical=never` was asked for an image that is not 28x28."""

    code = "not_canonical"


class SeveralDigits(ImageRejected):
    """More than one digit on a picture that is to be answered with one."""

    code = "several_digits"


class EmptyImage(ImageRejected):
    """A picture without any ink or cloth."""

    code = "empty_image"


class Unavailable(DigitServeError):
    status = 503
    code = "unavailable"


class Overloaded(Unavailable):
    code = "overloaded"


class NotReady(Unavailable):
    code = "not_ready"


class DeadlineExceeded(Unavailable):
    status = 504
    code = "deadline_exceeded"


class InferenceFailed(DigitServeError):
    code = "inference_failed"


class ArtifactRejected(DigitServeError):
    """An artifact that breaks the contract; `reasons` has one sentence for each rule broken."""

    status = 409
    code = "artifact_rejected"

    def __init__(self, name: str, reasons: list[str]) -> None:
        super().__init__(f"{name}: " + " ".join(reasons))
        self.name = name
        self.reasons = reasons


class KeysRejected(DigitServeError):
    """The file of API keys is missing, unreadable, malformed or empty."""

    code = "keys_rejected"
