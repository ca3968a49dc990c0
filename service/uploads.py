"""The body of a request becomes a list of uploads: a form's files, one raw image, or base64 in JSON."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass

from multipart import MultipartError, PushMultipartParser, parse_options_header

from service.errors import BadBase64, BadRequest, EmptyUpload, ImageRejected, TooManyImages
from service.images import is_image
from service.json_bodies import parse_json

Upload = bytes | ImageRejected  # what could not even be read keeps its place among its neighbours

# The head of a form's part: between its delimiter and its content, with nothing that has to be unescaped.
PLAIN_HEAD = re.compile(
    rb'\r\n(?i:content-disposition): form-data; name="[^"\\\x00-\x1f]+"'
    rb'(?:; filename="(?P<file>[^"\\\x00-\x1f]*)")?'
    rb"(?:\r\n(?i:content-type): (?P<image>image/)?[-a-z0-9.+/]*)?\r\n\r\n"
)
DATA_URL = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)


@dataclass(frozen=True)
class UploadLimits:
    """The most of everything that one request may hold."""

    images: int = 256
    parts: int = 1_024
    json_values: int = 1_000_000


def parse_uploads(body: bytes, content_type: str, limits: UploadLimits) -> list[Upload]:
    """The uploads in `body`, at least one, in order.

    A raw image is known by its content, so that neither its declared type nor its name ever matters.

    Raises:
        BadRequest: an empty body, a form without a file or boundary, or JSON of another shape.
        RequestTooLarge, TooManyImages: more of something than `limits` allow.
    """
    if not body:
        raise BadRequest(
            "The body is empty; send an image, a form with image files, or JSON with base64 images."
        )
    media_type, options = parse_options_header(content_type)
    if media_type == "multipart/form-data":
        return _form_files(body, options, limits)
    if body.lstrip()[:1] == b"{" or (media_type == "application/json" and not is_image(body)):
        return _json_images(body, limits)
    return [body]


def _form_files(body: bytes, options: Mapping[str, str], limits: UploadLimits) -> list[Upload]:
    boundary = options.get("boundary")
    if not boundary:
        raise BadRequest("The Content-Type of a form needs its boundary; let your HTTP client set it.")
    if (plain := _plain_form_files(body, boundary, limits)) is not None:
        return plain
    files: list[Upload] = []
    try:
        with PushMultipartParser(
            boundary, max_segment_count=limits.parts, header_charset="latin-1"
        ) as parser:
            content: list[bytes | bytearray] = []
            is_file = False
            for event in parser.parse(body):
                if event is None:
                    if is_file:
                        files.append(b"".join(content) or EmptyUpload("The file is empty."))
                    if len(files) > limits.images:
                        raise TooManyImages(f"A request holds at most {limits.images} images.")
                elif isinstance(event, bytes | bytearray):
                    content.append(event)
                else:
                    content = []
                    is_file = bool(event.filename) or (event.content_type or "").startswith("image/")
    except MultipartError as error:
        raise BadRequest(f"The form cannot be read: {error.args[0]}.") from error
    if not files:
        raise BadRequest("The form has no file; with curl: -F image=@digit.png")
    return files


def _plain_form_files(body: bytes, boundary: str, limits: UploadLimits) -> list[Upload] | None:
    """The files of a form as common clients write it, in a fifth of the parser's time; None for any other.

    It decides nothing: whatever is odd, wrong, too much or without a file is left to the parser.
    """
    delimiter = f"\r\n--{boundary}".encode("latin-1")
    files: list[Upload] = []
    end = -2 if body.startswith(delimiter[2:]) else len(body)
    for _ in range(limits.parts):
        head = PLAIN_HEAD.match(body, end + len(delimiter))
        end = body.find(delimiter, head.end()) if head else -1
        if head is None or end < 0:
            return None
        if head["file"] or head["image"]:
            files.append(body[head.end() : end] or EmptyUpload("The file is empty."))
        if body.startswith(b"--", end + len(delimiter)):
            return files if 0 < len(files) <= limits.images else None
    return None


def _json_images(body: bytes, limits: UploadLimits) -> list[Upload]:
    document = parse_json(body, limits.json_values)
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list) or not images:
        raise BadRequest('JSON must be {"images": ["<base64>", …]} with at least one image.')
    if len(images) > limits.images:
        raise TooManyImages(f"A request holds at most {limits.images} images.")
    return [_decode_base64(image) for image in images]


def _decode_base64(text: object) -> Upload:
    if not isinstance(text, str):
        return BadBase64("An image in JSON must be a string of base64.")
    if prefix := DATA_URL.match(text):
        text = text[prefix.end() :]
    try:
        return b64decode("".join(text.split()), validate=True) or EmptyUpload("The image is empty.")
    except (binascii.Error, ValueError) as error:
        return BadBase64(f"The base64 cannot be decoded: {error}.")
