"""The bodies of the Open Inference Protocol, read and written without a server."""

from __future__ import annotations

import gzip
import json
import re
import struct
import tracemalloc
import zlib
from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.errors import BadBase64, BadRequest, EmptyUpload, RequestRejected, RequestTooLarge
from service.tensors_v2 import (
    PACKET_BYTES,
    InferRequest,
    compressed,
    decompressed,
    read_infer_request,
    write_infer_response,
)

MAX_VALUES = 1_000_000
LABELS = [f"label {index}" for index in range(10)]
INFLATE = {"gzip": gzip.decompress, "deflate": zlib.decompress}
DEFLATE = {"gzip": gzip.compress, "deflate": zlib.compress}


def pixels(count: int = 1, seed: int = 0) -> np.ndarray[Any, Any]:
    images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    images[0, 0, :2] = 0, 255
    return images


def tensor(**changes: Any) -> dict[str, Any]:
    whole = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": [0] * 784}
    return {key: value for key, value in {**whole, **changes}.items() if value is not None}


def in_json(described: dict[str, Any], **more: Any) -> InferRequest:
    return read_infer_request(json.dumps({"inputs": [described], **more}).encode(), None, MAX_VALUES)


def in_bytes(described: dict[str, Any], binary: bytes, **more: Any) -> InferRequest:
    announced = {**described, "parameters": {"binary_data_size": len(binary)}}
    head = json.dumps({"inputs": [announced], **more}).encode()
    return read_infer_request(head + binary, str(len(head)), MAX_VALUES)


def refusal(body: bytes, length: str | None = None) -> str:
    with pytest.raises(BadRequest) as refused:
        read_infer_request(body, length, MAX_VALUES)
    return refused.value.message


@given(st.integers(1, 3), st.integers(0, 2**32))
def test_pixels_are_read_alike_from_nested_data_flat_data_and_bytes(count: int, seed: int) -> None:
    sent = pixels(count, seed)
    described = tensor(shape=list(sent.shape), data=None)
    for call in (
        in_json({**described, "data": sent.tolist()}),
        in_json({**described, "data": sent.reshape(-1).tolist()}),
        in_bytes(described, sent.tobytes()),
    ):
        assert call.pixels is not None
        assert call.pixels.dtype == np.uint8
        np.testing.assert_array_equal(call.pixels, sent)


def test_pixels_in_bytes_are_taken_where_they_are() -> None:
    described = tensor(data=None, parameters={"binary_data_size": 784})
    head = json.dumps({"inputs": [described]}).encode()
    body = head + pixels().tobytes()
    call = read_infer_request(body, str(len(head)), MAX_VALUES)
    assert call.pixels is not None
    assert np.shares_memory(call.pixels, np.frombuffer(body, np.uint8))


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=5))
@example([b"a", b""])
def test_pictures_are_read_alike_from_base64_and_bytes(contents: list[bytes]) -> None:
    described = tensor(datatype="BYTES", shape=[len(contents)], data=None)
    binary = b"".join(struct.pack("<I", len(content)) + content for content in contents)
    for call in (
        in_json({**described, "data": [b64encode(content).decode() for content in contents]}),
        in_bytes(described, binary),
    ):
        assert call.pixels is None
        assert call.document.inputs[0].shape == [len(contents)]
        for read, sent in zip(call.pictures, contents, strict=True):
            if sent:
                assert read == sent
            else:
                assert isinstance(read, EmptyUpload)
                assert read.message == "The picture is empty."


@pytest.mark.parametrize("element", ["?", "YQ", "YQ==\n", "Y Q==", 7, None])
def test_an_element_that_is_no_base64_keeps_its_place(element: object) -> None:
    good, bad = in_json(tensor(datatype="BYTES", shape=[2], data=["YQ==", element])).pictures
    assert good == b"a"
    assert isinstance(bad, BadBase64)
    assert re.fullmatch(r"A BYTES element in JSON must be (base64: .+|a string of base64)\.", bad.message)


@pytest.mark.parametrize(
    "binary", [b"\2", b"\2\0\0", b"\2\0\0\0", b"\2\0\0\0a", b"\1\0\0\0a\1\0\0\0", b"\xff\xff\xff\xffa"]
)
def test_a_bytes_tensor_cut_short_is_refused(binary: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        in_bytes(tensor(datatype="BYTES", shape=[1], data=None), binary)
    assert refused.value.message == "The BYTES tensor is cut short."


def test_the_json_may_be_the_whole_body_although_its_length_is_told() -> None:
    body = json.dumps({"inputs": [tensor()]}).encode()
    assert read_infer_request(body, str(len(body)), MAX_VALUES).pixels is not None


@pytest.mark.parametrize("length", ["3", "-1", "+2", " 2", "", "two", "2.0", "9" * 5_000])
def test_a_length_of_the_json_that_is_none_is_refused(length: str) -> None:
    message = "Inference-Header-Content-Length must be the length of the JSON within the body."
    assert refusal(b"{}", length) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "pixels"}, "There is no input 'pixels'; the one input is `images`."),
        (
            {"name": "n" * 99},
            f"There is no input {'n' * 80!r}; the one input is `images`.",
        ),
        (
            {"datatype": "FP32" * 9},
            "`images` is UINT8 of shape [n, 28, 28] or BYTES of shape [n], not FP32FP32FP32FP32FP32.",
        ),
        *(
            ({"shape": shape}, f"`images` has the shape {shape}; it must be [n, 28, 28] with n from 1 up.")
            for shape in ([], [1], [0, 28, 28], [28, 28], [1, 28, 27], [1, 27, 28], [1, 784], [1, 28, 28, 1])
        ),
        ({"shape": [2, 28, 28]}, "`images` of shape [2, 28, 28] holds 1568 values; 784 came."),
        ({"data": [0] * 785}, "`images` of shape [1, 28, 28] holds 784 values; 785 came."),
        *(
            ({"data": data}, "`data` of `images` must be integers from 0 to 255.")
            for data in ([256] * 784, [-1] + [0] * 783, [0.5] * 784, ["a"] * 784, [True] * 784)
        ),
        *(
            ({"data": data}, "`data` of `images` must be integers from 0 to 255.")
            for data in ([], [[], []], [2**63] * 784, [2**64] * 784, [None] * 784, [{}] * 784)
        ),
        ({"data": [[1], [2, 3]]}, "`data` of `images` is not a regular array of numbers."),
        ({"data": None}, "`images` announces None bytes; 0 follow the JSON."),
        (
            {"data": None, "parameters": {"binary_data_size": 784}},
            "`images` announces 784 bytes; 0 follow the JSON.",
        ),
        ({"parameters": {"binary_data_size": 784}}, "`images` has both `data` and `binary_data_size`."),
        (
            {"datatype": "BYTES", "shape": [1, 1], "data": ["YQ=="]},
            "BYTES `images` has the shape [1, 1]; it must be [n].",
        ),
        (
            {"datatype": "BYTES", "shape": [], "data": ["YQ=="]},
            "BYTES `images` has the shape []; it must be [n].",
        ),
        (
            {"datatype": "BYTES", "shape": [2], "data": ["YQ=="]},
            "`images` of shape [2] came with 1 elements.",
        ),
        ({"datatype": "BYTES", "shape": [0], "data": []}, "`images` of shape [0] came with 0 elements."),
    ],
)
def test_a_malformed_tensor_is_refused_with_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    assert refusal(json.dumps({"inputs": [tensor(**changes)]}).encode()) == message


@pytest.mark.parametrize(
    ("document", "faults"),
    [
        ({}, ["inputs"]),
        ({"inputs": []}, ["inputs"]),
        ({"inputs": [tensor()] * 2}, ["inputs"]),
        ({"inputs": [tensor(shape=[-1, 28, 28])]}, ["inputs.0.shape.0"]),
        ({"inputs": [tensor(shape=[1] * 9)]}, ["inputs.0.shape"]),
        (
            {"inputs": [tensor()], "outputs": [{"name": "p", "parameters": {"classification": 11}}]},
            ["outputs.0.parameters.classification"],
        ),
        ({"id": 7, "inputs": [{"shape": []}]}, ["id", "inputs.0.name", "inputs.0.datatype"]),
        (
            {"id": 7, "inputs": [], "outputs": [{}] * 4},
            ["id", "inputs", "outputs.0.name", "outputs.1.name", "outputs.2.name"],
        ),
    ],
)
def test_a_malformed_document_is_refused_with_its_first_five_faults(
    document: dict[str, Any], faults: list[str]
) -> None:
    message = refusal(json.dumps(document).encode())
    assert re.fullmatch(
        r"Bad inference request: " + "; ".join(rf"{re.escape(fault)}: [^;]+" for fault in faults) + r"\.",
        message,
    )


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"[]", b"7", b"\xff\xfe"])
def test_a_body_that_is_no_call_is_refused(body: bytes) -> None:
    assert refusal(body)


def test_json_of_more_values_than_allowed_is_refused_before_it_is_read() -> None:
    with pytest.raises(RequestTooLarge):
        read_infer_request(json.dumps({"inputs": [tensor()]}).encode(), None, 100)


@settings(max_examples=200)
@given(
    body=st.binary(max_size=200),
    length=st.sampled_from([None, "0", "1", "20", "200"]),
    wrap=st.booleans(),
)
def test_any_bytes_give_a_request_or_our_own_error(body: bytes, length: str | None, *, wrap: bool) -> None:
    if wrap:
        body = b'{"inputs":[{"name":"images","datatype":"UINT8","shape":[1,28,28],"data":' + body
    try:
        read_infer_request(body, length, 1_000_000)
    except RequestRejected:
        return
    raise AssertionError("nothing this short is a request")


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]))
def test_a_compressed_body_inflates_up_to_the_limit_and_no_further(body: bytes, encoding: str) -> None:
    sent = DEFLATE[encoding](body)
    assert decompressed(sent, encoding, len(body)) == body
    assert decompressed(sent, encoding, 10**9) == body
    if body:
        with pytest.raises(
            RequestTooLarge, match=rf"^The body inflates to more than {len(body) - 1} bytes\.$"
        ):
            decompressed(sent, encoding, len(body) - 1)


@pytest.mark.parametrize("encoding", DEFLATE)
def test_a_bomb_takes_no_more_memory_than_the_limit(encoding: str) -> None:
    bomb = DEFLATE[encoding](bytes(20_000_000))
    tracemalloc.start()
    with pytest.raises(RequestTooLarge):
        decompressed(bomb, encoding, 100_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000


@given(st.binary(max_size=300), st.sampled_from(["identity", ""]))
def test_a_body_without_encoding_stays_as_it_is(body: bytes, encoding: str) -> None:
    assert decompressed(body, encoding, 100) == body


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]))
def test_any_compressed_bytes_inflate_within_the_limit_or_are_refused(body: bytes, encoding: str) -> None:
    try:
        assert len(decompressed(body, encoding, 1000)) <= 1000
    except RequestRejected:
        return


@pytest.mark.parametrize(
    ("body", "encoding", "says"),
    [
        (b"no gzip", "gzip", r"The body is not gzip: .+"),
        (gzip.compress(bytes(99), mtime=0)[:-9], "gzip", r"The gzip body is cut short"),
        (zlib.compress(bytes(99))[:-1], "deflate", r"The deflate body is cut short"),
        (b"{}", "br", r"Content-Encoding 'br' is not read; gzip and deflate are"),
        (b"{}", "b" * 99, rf"Content-Encoding '{'b' * 40}' is not read; gzip and deflate are"),
    ],
)
def test_a_bad_content_encoding_is_refused_with_what_is_wrong(body: bytes, encoding: str, says: str) -> None:
    with pytest.raises(BadRequest, match=rf"^{says}\.$"):
        decompressed(body, encoding, 1000)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("", None),
        ("br", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("GZIP;q=0.2", "gzip"),
        ("br, gzip", "gzip"),
        ("br,deflate", "deflate"),
        ("deflate, gzip;q=1.0", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip; q=0.000,br", None),
        ("xgzip", None),
        ("a" * 30_000, None),  # a head may be as long, and this one took two seconds to read
        ("gzip;" * 6_000, "gzip"),
    ],
)
def test_only_an_encoding_that_is_asked_for_is_used(accepted: str, encoding: str | None) -> None:
    content = bytes(PACKET_BYTES)
    sent, used = compressed(content, accepted)
    assert used == encoding
    assert (INFLATE[used](sent) if used else sent) == content
    assert compressed(content[1:], accepted) == (content[1:], None), "what fits into a packet stays as it is"


OUTPUTS = {
    "probabilities": np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10),
    "typicality": np.array([0.5, -3], np.float32),
}
DATA = {name: values.reshape(-1).tolist() for name, values in OUTPUTS.items()}
SHAPES = {name: list(values.shape) for name, values in OUTPUTS.items()}


def answer(values: dict[str, np.ndarray[Any, Any]] = OUTPUTS, **asked: Any) -> tuple[dict[str, Any], bytes]:
    """The JSON of the answer to a call, and the tensors behind it."""
    body, length = write_infer_response(in_json(tensor(), **asked), values, LABELS, "mnist-cnn", "abc")
    if length is None:
        return json.loads(body), b""
    assert length < len(body)
    return json.loads(body[:length]), body[length:]


def test_an_answer_names_the_model_and_describes_every_output() -> None:
    document, binary = answer()
    assert document == {
        "model_name": "mnist-cnn",
        "model_version": "abc",
        "outputs": [
            {"name": name, "datatype": "FP32", "shape": SHAPES[name], "data": DATA[name]} for name in OUTPUTS
        ],
    }
    assert binary == b""


@pytest.mark.parametrize("name", ["", "call 7"])
def test_an_answer_repeats_the_id_of_its_call(name: str) -> None:
    assert answer(id=name)[0]["id"] == name


def test_the_outputs_that_were_asked_for_come_in_their_order() -> None:
    document, _ = answer(outputs=[{"name": "typicality"}, {"name": "probabilities"}])
    assert [output["data"] for output in document["outputs"]] == [DATA["typicality"], DATA["probabilities"]]


def test_an_output_that_there_is_not_is_refused() -> None:
    says = f"^There is no output '{'n' * 80}'; there are probabilities, typicality\\.$"
    with pytest.raises(BadRequest, match=says):
        answer(outputs=[{"name": "n" * 99}])


def test_tensors_stand_behind_the_json_in_the_order_of_their_descriptions() -> None:
    document, binary = answer(parameters={"binary_data_output": True})
    assert [output["parameters"] for output in document["outputs"]] == [
        {"binary_data_size": values.nbytes} for values in OUTPUTS.values()
    ]
    assert not any("data" in output for output in document["outputs"])
    assert binary == OUTPUTS["probabilities"].astype("<f4").tobytes() + OUTPUTS["typicality"].tobytes()


def test_an_output_of_doubles_is_sent_as_fp32() -> None:
    doubles = {"typicality": np.array([0.5, -3])}
    document, binary = answer(doubles, parameters={"binary_data_output": True})
    assert document["outputs"][0]["datatype"] == "FP32"
    assert binary == doubles["typicality"].astype("<f4").tobytes()


@pytest.mark.parametrize("all_in_bytes", [True, False])
def test_an_output_may_come_otherwise_than_the_rest(*, all_in_bytes: bool) -> None:
    asked = [
        {"name": "probabilities"},
        {"name": "typicality", "parameters": {"binary_data": not all_in_bytes}},
    ]
    document, binary = answer(parameters={"binary_data_output": all_in_bytes}, outputs=asked)
    assert ["data" in output for output in document["outputs"]] == [not all_in_bytes, all_in_bytes]
    assert binary == OUTPUTS["probabilities" if all_in_bytes else "typicality"].tobytes()


def classes(values: list[list[float]], k: int, *, binary: bool = False) -> tuple[dict[str, Any], bytes]:
    asked = [{"name": "probabilities", "parameters": {"classification": k, "binary_data": binary}}]
    document, behind = answer({"probabilities": np.array(values, np.float32)}, outputs=asked)
    [output] = document["outputs"]
    return output, behind


def test_classification_gives_the_likeliest_as_value_index_and_label() -> None:
    output, _ = classes([[0.25, 0.5] + [0.0] * 8, [0.0] * 9 + [1.0]], 2)
    assert output == {
        "name": "probabilities",
        "datatype": "BYTES",
        "shape": [2, 2],
        "data": [
            *("0.500000:1:label 1", "0.250000:0:label 0"),
            *("1.000000:9:label 9", "0.000000:0:label 0"),
        ],
    }


def test_classes_as_likely_as_each_other_stand_in_their_order() -> None:
    output, _ = classes([[0.1] * 10], 10)
    assert [text.split(":")[1] for text in output["data"]] == [str(index) for index in range(10)]


def test_an_output_of_one_value_an_image_has_no_labels() -> None:
    document, _ = answer(outputs=[{"name": "typicality", "parameters": {"classification": 3}}])
    [output] = document["outputs"]
    assert output["shape"] == [2, 1]
    assert output["data"] == ["0.500000:0:", "-3.000000:0:"]


def test_classes_in_bytes_have_their_lengths_before_them() -> None:
    output, binary = classes([[1.0] + [0.0] * 9], 2, binary=True)
    texts = b"1.000000:0:label 0", b"0.000000:1:label 1"
    assert binary == b"".join(struct.pack("<I", len(text)) + text for text in texts)
    assert output["parameters"] == {"binary_data_size": len(binary)}
