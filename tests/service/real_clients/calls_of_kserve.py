"""Every call of KServe's InferenceRESTClient that the protocol's version 2 has, on a server of ours."""

from __future__ import annotations

import asyncio
import io
import os
from typing import Any

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from PIL import Image

URL = os.environ["DIGITSERVE_TEST_URL"]
GOLDEN = os.environ["DIGITSERVE_TEST_GOLDEN"]  # what the model NAME must answer
NAME = "mnist-cnn"

with np.load(GOLDEN) as golden:
    IMAGES, PROBABILITIES, TYPICALITY = (golden[key] for key in ("images", "probabilities", "typicality"))


def connect() -> InferenceRESTClient:
    return InferenceRESTClient(RESTConfig(protocol="v2"))


def pixels(*, binary: bool) -> InferInput:
    tensor = InferInput("images", list(IMAGES.shape), "UINT8")
    tensor.set_data_from_numpy(IMAGES, binary_data=binary)
    return tensor


def infer(tensor: InferInput, **options: Any) -> dict[str, Any]:
    request = InferRequest(NAME, [tensor], **options)
    response = asyncio.run(connect().infer(URL, request, model_name=NAME))
    assert response.model_name == NAME
    return {output.name: output.as_numpy() for output in response.outputs}


def agrees(found: dict[str, Any], *, first: int = len(IMAGES)) -> None:
    np.testing.assert_allclose(found["probabilities"], PROBABILITIES[:first], atol=1e-4)
    np.testing.assert_allclose(found["typicality"], TYPICALITY[:first], rtol=1e-3, atol=1e-3)


def test_the_server_and_the_model_are_live_and_ready() -> None:
    async def ask() -> list[bool]:
        client = connect()
        return [
            await client.is_server_live(URL),
            await client.is_server_ready(URL),
            await client.is_model_ready(URL, NAME),
            await client.is_model_ready(URL, "absent"),
        ]

    assert asyncio.run(ask()) == [True, True, True, False]


def test_tensors_in_json_are_answered() -> None:
    agrees(infer(pixels(binary=False)))


def test_tensors_in_bytes_are_answered() -> None:
    agrees(infer(pixels(binary=True)))
    agrees(infer(pixels(binary=True), parameters={"binary_data_output": True}))


def test_outputs_may_be_chosen_one_by_one() -> None:
    chosen = [RequestedOutput("typicality", {"binary_data": True})]
    found = infer(pixels(binary=True), request_outputs=chosen)
    assert found.keys() == {"typicality"}
    np.testing.assert_allclose(found["typicality"], TYPICALITY, rtol=1e-3, atol=1e-3)


def test_encoded_pictures_are_read_from_bytes_inputs() -> None:
    pictures = []
    for image in IMAGES[:8]:
        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG")
        pictures.append(out.getvalue())
    tensor = InferInput("images", [8], "BYTES")
    tensor.set_data_from_numpy(np.array(pictures, dtype=np.object_), binary_data=True)
    agrees(infer(tensor), first=8)


def test_a_refusal_tells_its_reason() -> None:
    tensor = InferInput("images", [1, 28, 27], "UINT8")
    tensor.set_data_from_numpy(IMAGES[:1, :, :27], binary_data=True)
    with pytest.raises(httpx.HTTPStatusError, match=r"\[n, 28, 28\]") as caught:
        infer(tensor)
    assert caught.value.response.status_code == 400
