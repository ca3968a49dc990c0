"""Coverage-guided fuzzing: any bytes give a value or our own error.

`PYTHONPATH=. python tests/reliability/fuzz.py pictures -max_total_time=3600` goes on for an hour; the targets
are `pictures`, `uploads` and `tensors`, the options libFuzzer's.
"""

from __future__ import annotations

import contextlib
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "multipart", "service"]):
    from bad_pictures import bombs, polyglots, seeds

    from service.errors import DigitServeError
    from service.images import read_image
    from service.tensors_v2 import decompressed, read_infer_request
    from service.uploads import UploadLimits, parse_uploads

LIMITS = UploadLimits()
FORM = "multipart/form-data; boundary=x"
# Smaller than the service's, so that a second sees many pictures.
MAX_PIXELS = 200_000


def pictures(content: bytes) -> None:
    """Pixels (28, 28), or an error."""
    for form in ("digit", "garment"):
        image = read_image(content, form, "auto", MAX_PIXELS)
        assert image.shape == (28, 28)
        assert image.dtype == "uint8"


def uploads(content: bytes) -> None:
    """At least one upload, or an error, whichever kind of body it is said to be."""
    for kind in (FORM, "application/json"):
        with contextlib.suppress(DigitServeError):
            assert parse_uploads(content, kind, LIMITS)


def tensors(content: bytes) -> None:
    """The first two bytes tell how long the JSON is, the third how it is compressed."""
    if len(content) < 3:
        return
    length, encoding = struct.unpack_from("<HB", content)
    encoded = ["", "gzip", "deflate"][encoding % 3]
    body = decompressed(content[3:], encoded, 2**20)
    call = read_infer_request(body, None if length == 0 else str(length), 100_000)
    assert (call.pixels is None) == bool(call.pictures)


TARGETS: dict[str, Callable[[bytes], None]] = {"pictures": pictures, "uploads": uploads, "tensors": tensors}
JSON = b'{"inputs":[{"name":"images","datatype":"%s","shape":%s%s}]}'


def corpus(target: str) -> list[bytes]:
    """Where the search begins."""
    if target == "pictures":
        return [c for c in {**seeds(), **bombs(), **polyglots()}.values() if len(c) < 20_000]
    if target == "uploads":
        part = b'--x\r\ncontent-disposition: form-data; name="a"; filename="b"\r\n\r\n%s\r\n'
        forms = [part % seeds()["png-palette"] + part % b"x" + b"--x--\r\n"]
        return [*forms, b'{"images":["aGVsbG8=","data:image/png;base64,aGVsbG8="]}']
    pixels = JSON % (b"UINT8", b"[1,28,28]", b',"parameters":{"binary_data_size":784}')
    texts = JSON % (b"BYTES", b"[1]", b',"data":["aGVsbG8="]')
    outputs = b',"outputs":[{"name":"typicality","parameters":{"classification":1,"binary_data":true}}]}'
    return [
        struct.pack("<HB", len(pixels), 0) + pixels + bytes(784),
        struct.pack("<HB", 0, 0) + texts,
        struct.pack("<HB", 0, 0) + texts[:-1] + outputs,
    ]


def main() -> None:
    target = sys.argv.pop(1)
    warnings.simplefilter("ignore")  # as the service has it

    def attempt(content: bytes) -> None:
        with contextlib.suppress(DigitServeError):
            TARGETS[target](content)

    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(corpus(target)):
            Path(folder, str(number)).write_bytes(content)
        atheris.Setup([*sys.argv, folder], attempt)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
