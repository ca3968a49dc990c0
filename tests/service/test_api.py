"""Every row of the status table, on the real routes in this process; nothing a caller sends ends in a 500."""

from __future__ import annotations

import base64
import io
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient
from tiny import write_artifact

from service.access import Keys
from service.app import web_app
from service.draining import Drain
from service.repository import Repository
from service.settings import Settings


@contextmanager
def serving(config: Settings) -> Iterator[TestClient]:
    """A client of the routes in this process."""
    repository = Repository(config)
    repository.open()
    app = web_app(repository, Drain(drain_s=0, workers=1), Keys(None), config)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def client(tiny_models: Path) -> Iterator[TestClient]:
    with serving(Settings(models_dir=tiny_models, max_request_bytes=1_000_000, max_queue=256)) as client:
        yield client


def picture(first_pixel: int, kind: str = "PNG", size: int = 28, **options: Any) -> bytes:
    """A grey picture whose first pixel is what the tiny network answers, modulo ten."""
    pixels = np.full((size, size), 200, np.uint8)
    pixels[0, 0] = first_pixel
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size; its pixels are not there."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + crc


def post(
    client: TestClient, body: bytes = b"", path: str = "/predict?canonical=never", **options: Any
) -> Any:
    return client.post(path, content=body, **options)


def error(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The error of a response of the one shape that all errors have."""
    assert response.status_code == status, response.text
    document = response.json()
    assert document.keys() == {"error"}
    assert document["error"]["code"] == code
    assert document["error"]["message"]
    assert document["error"]["request_id"] == response.headers["x-request-id"]
    found: dict[str, Any] = document["error"]
    return found


def labels(response: httpx2.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [prediction["label"] for prediction in response.json()["predictions"]]


def test_a_raw_body_is_answered_whatever_its_declared_type_and_length(client: TestClient) -> None:
    for declared in ("image/png", "image/jpg", "text/plain", "application/json"):
        assert labels(post(client, picture(7), headers={"content-type": declared})) == ["7"]


def test_a_jpeg_declared_image_jpg_and_named_txt_is_simply_answered(client: TestClient) -> None:
    jpeg = picture(0, "JPEG")
    response = client.post("/predict", files={"x": ("notes.txt", jpeg, "image/jpg")})
    assert response.status_code == 200


def test_a_form_of_many_files_is_answered_in_order(client: TestClient) -> None:
    files = [("image", (f"{n}.png", picture(n), "image/png")) for n in (3, 1, 4, 1, 5, 9, 2, 6)]
    assert labels(client.post("/predict?canonical=never", files=files)) == list("31415926")


def test_json_of_base64_is_answered_in_order(client: TestClient) -> None:
    encoded = [base64.b64encode(picture(n)).decode() for n in (2, 7)]
    document = {"images": [encoded[0], f"data:image/png;base64,{encoded[1]}"]}
    assert labels(client.post("/predict?canonical=never", json=document)) == ["2", "7"]


@pytest.mark.parametrize("kind", ["PNG", "WebP", "GIF", "BMP", "TIFF"])
def test_every_lossless_format_is_read(client: TestClient, kind: str) -> None:
    options = {"lossless": True} if kind == "WebP" else {}
    assert labels(post(client, picture(6, kind, **options))) == ["6"]


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "WebP"])
def test_every_lossy_format_is_read(client: TestClient, kind: str) -> None:
    assert len(labels(post(client, picture(0, kind)))) == 1


def test_an_answer_has_the_documented_shape(client: TestClient) -> None:
    response = client.post("/predict?canonical=never&top_k=2", content=picture(7))
    document = response.json()
    assert document["model"] == "mnist-cnn"
    assert len(document["version"]) == 12
    [prediction] = document["predictions"]
    assert prediction.keys() == {"label", "index", "probability", "top", "prediction_set", "in_distribution"}
    assert prediction["index"] == 7
    assert prediction["probability"] == pytest.approx(np.exp(8) / (np.exp(8) + 9), abs=1e-5)
    assert [entry["label"] for entry in prediction["top"]] == ["7", "0"]
    assert prediction["prediction_set"] == ["7"]
    assert prediction["in_distribution"] is True


def digits(*texts: str) -> bytes:
    """A picture of digits side by side."""
    drawing = np.full((100, 90 * len(texts)), 255, np.uint8)
    for place, text in enumerate(texts):
        cv2.putText(drawing, text, (90 * place + 20, 80), cv2.FONT_HERSHEY_SIMPLEX, 2.5, 0, 7)
    out = io.BytesIO()
    Image.fromarray(drawing).save(out, "PNG")
    return out.getvalue()


def test_several_digits_on_one_picture_are_refused_by_default(client: TestClient) -> None:
    found = error(post(client, digits("4", "2"), "/predict"), 422, "several_digits")
    assert "segments=true" in found["message"]


def test_with_segments_each_digit_of_each_picture_is_answered_with_its_box(client: TestClient) -> None:
    contents = [digits("3", "1", "4"), b"text", digits("8")]
    files = [("f", (f"{n}.png", content)) for n, content in enumerate(contents)]
    several, refused, one = client.post("/predict?segments=true&pixels=true", files=files).json()[
        "predictions"
    ]
    assert refused["error"]["code"] == "unsupported_format"
    assert [len(entry["segments"]) for entry in (several, one)] == [3, 1]
    lefts = [digit["box"]["x"] for digit in several["segments"]]
    assert [left // 90 for left in lefts] == [0, 1, 2]
    for digit in several["segments"]:
        assert digit["box"].keys() == {"x", "y", "width", "height"}
        assert {"label", "index", "probability", "top", "prediction_set", "in_distribution"} < digit.keys()
        pixels = np.frombuffer(base64.b64decode(digit["pixels"]), np.uint8)
        assert digit["label"] == str(pixels[0] % 10)


def test_digits_beyond_the_most_images_of_a_request_are_refused(tiny_models: Path) -> None:
    config = Settings(models_dir=tiny_models, max_images=2)
    with serving(config) as client:
        refused = client.post("/predict?segments=true", content=digits("3", "1", "4"))
        error(refused, 413, "too_many_images")
        assert client.post("/predict?segments=true", content=digits("3", "1")).status_code == 200


def test_segments_are_for_digits_that_need_to_be_found(client: TestClient, tmp_path: Path) -> None:
    error(client.post("/predict?segments=true&canonical=never", content=picture(1)), 400, "bad_request")
    write_artifact(tmp_path, "garments", dataset="fashion-mnist", canonical_form="garment")
    with serving(Settings(models_dir=tmp_path, default_model="garments")) as wardrobe:
        error(wardrobe.post("/predict?segments=true", content=picture(1)), 400, "bad_request")


def test_a_bad_image_has_its_error_in_its_place_and_the_rest_is_answered(client: TestClient) -> None:
    contents = [picture(4), picture(5)[:60], b"", picture(6)]
    files = [("f", (f"{n}.png", content, "image/png")) for n, content in enumerate(contents)]
    response = client.post("/predict?canonical=never", files=files)
    assert response.status_code == 200
    predictions = response.json()["predictions"]
    assert [p.get("label") or p["error"]["code"] for p in predictions] == [
        "4",
        "undecodable_image",
        "empty_upload",
        "6",
    ]


def test_when_all_images_are_bad_each_has_its_error_in_the_details(client: TestClient) -> None:
    files = [("f", ("a", b"text")), ("f", ("b", picture(5)[:60]))]
    found = error(client.post("/predict", files=files), 422, "all_images_rejected")
    codes = [detail["error"]["code"] for detail in found["details"]]
    assert codes == ["unsupported_format", "undecodable_image"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_request"),
        (b"Dear service, this is a seven.", 415, "unsupported_format"),
        (b"%PDF-1.7 ...", 415, "unsupported_format"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", 415, "unsupported_format"),
        (picture(7)[:60], 422, "undecodable_image"),
        (picture(7, "JPEG")[:300], 422, "undecodable_image"),
        (png_header(0, 0), 422, "undecodable_image"),
        (png_header(20_000, 20_000), 413, "image_too_large"),
        (picture(200, size=1), 422, None),
        (bytes(2_000_000), 413, "request_too_large"),
        (b"{", 400, "bad_request"),
        (b'{"images": ["%"]}', 400, "bad_base64"),
        (b'{"images": [""]}', 400, "empty_upload"),
    ],
)
def test_a_bad_body_has_its_status(client: TestClient, body: bytes, status: int, code: str | None) -> None:
    response = client.post("/predict", content=body)
    error(response, status, code or response.json()["error"]["code"])


def test_heic_is_named_with_what_to_do(client: TestClient) -> None:
    found = error(post(client, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), 415, "unsupported_format")
    assert "HEIC" in found["message"]
    assert "JPEG" in found["message"]


@pytest.mark.parametrize("mode", ["auto", "never"])
@pytest.mark.parametrize("shade", [0, 255, 128])
def test_a_blank_picture_is_refused(client: TestClient, mode: str, shade: int) -> None:
    out = io.BytesIO()
    Image.new("L", (28, 28), shade).save(out, "PNG")
    if (mode, shade) == ("never", 0) or mode == "auto":
        error(client.post(f"/predict?canonical={mode}", content=out.getvalue()), 422, "empty_image")


def test_a_form_without_files_or_boundary_is_refused(client: TestClient) -> None:
    plain = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nhello\r\n--x--\r\n'
    for content_type in ("multipart/form-data; boundary=x", "multipart/form-data"):
        error(post(client, plain, headers={"content-type": content_type}), 400, "bad_request")


def test_257_images_are_refused(client: TestClient) -> None:
    tiny = picture(1)
    files = [("f", ("x", tiny))] * 257
    error(client.post("/predict?canonical=never", files=files), 413, "too_many_images")
    error(client.post("/predict", json={"images": ["aGk="] * 257}), 413, "too_many_images")
    assert len(labels(client.post("/predict?canonical=never", files=files[:256]))) == 256


@pytest.mark.parametrize(
    "query",
    ["top_k=0", "top_k=11", "top_k=many", "top_k=", "canonical=sometimes", "topk=3", "model=a&canonical=x"],
)
def test_a_bad_parameter_is_refused_by_its_name(client: TestClient, query: str) -> None:
    found = error(client.post(f"/predict?{query}", content=picture(1)), 400, "bad_request")
    assert query.rpartition("&")[2].partition("=")[0] in found["message"]


def test_an_unknown_model_is_refused_with_the_nearest_name(client: TestClient) -> None:
    found = error(client.post("/predict?model=mnist-cmn", content=picture(1)), 404, "model_not_found")
    assert "mnist-cnn" in found["message"]
    error(client.get("/models/nothing"), 404, "model_not_found")


def test_an_unknown_route_and_a_wrong_method_are_refused(client: TestClient) -> None:
    error(client.get("/predictions"), 404, "route_not_found")
    wrong = client.get("/predict")
    error(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    error(client.delete("/models"), 405, "method_not_allowed")
    error(client.request("PROPFIND", "/models"), 405, "method_not_allowed")
    error(client.request("PROPFIND", "/predictions"), 404, "route_not_found")


def test_the_page_has_its_own_files_and_no_other(client: TestClient) -> None:
    assert client.get("/ui/page.js").status_code == 200
    redirect = client.get("/ui/", follow_redirects=False)
    assert (redirect.status_code, redirect.headers["location"]) == (308, "../ui")
    for path in ("/ui/absent.js", "/ui/screenshot.png", "/ui/..%2fapi.py"):
        assert client.get(path).status_code == 404, path


def test_canonical_never_takes_28x28_only(client: TestClient) -> None:
    error(post(client, picture(3, size=29)), 422, "not_canonical")


def test_models_are_described(client: TestClient) -> None:
    document = client.get("/models").json()
    assert document["default"] == "mnist-cnn"
    [model] = document["models"]
    assert model == client.get("/models/mnist-cnn").json()
    assert model["labels"] == list("0123456789")
    assert model["provider"] == "CPUExecutionProvider"
    assert model["test_accuracy"] == 0.5


def test_a_harmless_request_id_is_repeated_and_any_other_replaced(client: TestClient) -> None:
    assert client.get("/models", headers={"x-request-id": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    for unsafe in ("a b", "x" * 65, "<script>", "a;b"):
        replaced = client.get("/models", headers={"x-request-id": unsafe}).headers["x-request-id"]
        assert replaced != unsafe
        assert len(replaced) == 32


def test_metrics_count_requests_by_route_and_status(client: TestClient) -> None:
    client.get("/secret/42")
    text = client.get("/metrics").text
    assert 'digitserve_requests_total{route="/{path:path}",status="404"}' in text
    assert "/secret/42" not in text
    assert 'digitserve_batch_images_count{model="mnist-cnn"}' in text


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=300), start=st.sampled_from([b"", picture(7), picture(7, "GIF"), b'{"images":'])
)
def test_no_body_ends_in_a_500(client: TestClient, body: bytes, start: bytes) -> None:
    response = client.post("/predict", content=start + body)
    assert response.status_code < 500


def test_what_is_read_after_the_deadline_is_not_waited_for(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One deadline holds for reading, waiting and computing together."""

    def slow_read(*_: Any, **__: Any) -> np.ndarray[Any, Any]:
        time.sleep(0.2)
        return np.zeros((28, 28), np.uint8)

    monkeypatch.setattr("service.reading.read_image", slow_read)
    with serving(Settings(models_dir=tiny_models, timeout_ms=100)) as client:
        error(post(client, picture(1)), 504, "deadline_exceeded")
