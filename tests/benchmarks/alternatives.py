"""What else the parts of a request could be made of: each beside what the service does.

    python -m tests.benchmarks.alternatives

Parsers of forms, decoders of small PNGs, decoding in threads and encoders of JSON, in microseconds of a
process that does nothing else.
"""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from functools import partial
from typing import Any

import cv2
import numpy as np
import orjson
from multipart import PushMultipartParser
from numpy.typing import NDArray
from PIL import Image
from pydantic_core import to_json
from python_multipart.multipart import MultipartParser

from service.answers import describe
from service.images import read_image
from service.uploads import UploadLimits, parse_uploads

from .bare import MAX_PIXELS, classifier, per_second
from .load import Rounds, Spread, interleaved
from .records import Table, parser, record, rounds_of
from .servers import MODELS
from .uploads import BOUNDARY, Upload, form, golden, png

MODEL = MODELS / "mnist-mlp.onnx"
MANY = 256
COLUMNS = ("part", "how", "µs", "of as served")
Ways = dict[str, Callable[[], object]]  # the first is how it is served


def form_parsers(upload: Upload) -> Ways:
    return {
        "as served: cut at the delimiters where it is plain": lambda: parse_uploads(
            upload.body, upload.headers["content-type"], UploadLimits()
        ),
        "multipart, events": lambda: list(PushMultipartParser(BOUNDARY).parse(upload.body)),
        "python-multipart, callbacks": partial(with_callbacks, upload),
        "email of the standard library": partial(with_email, upload),
    }


def with_callbacks(upload: Upload) -> list[bytes]:
    files: list[bytes] = []
    content: list[bytes] = []
    callbacks: Any = {
        "on_part_begin": content.clear,
        "on_part_data": lambda data, start, end: content.append(data[start:end]),
        "on_part_end": lambda: files.append(b"".join(content)),
    }
    reader = MultipartParser(BOUNDARY, callbacks)
    reader.write(upload.body)
    reader.finalize()
    return files


def with_email(upload: Upload) -> list[bytes]:
    head = f"content-type: {upload.headers['content-type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + upload.body).walk()
    return [bytes(part.get_payload(decode=True)) for part in parts if not part.is_multipart()]


def decoders(picture: bytes) -> Ways:
    """Every picture is read by Pillow as served, whatever its format; here a PNG of a dataset's image."""
    array = np.frombuffer(picture, np.uint8)
    return {
        "as served: checks, OpenCV, canonical form": lambda: read_image(picture, "digit", "auto", MAX_PIXELS),
        "Pillow's open and convert alone": lambda: np.asarray(Image.open(io.BytesIO(picture)).convert("L")),
        "OpenCV's imdecode alone": lambda: cv2.imdecode(array, cv2.IMREAD_GRAYSCALE),
    }


def threads(pictures: Sequence[bytes]) -> Ways:
    pool = ThreadPoolExecutor(2)
    read = partial(read_image, form="digit", mode="auto", max_pixels=MAX_PIXELS)
    halves = [pictures[::2], pictures[1::2]]

    def read_all(some: Sequence[bytes]) -> list[NDArray[np.uint8]]:
        return [read(picture) for picture in some]

    return {
        "one after another, as served": lambda: read_all(pictures),
        "two threads, half each": lambda: list(pool.map(read_all, halves)),
        "two threads, one picture at a time": lambda: list(pool.map(read, pictures)),
    }


def encoders(count: int) -> Ways:
    network = classifier(MODEL)
    answers = describe(network.card, network.predict(golden(MODEL, count)[0]), 1)
    document = {"model": network.name, "version": network.version, "predictions": answers}
    return {
        "orjson, as served": lambda: orjson.dumps(document),
        "json of the standard library": lambda: json.dumps(document, separators=(",", ":")).encode(),
        "pydantic": lambda: to_json(document),
    }


def parts() -> dict[str, Ways]:
    images, _ = golden(MODEL, MANY)
    pictures = [png(image) for image in images]
    return {
        "a form with 1 file": form_parsers(form(MODEL)),
        f"a form with {MANY} files": form_parsers(form(MODEL, MANY)),
        "a 28x28 PNG": decoders(pictures[0]),
        f"{MANY} PNGs": threads(pictures),
        "JSON of 1 prediction": encoders(1),
        f"JSON of {MANY} predictions": encoders(MANY),
    }


def compare(part: str, ways: Ways, rounds: Rounds) -> tuple[list[list[str]], dict[str, list[float]]]:
    found = interleaved({how: partial(per_second, way) for how, way in ways.items()}, rounds)
    served = next(iter(found))
    rows = []
    for how, per_s in found.items():
        ratio = "" if how == served else str(Spread.of_ratios(found[served], per_s))
        rows.append([part, how, f"{1e6 / statistics.median(per_s):,.1f}", ratio])
    return rows, found


def main() -> None:
    options = parser(__doc__, rounds=7, seconds=0.2).parse_args()
    compared = {part: compare(part, ways, rounds_of(options)) for part, ways in parts().items()}
    rows = [row for made, _ in compared.values() for row in made]
    samples = {part: found for part, (_, found) in compared.items()}
    record("alternatives", "parts of a request", Table("parts of a request", COLUMNS, rows), samples)


if __name__ == "__main__":
    main()
