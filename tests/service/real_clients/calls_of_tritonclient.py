"""Every call of tritonclient[http] that applies, on a server of ours that allows loading and unloading."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import urllib.request
import zlib
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from PIL import Image
from tritonclient.utils import InferenceServerException

URL = os.environ["DIGITSERVE_TEST_URL"]
GOLDEN = os.environ["DIGITSERVE_TEST_GOLDEN"]  # what the model NAME must answer
HOST = URL.removeprefix("http://")
NAME = "mnist-cnn"
OTHER = "fashion-mnist-cnn"

with np.load(GOLDEN) as golden:
    IMAGES, PROBABILITIES, TYPICALITY = (golden[key] for key in ("images", "probabilities", "typicality"))
LABELS = PROBABILITIES.argmax(axis=1)


def connect(**options: Any) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(HOST, **options)


def pixels(images: Any = IMAGES, *, binary: bool = True) -> list[triton.InferInput]:
    tensor = triton.InferInput("images", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images, binary_data=binary)
    return [tensor]


def png(image: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def agrees(result: Any, *, first: int = len(IMAGES)) -> None:
    np.testing.assert_allclose(result.as_numpy("probabilities"), PROBABILITIES[:first], atol=1e-4)
    np.testing.assert_allclose(result.as_numpy("typicality"), TYPICALITY[:first], rtol=1e-3, atol=1e-3)


def refused(call: Any, status: str, says: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        call()
    assert caught.value.status() == status, caught.value
    assert says in caught.value.message(), caught.value


def test_the_server_and_the_model_are_live_and_ready() -> None:
    client = connect()
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, model_version=client.get_model_metadata(NAME)["versions"][0])
    assert not client.is_model_ready("absent")


def test_metadata_and_config_name_the_tensors() -> None:
    client = connect()
    server = client.get_server_metadata()
    assert server["name"] == "digitserve"
    assert {"binary_tensor_data", "classification", "model_repository", "statistics"} <= set(
        server["extensions"]
    )
    metadata = client.get_model_metadata(NAME)
    assert metadata["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}]
    assert client.get_model_metadata(NAME, model_version=metadata["versions"][0]) == metadata
    config = client.get_model_config(NAME)
    assert [tensor["name"] for tensor in config["output"]] == ["probabilities", "typicality"]
    refused(lambda: client.get_model_metadata("absent"), "404", "absent")


def test_binary_tensors_are_answered() -> None:
    result = connect().infer(NAME, pixels())
    agrees(result)
    assert result.get_output("probabilities")["parameters"]["binary_data_size"] == PROBABILITIES.nbytes


def test_json_tensors_are_answered() -> None:
    outputs = [
        triton.InferRequestedOutput(name, binary_data=False) for name in ("probabilities", "typicality")
    ]
    result = connect().infer(NAME, pixels(binary=False), outputs=outputs)
    agrees(result)
    assert "data" in result.get_output("probabilities")


def test_outputs_may_mix_both_ways_and_come_in_any_order() -> None:
    outputs = [
        triton.InferRequestedOutput("typicality", binary_data=False),
        triton.InferRequestedOutput("probabilities", binary_data=True),
    ]
    result = connect().infer(NAME, pixels(), outputs=outputs)
    agrees(result)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["typicality", "probabilities"]


def test_a_request_keeps_its_id_and_may_name_the_version() -> None:
    client = connect()
    version = client.get_model_metadata(NAME)["versions"][0]
    result = client.infer(NAME, pixels(), model_version=version, request_id="seven")
    assert result.get_response()["id"] == "seven"
    assert result.get_response()["model_version"] == version
    refused(lambda: client.infer(NAME, pixels(), model_version="1"), "404", version)


def test_requests_may_be_compressed() -> None:
    for algorithm in ("gzip", "deflate"):
        agrees(connect().infer(NAME, pixels(), request_compression_algorithm=algorithm))


def test_responses_are_compressed_when_asked() -> None:
    for algorithm in ("gzip", "deflate"):
        agrees(connect().infer(NAME, pixels(), response_compression_algorithm=algorithm))
        both = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
        agrees(connect().infer(NAME, pixels(binary=False), **both))


def test_bodies_made_and_parsed_apart_from_the_call_are_the_same() -> None:
    """As people do who send with another HTTP library; here Python's own, which also shows the headers."""
    body, json_size = triton.InferenceServerClient.generate_request_body(pixels())
    for algorithm, inflate in ((None, bytes), ("gzip", gzip.decompress), ("deflate", zlib.decompress)):
        request = urllib.request.Request(f"{URL}/v2/models/{NAME}/infer", body)
        request.add_header("Inference-Header-Content-Length", str(json_size))
        request.add_header("Accept-Encoding", algorithm or "identity")
        with urllib.request.urlopen(request) as response:
            content, headers = response.read(), response.headers
        assert headers["Content-Encoding"] == algorithm
        assert len(inflate(content)) > PROBABILITIES.nbytes
        result = triton.InferenceServerClient.parse_response_body(
            content,
            header_length=int(headers["Inference-Header-Content-Length"]),
            content_encoding=headers["Content-Encoding"],
        )
        agrees(result)


def test_many_asynchronous_calls_are_each_answered_with_their_own() -> None:
    client = connect(concurrency=8)
    calls = [client.async_infer(NAME, pixels(IMAGES[n : n + 1])) for n in range(32)]
    for n, call in enumerate(calls):
        found = call.get_result().as_numpy("probabilities")
        np.testing.assert_allclose(found, PROBABILITIES[n : n + 1], atol=1e-4)


def test_the_asyncio_client_is_answered_too() -> None:
    asyncio.run(ask_asyncio_client())


async def ask_asyncio_client() -> None:
    async with triton_aio.InferenceServerClient(HOST) as client:
        assert await client.is_server_live()
        assert await client.is_model_ready(NAME)
        assert (await client.get_model_metadata(NAME))["name"] == NAME
        agrees(await client.infer(NAME, pixels(), response_compression_algorithm="gzip"))
        agrees(await client.infer(NAME, pixels(binary=False), request_compression_algorithm="deflate"))


def test_classification_ranks_values_indices_and_labels() -> None:
    for binary in (True, False):
        wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)]
        classes = connect().infer(NAME, pixels(), outputs=wanted).as_numpy("probabilities")
        assert classes.shape == (len(IMAGES), 3)
        for row, label, probabilities in zip(classes, LABELS, PROBABILITIES, strict=True):
            texts = [text.decode() if isinstance(text, bytes) else text for text in row]
            value, index, name = texts[0].split(":")
            assert (int(index), name) == (label, str(label))
            np.testing.assert_allclose(float(value), probabilities[label], atol=1e-4)
            values = [float(text.split(":")[0]) for text in texts]
            assert values == sorted(values, reverse=True)


def test_encoded_pictures_are_read_from_bytes_inputs() -> None:
    pictures = np.array([png(image) for image in IMAGES[:8]], dtype=np.object_)
    tensor = triton.InferInput("images", [8], "BYTES")
    tensor.set_data_from_numpy(pictures)
    agrees(connect().infer(NAME, [tensor]), first=8)


def test_a_bad_picture_in_a_bytes_input_is_refused_with_a_sentence() -> None:
    tensor = triton.InferInput("images", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([b"no picture"], dtype=np.object_))
    refused(lambda: connect().infer(NAME, [tensor]), "415", "")


def test_a_wrong_shape_or_type_is_refused_with_a_sentence() -> None:
    refused(lambda: connect().infer(NAME, pixels(IMAGES[:, :27])), "400", "[n, 28, 28]")
    tensor = triton.InferInput("images", list(IMAGES.shape), "FP32")
    tensor.set_data_from_numpy(IMAGES.astype(np.float32))
    refused(lambda: connect().infer(NAME, [tensor]), "400", "UINT8")


def test_a_deadline_in_the_request_is_kept() -> None:
    """In microseconds, as Triton has it; one that no inference can meet."""
    refused(lambda: connect().infer(NAME, pixels(), timeout=1), "504", "")
    agrees(connect().infer(NAME, pixels(), timeout=60_000_000))


def test_statistics_count_inferences_and_executions() -> None:
    client = connect()

    def count() -> tuple[int, int]:
        [found] = client.get_inference_statistics(NAME)["model_stats"]
        return found["inference_count"], found["execution_count"]

    images, executions = count()
    client.infer(NAME, pixels())
    after_images, after_executions = count()
    assert after_images - images == len(IMAGES)
    assert after_executions > executions
    assert {each["name"] for each in client.get_inference_statistics()["model_stats"]} >= {NAME, OTHER}


def test_a_model_is_unloaded_and_loaded_again() -> None:
    client = connect()

    def state() -> str:
        return next(str(e["state"]) for e in client.get_model_repository_index() if e["name"] == OTHER)

    assert state() == "READY"
    client.unload_model(OTHER, unload_dependents=True)
    assert state() == "UNAVAILABLE"
    assert not client.is_model_ready(OTHER)
    refused(lambda: client.infer(OTHER, pixels()), "404", OTHER)
    client.load_model(OTHER)
    assert state() == "READY"
    assert client.is_model_ready(OTHER)
    refused(lambda: client.load_model("absent"), "404", "absent")


def test_extensions_that_are_not_offered_are_refused_in_the_protocols_words() -> None:
    client = connect()
    offered = client.get_server_metadata()["extensions"]
    for extension, call in {
        "trace": client.get_trace_settings,
        "logging": client.get_log_settings,
        "system_shared_memory": client.get_system_shared_memory_status,
        "cuda_shared_memory": client.get_cuda_shared_memory_status,
    }.items():
        assert extension not in offered
        refused(call, "404", "nothing at")
