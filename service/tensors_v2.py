"""The bodies of the Open Inference Protocol: JSON, and tensors in JSON or in bytes behind it.

A binary body begins with JSON, whose length a header tells; behind it stand the tensors, little endian, in
the order of their descriptions. An element of a BYTES tensor is its length in four bytes, then itself.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import orjson
from annotated_types import Len
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from service.batching import Images
from service.errors import BadBase64, BadRequest, EmptyUpload, RequestTooLarge
from service.json_bodies import parse_json
from service.uploads import Upload

PIXELS = 28 * 28

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]  # a number of thousands of digits cannot even be printed

# Content encodings, the better known first, with what zlib calls their envelope.
ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
WEIGHT_OF_ZERO = re.compile(r"\s*q=0(\.0*)?\s*")  # in Accept-Encoding, of a name that is excluded
PACKET_BYTES = 1400
# int() would take signs and blanks, and raises where the digits are thousands.
LENGTH = re.compile("[0-9]{1,10}")


class InputParameters(BaseModel):
    binary_data_size: Count | None = None


class InputTensor(BaseModel):
    name: str
    datatype: str
    shape: Annotated[list[Count], Len(0, 8)]
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None


class OutputParameters(BaseModel):
    classification: Annotated[int, Field(ge=1, le=10)] | None = None
    binary_data: bool | None = None


class RequestedOutput(BaseModel):
    name: str
    parameters: OutputParameters = OutputParameters()


class RequestParameters(BaseModel):
    binary_data_output: bool = False
    timeout: Count = 0  # microseconds; 0 leaves it to the server


class InferDocument(BaseModel):
    """The JSON of an inference request."""

    id: str | None = None
    parameters: RequestParameters = RequestParameters()
    inputs: Annotated[list[InputTensor], Len(1, 1)]
    outputs: list[RequestedOutput] = []


@dataclass(frozen=True)
class InferRequest:
    """An inference request whose input has been read: as pixels, or as pictures where `pixels` is None."""

    document: InferDocument
    pixels: Images | None
    pictures: Sequence[Upload] = ()


def decompressed(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """`body` without its content encoding, gzip or deflate.

    Raises:
        RequestTooLarge: it inflates to more than `max_bytes`.
        BadRequest: the encoding is another, or the body is not in it.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise BadRequest(f"Content-Encoding {encoding[:40]!r} is not read; gzip and deflate are.")
    inflater = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)  # 32: tells gzip from zlib by the first bytes
    try:
        inflated = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise BadRequest(f"The body is not {encoding}: {error}.") from error
    if len(inflated) > max_bytes:
        raise RequestTooLarge(f"The body inflates to more than {max_bytes:,} bytes.")
    if not inflater.eof:
        raise BadRequest(f"The {encoding} body is cut short.")
    return inflated


def compressed(content: bytes, accepted: str) -> tuple[bytes, str | None]:
    """`content` in the encoding that the Accept-Encoding header `accepted` asks for, and the name of that.

    It stays as it is where neither gzip nor deflate is asked for, and where it fits into one packet anyway.
    """
    elements = (element.partition(";") for element in accepted.split(","))
    names = {name.strip().lower() for name, _, weight in elements if not WEIGHT_OF_ZERO.fullmatch(weight)}
    encoding = next((name for name in ENCODINGS if name in names), None)
    if encoding is None or len(content) < PACKET_BYTES:
        return content, None
    deflater = zlib.compressobj(level=1, wbits=ENCODINGS[encoding])
    return deflater.compress(content) + deflater.flush(), encoding


def read_infer_request(body: bytes, header_length: str | None, max_json_values: int) -> InferRequest:
    """The call in `body`, of which the first `header_length` bytes are JSON; None for all.

    Raises:
        BadRequest: with what is wrong about it.
        RequestTooLarge: its JSON holds more than `max_json_values` values.
    """
    if header_length is None:
        head, binary = body, memoryview(b"")
    elif not LENGTH.fullmatch(header_length) or int(header_length) > len(body):
        raise BadRequest("Inference-Header-Content-Length must be the length of the JSON within the body.")
    else:
        head, binary = body[: int(header_length)], memoryview(body)[int(header_length) :]
    try:
        document = InferDocument.model_validate(parse_json(head, max_json_values))
    except ValidationError as invalid:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in invalid.errors()]
        raise BadRequest(f"Bad inference request: {'; '.join(faults[:5])}.") from None
    [tensor] = document.inputs
    if tensor.name != "images":
        raise BadRequest(f"There is no input {tensor.name[:80]!r}; the one input is `images`.")
    if tensor.parameters.binary_data_size is not None and tensor.data is not None:
        raise BadRequest("`images` has both `data` and `binary_data_size`.")
    if tensor.datatype == "UINT8":
        return InferRequest(document, _read_pixels(tensor, binary))
    if tensor.datatype == "BYTES":
        return InferRequest(document, None, _read_pictures(tensor, binary))
    raise BadRequest(
        f"`images` is UINT8 of shape [n, 28, 28] or BYTES of shape [n], not {tensor.datatype[:20]}."
    )


def _binary(tensor: InputTensor, binary: memoryview) -> memoryview:
    if tensor.parameters.binary_data_size != len(binary):
        raise BadRequest(
            f"`images` announces {tensor.parameters.binary_data_size} bytes; {len(binary)} follow the JSON."
        )
    return binary


def _read_pixels(tensor: InputTensor, binary: memoryview) -> Images:
    if tensor.shape[1:] != [28, 28] or tensor.shape[0] < 1:
        raise BadRequest(f"`images` has the shape {tensor.shape}; it must be [n, 28, 28] with n from 1 up.")
    if tensor.data is None:
        flat: NDArray[Any] = np.frombuffer(_binary(tensor, binary), np.uint8)
    else:
        try:
            flat = np.asarray(tensor.data).ravel()
        except ValueError as error:
            raise BadRequest("`data` of `images` is not a regular array of numbers.") from error
        if flat.dtype.kind != "i" or flat.min() < 0 or flat.max() > 255:  # nothing at all is of kind "f"
            raise BadRequest("`data` of `images` must be integers from 0 to 255.")
    wanted = tensor.shape[0] * PIXELS
    if flat.size != wanted:
        raise BadRequest(f"`images` of shape {tensor.shape} holds {wanted} values; {flat.size} came.")
    return np.asarray(flat, np.uint8).reshape(tensor.shape)


def _read_pictures(tensor: InputTensor, binary: memoryview) -> list[Upload]:
    if len(tensor.shape) != 1:
        raise BadRequest(f"BYTES `images` has the shape {tensor.shape}; it must be [n].")
    if tensor.data is None:
        pictures = _split_bytes(_binary(tensor, binary))
    else:
        pictures = [_from_base64(element) for element in tensor.data]
    if not pictures or len(pictures) != tensor.shape[0]:
        raise BadRequest(f"`images` of shape {tensor.shape} came with {len(pictures)} elements.")
    return pictures


def _split_bytes(binary: memoryview) -> list[Upload]:
    elements: list[Upload] = []
    at = 0
    while at < len(binary):
        start = at + 4
        at = start + int.from_bytes(binary[at:start], "little")
        if at > len(binary):
            raise BadRequest("The BYTES tensor is cut short.")
        elements.append(bytes(binary[start:at]) or EmptyUpload("The picture is empty."))
    return elements


def _from_base64(element: object) -> Upload:
    if not isinstance(element, str):
        return BadBase64("A BYTES element in JSON must be a string of base64.")
    try:
        return b64decode(element, validate=True) or EmptyUpload("The picture is empty.")
    except ValueError as error:
        return BadBase64(f"A BYTES element in JSON must be base64: {error}.")


def write_infer_response(
    call: InferRequest, outputs: Mapping[str, NDArray[Any]], labels: Sequence[str], name: str, version: str
) -> tuple[bytes, int | None]:
    """The body of the answer, and the length of its JSON where tensors follow it.

    Raises:
        BadRequest: an output is requested that there is not.
    """
    everything = [RequestedOutput(name=output) for output in outputs]
    described, chunks = [], []
    for requested in call.document.outputs or everything:
        if requested.name not in outputs:
            raise BadRequest(f"There is no output {requested.name[:80]!r}; there are {', '.join(outputs)}.")
        values, datatype = outputs[requested.name], "FP32"
        if requested.parameters.classification is not None:
            values, datatype = _classes(values, labels, requested.parameters.classification), "BYTES"
        description: dict[str, Any] = {"name": requested.name, "datatype": datatype, "shape": values.shape}
        binary = requested.parameters.binary_data
        if call.document.parameters.binary_data_output if binary is None else binary:
            chunk = _to_bytes(values, datatype)
            chunks.append(chunk)
            description["parameters"] = {"binary_data_size": len(chunk)}
        else:
            description["data"] = values.ravel().tolist()
        described.append(description)
    document = {"model_name": name, "model_version": version, "outputs": described}
    if call.document.id is not None:
        document["id"] = call.document.id
    head = orjson.dumps(document)
    return b"".join([head, *chunks]), len(head) if chunks else None


def _classes(values: NDArray[Any], labels: Sequence[str], k: int) -> NDArray[Any]:
    """The k largest of each row as `value:index:label`; (n, 10) or (n,) to (n, k)."""
    table = values.reshape(len(values), -1)
    names = labels if table.shape[1] == len(labels) else [""]
    rankings = ((row, np.argsort(-row, kind="stable")[:k]) for row in table)
    return np.array([[f"{row[i]:f}:{i}:{names[i]}" for i in ranking] for row, ranking in rankings])


def _to_bytes(values: NDArray[Any], datatype: str) -> bytes:
    if datatype != "BYTES":
        return np.asarray(values, "<f4").tobytes()
    texts = [text.encode() for text in values.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
