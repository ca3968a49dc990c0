"""The Open Inference Protocol on the real routes: every call, both kinds of tensors, malformed ones."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tiny import expected, golden_images, write_artifact

from service.access import Keys
from service.app import web_app
from service.draining import Drain
from service.repository import Repository
from service.settings import Settings

INFER = "/v2/models/mnist-cnn/infer"
IMAGES = golden_images()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("v2-models")
    write_artifact(path, "mnist-cnn")
    write_artifact(path, "second")
    return path


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    config = Settings(models_dir=folder, max_request_bytes=1_000_000, model_control=True)
    repository = Repository(config)
    repository.open()
    with TestClient(web_app(repository, Drain(drain_s=0, workers=1), Keys(None), config)) as client:
        yield client


def json_call(images: np.ndarray[Any, Any] = IMAGES, **more: Any) -> dict[str, Any]:
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape), "data": images.tolist()}
    return {"inputs": [tensor], **more}


def binary_call(images: np.ndarray[Any, Any] = IMAGES, **more: Any) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a call whose tensor follows the JSON."""
    tensor = {
        "name": "images",
        "datatype": "UINT8",
        "shape": list(images.shape),
        "parameters": {"binary_data_size": images.nbytes},
    }
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + images.tobytes(), {"inference-header-content-length": str(len(head))}


def tensors(response: httpx2.Response) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs of an answer, whether in JSON or behind it."""
    assert response.status_code == 200, response.text
    length = response.headers.get("inference-header-content-length")
    document = json.loads(response.content[: int(length)] if length else response.content)
    binary = response.content[int(length) :] if length else b""
    found = {}
    for output in document["outputs"]:
        values = output.get("data")
        if values is None:
            size = output["parameters"]["binary_data_size"]
            values, binary = np.frombuffer(binary[:size], "<f4"), binary[size:]
        found[output["name"]] = np.asarray(values, np.float32).reshape(output["shape"])
    assert binary == b""
    return found


def refused(response: httpx2.Response, status: int, says: str = "") -> None:
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error"}
    assert says in response.json()["error"]


def test_the_server_describes_itself(client: TestClient) -> None:
    document = client.get("/v2").json()
    assert document["name"] == "digitserve"
    assert {"binary_tensor_data", "classification"} <= set(document["extensions"])


def test_health_is_told(client: TestClient) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/mnist-cnn/ready"):
        assert client.get(path).status_code == 200, path


def test_a_draining_server_is_not_ready(folder: Path) -> None:
    config = Settings(models_dir=folder)
    repository, drain = Repository(config), Drain(drain_s=0, workers=1)
    client = TestClient(web_app(repository, drain, Keys(None), config))
    refused(client.get("/v2/health/ready"), 503)
    repository.open()
    assert client.get("/v2/health/ready").status_code == 200
    drain.draining = True
    refused(client.get("/v2/health/ready"), 503)


def test_metadata_and_config_describe_the_tensors(client: TestClient) -> None:
    metadata = client.get("/v2/models/mnist-cnn").json()
    assert metadata["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}]
    assert [output["name"] for output in metadata["outputs"]] == ["probabilities", "typicality"]
    [version] = metadata["versions"]
    assert client.get(f"/v2/models/mnist-cnn/versions/{version}").json() == metadata
    config = client.get("/v2/models/mnist-cnn/config").json()
    assert config["input"][0]["dims"] == [28, 28]


def test_an_unknown_model_or_version_is_refused(client: TestClient) -> None:
    refused(client.get("/v2/models/absent"), 404, "absent")
    refused(client.get("/v2/models/mnist-cnn/versions/1"), 404, "version")
    refused(client.post("/v2/models/absent/infer", json=json_call()), 404)


def test_json_and_binary_tensors_give_what_the_network_gives(client: TestClient) -> None:
    body, headers = binary_call()
    for response in (
        client.post(INFER, json=json_call()),
        client.post(INFER, content=body, headers=headers),
        client.post(INFER, json=json_call(parameters={"binary_data_output": True})),
        client.post(INFER, json=json_call(outputs=[{"name": "typicality"}, {"name": "probabilities"}])),
        client.post(
            INFER,
            json=json_call(
                outputs=[
                    {"name": "probabilities", "parameters": {"binary_data": True}},
                    {"name": "typicality", "parameters": {"binary_data": False}},
                ]
            ),
        ),
    ):
        found = tensors(response)
        np.testing.assert_allclose(found["probabilities"], expected(IMAGES)[0], atol=1e-6)
        np.testing.assert_allclose(found["typicality"], expected(IMAGES)[1])


def test_a_call_keeps_its_id_and_only_the_outputs_it_asked_for(client: TestClient) -> None:
    document = client.post(INFER, json=json_call(id="call 7", outputs=[{"name": "typicality"}])).json()
    assert document["id"] == "call 7"
    assert [output["name"] for output in document["outputs"]] == ["typicality"]


def test_flat_data_is_read_like_nested_data(client: TestClient) -> None:
    call = json_call()
    call["inputs"][0]["data"] = IMAGES.reshape(-1).tolist()
    np.testing.assert_allclose(tensors(client.post(INFER, json=call))["typicality"], expected(IMAGES)[1])


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies_are_read(client: TestClient, encoding: str, compress: Any) -> None:
    body, headers = binary_call()
    headers["content-encoding"] = encoding
    response = client.post(INFER, content=compress(body), headers=headers)
    np.testing.assert_allclose(tensors(response)["typicality"], expected(IMAGES)[1])


@pytest.mark.parametrize(("encoding", "inflate"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_answers_are_compressed_when_asked(client: TestClient, encoding: str, inflate: Any) -> None:
    images = np.tile(IMAGES, (4, 1, 1))
    body, headers = binary_call(images, parameters={"binary_data_output": True})
    plain = client.post(INFER, content=body, headers={**headers, "accept-encoding": "identity"})
    asked = {**headers, "accept-encoding": f"{encoding}, br;q=0.5"}
    with client.stream("POST", INFER, content=body, headers=asked) as response:
        sent = b"".join(response.iter_raw())
    assert "content-encoding" not in plain.headers
    assert response.headers["content-encoding"] == encoding
    assert int(response.headers["content-length"]) == len(sent) < len(plain.content)
    assert inflate(sent) == plain.content, "the length of the JSON is that within the inflated body"


def test_a_call_may_bring_an_earlier_deadline_but_no_later_one(client: TestClient) -> None:
    refused(client.post(INFER, json=json_call(parameters={"timeout": 1})), 504)
    assert client.post(INFER, json=json_call(parameters={"timeout": 0})).status_code == 200
    assert client.post(INFER, json=json_call(parameters={"timeout": 10**12})).status_code == 200
    for nonsense in (-1, 10**400):
        refused(client.post(INFER, json=json_call(parameters={"timeout": nonsense})), 400, "timeout")
    call = json_call()
    call["inputs"][0]["shape"] = [10**4299, 28, 28]
    refused(client.post(INFER, json=call), 400, "shape")


def test_a_body_that_inflates_past_the_limit_is_refused(client: TestClient) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    refused(client.post(INFER, content=bomb, headers={"content-encoding": "gzip"}), 413, "inflates")


def test_classification_gives_value_index_and_label(client: TestClient) -> None:
    wanted = [{"name": "probabilities", "parameters": {"classification": 2}}]
    [output] = client.post(INFER, json=json_call(IMAGES[:3], outputs=wanted)).json()["outputs"]
    assert output["datatype"] == "BYTES"
    assert output["shape"] == [3, 2]
    value, index, label = output["data"][0].split(":")
    assert int(index) == IMAGES[0, 0, 0] % 10
    assert label == index
    assert float(value) == pytest.approx(expected(IMAGES)[0].max(), abs=1e-5)


def test_classification_in_binary_has_lengths_before_its_texts(client: TestClient) -> None:
    wanted = [{"name": "probabilities", "parameters": {"classification": 1, "binary_data": True}}]
    response = client.post(INFER, json=json_call(IMAGES[:1], outputs=wanted))
    text = response.content[int(response.headers["inference-header-content-length"]) :]
    (length,) = struct.unpack_from("<I", text)
    assert len(text) == 4 + length
    assert text.endswith(b":%d:%d" % (IMAGES[0, 0, 0] % 10, IMAGES[0, 0, 0] % 10))


def picture() -> bytes:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[10:50, 30:36] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_encoded_pictures_are_read_as_bytes_tensors(client: TestClient) -> None:
    content = picture()
    element = struct.pack("<I", len(content)) + content
    tensor = {"name": "images", "datatype": "BYTES", "shape": [2]}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 2 * len(element)}}]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    in_binary = tensors(client.post(INFER, content=head + element * 2, headers=headers))
    in_json = tensors(
        client.post(INFER, json={"inputs": [{**tensor, "data": [base64.b64encode(content).decode()] * 2}]})
    )
    assert in_binary["probabilities"].shape == (2, 10)
    np.testing.assert_array_equal(in_binary["probabilities"], in_json["probabilities"])


def test_a_bad_picture_in_a_bytes_tensor_is_refused(client: TestClient) -> None:
    tensor = {"name": "images", "datatype": "BYTES", "shape": [2]}
    good, bad = base64.b64encode(picture()).decode(), base64.b64encode(b"text").decode()
    refused(client.post(INFER, json={"inputs": [{**tensor, "data": [good, bad]}]}), 415)
    refused(client.post(INFER, json={"inputs": [{**tensor, "data": [bad, bad]}]}), 422)
    refused(client.post(INFER, json={"inputs": [{**tensor, "data": [good]}]}), 400, "1 elements")
    refused(client.post(INFER, json={"inputs": [{**tensor, "shape": [1, 2], "data": [good] * 2}]}), 400)
    refused(client.post(INFER, json={"inputs": [{**tensor, "shape": [1], "data": ["?"]}]}), 400)


@pytest.mark.parametrize(
    ("content", "headers", "says"),
    [
        (b"", {}, "JSON"),
        (b"{}", {}, "inputs"),
        (b"{}", {"inference-header-content-length": "3"}, "Inference-Header-Content-Length"),
        (b"{}", {"inference-header-content-length": "9" * 5_000}, "Inference-Header-Content-Length"),
        (b"{}", {"content-encoding": "gzip"}, "gzip"),
        (json.dumps(json_call(outputs=[{"name": "logits"}])).encode(), {}, "logits"),
    ],
)
def test_a_malformed_call_is_refused_with_what_is_wrong(
    client: TestClient, content: bytes, headers: dict[str, str], says: str
) -> None:
    refused(client.post(INFER, content=content, headers=headers), 400, says)


def test_257_images_are_refused(client: TestClient) -> None:
    refused(client.post(INFER, json=json_call(np.zeros((257, 28, 28), np.uint8))), 413, "at most 256")


def test_a_binary_tensor_of_another_length_is_refused(client: TestClient) -> None:
    body, headers = binary_call()
    refused(client.post(INFER, content=body[:-1], headers=headers), 400, "follow the JSON")
    refused(client.post(INFER, content=body + b"0", headers=headers), 400, "follow the JSON")


def test_statistics_count_images_and_batches(client: TestClient) -> None:
    def statistics() -> dict[str, Any]:
        [found] = client.get("/v2/models/second/stats").json()["model_stats"]
        return dict(found)

    before = statistics()
    client.post("/v2/models/second/infer", json=json_call())
    after = statistics()
    assert after["inference_count"] - before["inference_count"] == len(IMAGES)
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert len(client.get("/v2/models/stats").json()["model_stats"]) == 2


def index(client: TestClient) -> dict[str, tuple[str, str]]:
    entries = client.post("/v2/repository/index", json={}).json()
    return {entry["name"]: (entry["state"], entry["reason"]) for entry in entries}


def test_a_model_is_unloaded_and_loaded_again(client: TestClient) -> None:
    assert client.post("/v2/repository/models/second/unload", json={}).status_code == 200
    assert index(client)["second"] == ("UNAVAILABLE", "unloaded")
    refused(client.post("/v2/models/second/infer", json=json_call()), 404)
    refused(client.post("/v2/repository/models/second/unload"), 404)
    assert client.post("/v2/repository/models/second/load", json={}).status_code == 200
    assert index(client)["second"] == ("READY", "")
    refused(client.post("/v2/repository/models/absent/load"), 404)
    refused(client.post("/v2/repository/models/..%2Fsecret/load"), 404)


def test_a_broken_artifact_is_not_loaded_and_the_old_one_goes_on(client: TestClient, folder: Path) -> None:
    path = folder / "second.onnx"
    good = path.read_bytes()
    path.write_bytes(good[:-300])
    refused(client.post("/v2/repository/models/second/load"), 409, "second: ")
    state, reason = index(client)["second"]
    assert state == "READY"
    assert reason.startswith("second: ")
    assert client.post("/v2/models/second/infer", json=json_call()).status_code == 200
    path.write_bytes(good)
    assert client.post("/v2/repository/models/second/load").status_code == 200
    assert index(client)["second"] == ("READY", "")


def test_loading_is_refused_unless_it_is_switched_on(folder: Path) -> None:
    config = Settings(models_dir=folder)
    repository = Repository(config)
    repository.open()
    client = TestClient(web_app(repository, Drain(drain_s=0, workers=1), Keys(None), config))
    for action in ("load", "unload"):
        refused(client.post(f"/v2/repository/models/second/{action}"), 403, "MODEL_CONTROL")


def test_a_wrong_method_is_refused(client: TestClient) -> None:
    assert client.get(INFER).status_code == 405
    assert client.post("/v2/health/live").status_code == 405
    refused(client.request("PROPFIND", INFER), 405)
