"""The series that Prometheus reads: what they count, with bounded labels, over all workers of a server."""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families
from real_server import ROOT, Server, StartServer
from starlette.testclient import TestClient
from tiny import write_artifact

from service import artifacts, metrics
from service.access import Keys
from service.answers import describe
from service.app import web_app
from service.artifacts import Classifier
from service.batching import Batcher, Images, Outputs
from service.draining import Drain
from service.errors import Overloaded
from service.exposition import AllWorkers, model_totals
from service.metrics import BulkHistogram, ModelMetrics
from service.repository import Repository
from service.settings import Settings

NEVER = "/predict?canonical=never"
INFER = "/v2/models/mnist-cnn/infer"


def picture(label: int) -> bytes:
    """A picture that the tiny network reads as `label`."""
    pixels = np.full((28, 28), 200, np.uint8)
    pixels[0, 0] = label
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def sample(name: str, **labels: str) -> float:
    """The value of one series of this process, 0 where it does not exist yet."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Change:
    """How much series of this process grew since it was made; other tests use the same ones."""

    def __init__(self) -> None:
        metrics.GATHERED.count()  # what earlier tests left
        self._before = {(s.name, frozenset(s.labels.items())): s.value for s in samples(REGISTRY)}

    def __call__(self, name: str, **labels: str) -> float:
        return sample(name, **labels) - self._before.get((name, frozenset(labels.items())), 0.0)


def samples(registry: Any) -> list[Any]:
    return [one for family in registry.collect() for one in family.samples]


def until(condition: Callable[[], object], within_s: float = 30) -> None:
    """Ask again until it is so; another process gives no event to wait for."""
    give_up = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up, "it did not come about"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers of a batch are counted in the next turn of the event loop."""
    monkeypatch.setattr(metrics, "COUNT_EVERY_S", 0)


@pytest.fixture(scope="module")
def classifier(tiny_models: Path) -> Classifier:
    return artifacts.load(tiny_models / "mnist-cnn.onnx", device="cpu", threads=1)


@pytest.fixture(scope="module")
def client(tiny_models: Path) -> Iterator[TestClient]:
    config = Settings(models_dir=tiny_models, device="cpu")
    repository = Repository(config)
    repository.open()
    with TestClient(web_app(repository, Drain(drain_s=0, workers=1), Keys(None), config)) as client:
        yield client


def test_requests_are_counted_under_the_template_of_their_route(client: TestClient) -> None:
    change = Change()
    for path in ("/nothing/1", "/nothing/2", "/nothing?x=3"):
        client.get(path)
    client.get("/models/mnist-cnn")
    client.get("/models/absent")
    client.get("/v2/nothing/1")
    assert change("digitserve_requests_total", route="/{path:path}", status="404") == 3
    assert change("digitserve_requests_total", route="/models/{name}", status="200") == 1
    assert change("digitserve_requests_total", route="/models/{name}", status="404") == 1
    assert change("digitserve_requests_total", route="/v2/{path:path}", status="404") == 1
    assert change("digitserve_request_seconds_count", route="/{path:path}", status="404") == 3


def test_no_label_ever_holds_what_a_caller_wrote(client: TestClient) -> None:
    written = "caller-wrote-this"
    client.get(f"/{written}")
    client.request("GET", f"/predict/{written}", headers={"x-request-id": written})
    client.post(f"/predict?model={written}", content=picture(1))
    client.post(f"/predict?top_k={written}", content=picture(1))
    client.post(f"/v2/models/{written}/infer", content=written)
    client.post(f"/v2/models/mnist-cnn/versions/{written}/infer", content=written)
    client.post("/predict", files={written: (written, written.encode())})
    assert written not in client.get("/metrics").text


def test_both_protocols_count_the_same_images_the_same_way(client: TestClient) -> None:
    change = Change()
    client.post(NEVER, files=[("a", ("a.png", picture(label))) for label in (3, 3, 7)])
    pixels = np.full((2, 28, 28), 200, np.uint8)
    pixels[:, 0, 0] = (3, 9)
    tensor = {"name": "images", "datatype": "UINT8", "shape": [2, 28, 28], "data": pixels.ravel().tolist()}
    assert client.post(INFER, json={"inputs": [tensor]}).status_code == 200
    of_model = {"model": "mnist-cnn"}
    client.get("/livez")  # one more turn of the event loop

    def predicted(label: str) -> float:
        return change("digitserve_predictions_total", label=label, **of_model)

    assert [predicted(label) for label in ("3", "7", "9", "1")] == [3, 1, 1, 0]
    assert change("digitserve_confidence_count", **of_model) == 5
    assert change("digitserve_batch_images_sum", **of_model) == 5
    assert change("digitserve_batch_images_count", **of_model) == 2
    assert change("digitserve_queue_seconds_count", **of_model) == 2
    assert change("digitserve_compute_seconds_sum", **of_model) > 0
    route = "/v2/models/{model}/infer"
    assert change("digitserve_requests_total", route=route, status="200") == 1


def test_decoding_is_timed_for_pictures_in_either_protocol_and_not_for_pixels(client: TestClient) -> None:
    change = Change()
    client.post(NEVER, content=picture(1))
    assert change("digitserve_decode_seconds_count", form="digit") == 1
    encoded = {"name": "images", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]}
    assert client.post(INFER, json={"inputs": [encoded]}).status_code == 415
    assert change("digitserve_decode_seconds_count", form="digit") == 2
    assert change("digitserve_rejected_images_total", code="unsupported_format") == 1
    raw = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": [1] * 784}
    assert client.post(INFER, json={"inputs": [raw]}).status_code == 200
    assert change("digitserve_decode_seconds_count", form="digit") == 2


def test_a_picture_that_cannot_be_read_is_counted_by_its_code_though_the_request_succeeds(
    client: TestClient,
) -> None:
    change = Change()
    bodies = (picture(1), picture(1)[:60], b"no picture", b"")
    response = client.post(NEVER, files=[("a", ("a.png", body)) for body in bodies])
    assert response.status_code == 200
    codes = ("undecodable_image", "unsupported_format", "empty_upload")
    assert [change("digitserve_rejected_images_total", code=code) for code in codes] == [1, 1, 1]


def test_every_answer_says_how_long_it_took(client: TestClient) -> None:
    stages = r'read;dur=[\d.]+, queue;dur=[\d.]+, compute;dur=[\d.]+;desc="batch of 1"'
    raw = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": [1] * 784}
    predicted = (client.post(NEVER, content=picture(1)), client.post(INFER, json={"inputs": [raw]}))
    for response in predicted:
        assert response.status_code == 200
        assert re.fullmatch(stages, response.headers["server-timing"])
    others = (client.get("/models"), client.get("/nothing"), client.post(INFER, content=b"{"))
    for response in others:
        assert re.fullmatch(r"total;dur=[\d.]+", response.headers["server-timing"])


@st.composite
def outputs(draw: st.DrawFn) -> Outputs:
    """Probabilities (n, 10) and typicality (n,) of up to 40 images, round numbers and ties among them."""
    count = draw(st.integers(1, 40))
    weights = draw(arrays(np.float64, (count, 10), elements=st.sampled_from([0.0, 0.1, 0.5, 1.0, 5.0])))
    weights[:, 0] += 1e-3
    probabilities = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    typicality = draw(arrays(np.float32, count, elements=st.floats(-2, 2, width=32)))
    return probabilities, typicality


@settings(max_examples=40)
@given(st.lists(outputs(), min_size=1, max_size=4))
def test_what_is_counted_of_the_answers_is_what_the_callers_are_told(
    classifier: Classifier, batches: list[Outputs]
) -> None:
    change = Change()

    async def count() -> None:
        observer = ModelMetrics(classifier, max_queue=8)
        for batch in batches:
            observer.batch_computed(len(batch[0]), batch, 0.001, 0.002)
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(count())
    told = [answer for batch in batches for answer in describe(classifier.card, batch, 1)]
    of_model = {"model": classifier.name}
    for label in classifier.card.labels:
        expected = sum(answer["label"] == label for answer in told)
        assert change("digitserve_predictions_total", label=label, **of_model) == expected
    doubted = sum(not answer["in_distribution"] for answer in told)
    assert change("digitserve_doubted_images_total", **of_model) == doubted
    assert change("digitserve_confidence_count", **of_model) == len(told)
    confidence = sum(answer["probability"] for answer in told)
    assert change("digitserve_confidence_sum", **of_model) == pytest.approx(confidence, abs=1e-4)
    labels = sum(len(answer["prediction_set"]) for answer in told)
    assert change("digitserve_prediction_set_labels_sum", **of_model) == labels
    alone = sum(len(answer["prediction_set"]) == 1 for answer in told)
    assert change("digitserve_prediction_set_labels_bucket", le="1.0", **of_model) == alone


@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.5, 0.999, 1.0, 1.5]), min_size=1, max_size=30))
def test_many_observations_at_once_are_the_same_as_one_after_another(amounts: list[float]) -> None:
    registry = CollectorRegistry()
    bulk = BulkHistogram("bulk", "-", registry=registry, buckets=(0.1, 0.25, 1.0))
    single = Histogram("single", "-", registry=registry, buckets=(0.1, 0.25, 1.0))
    bulk.observe_many(np.array(amounts))
    for amount in amounts:
        single.observe(amount)
    for series in ("bucket", "sum", "count"):
        found = [s.value for s in samples(registry) if s.name == f"bulk_{series}"]
        assert found == pytest.approx([s.value for s in samples(registry) if s.name == f"single_{series}"])


def test_a_model_without_calibration_has_no_share_of_doubt(tmp_path: Path) -> None:
    absent = dict.fromkeys(artifacts.CALIBRATION_KEYS)
    write_artifact(tmp_path, "uncalibrated", calibrated="false", **absent)
    plain = artifacts.load(tmp_path / "uncalibrated.onnx", device="cpu", threads=1)

    async def count() -> None:
        answers = plain.predict(np.zeros((2, 28, 28), np.uint8))
        ModelMetrics(plain, max_queue=8).batch_computed(2, answers, 0, 0)
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(count())
    assert sample("digitserve_predictions_total", model="uncalibrated", label="0") == 2
    of_model = [s.name for s in samples(REGISTRY) if s.labels.get("model") == "uncalibrated"]
    assert not [name for name in of_model if "doubted" in name or "prediction_set" in name]


def test_the_queue_is_seen_to_grow_to_shed_and_to_empty(classifier: Classifier) -> None:
    async def scenario() -> None:
        change = Change()
        release, started = threading.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def compute(images: Images) -> Outputs:
            loop.call_soon_threadsafe(started.set)
            assert release.wait(timeout=30)
            return classifier.predict(images)

        queue = Batcher(compute, max_batch=4, max_queue=6, observer=ModelMetrics(classifier, max_queue=6))

        def ask(count: int) -> asyncio.Task[Any]:
            return asyncio.create_task(queue.submit(np.zeros((count, 28, 28), np.uint8), timeout_s=30))

        def waiting() -> float:
            metrics.GATHERED.count()
            return change("digitserve_queued_images", model=classifier.name)

        asked = [ask(1)]
        await started.wait()
        assert waiting() == 0, "what is being computed does not wait"
        asked += [ask(3), ask(2)]
        await asyncio.sleep(0)
        assert waiting() == 5
        with pytest.raises(Overloaded):
            await ask(2)
        release.set()
        await asyncio.gather(*asked)
        assert waiting() == 0
        shed = {"model": classifier.name, "reason": "shed"}
        assert change("digitserve_dropped_images_total", **shed) == 2
        assert sample("digitserve_queue_capacity_images", model=classifier.name) == 6
        await queue.close()

    asyncio.run(scenario())


WORKER = """
import asyncio, sys
from pathlib import Path
import numpy as np
from service import artifacts, metrics

async def work():
    metrics.COUNT_EVERY_S = 0
    model = artifacts.load(Path(sys.argv[1]), device="cpu", threads=1)
    observer = metrics.ModelMetrics(model, max_queue=100)
    observer.queued(5)
    observer.dropped("expired", 2)
    observer.batch_computed(3, model.predict(np.zeros((3, 28, 28), np.uint8)), 0.01, 0.02)
    for _ in range(3):
        await asyncio.sleep(0)

asyncio.run(work())
print("done", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def workers(tiny_models: Path, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that have each counted the same and go on living."""
    command = [sys.executable, "-c", WORKER, str(tiny_models / "mnist-cnn.onnx")]
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
    yield processes
    for process in processes:
        process.communicate()


def test_counters_add_up_over_workers_and_gauges_are_those_of_the_living(
    workers: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    def value(name: str, **labels: str) -> float:
        registry = CollectorRegistry()
        registry.register(AllWorkers(str(tmp_path)))
        return registry.get_sample_value(name, {"model": "mnist-cnn", **labels}) or 0.0

    def counted() -> list[float]:
        return [
            value("digitserve_predictions_total", label="0"),
            value("digitserve_dropped_images_total", reason="expired"),
            value("digitserve_batch_images_sum"),
            value("digitserve_batch_images_count"),
            value("digitserve_confidence_bucket", le="+Inf"),
        ]

    assert counted() == [6, 4, 6, 2, 6]
    assert value("digitserve_queued_images") == 10
    assert value("digitserve_queue_capacity_images") == 200
    killed = workers[0]
    killed.kill()
    killed.wait()
    assert counted() == [6, 4, 6, 2, 6], "what a dead worker has done stays done"
    assert value("digitserve_queued_images") == 5, "and it has no queue any more"
    assert value("digitserve_queue_capacity_images") == 100
    assert not list(tmp_path.glob(f"gauge_live*_{killed.pid}.db"))


def test_the_statistics_of_a_model_are_those_of_all_workers(
    workers: list[subprocess.Popen[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    totals = model_totals("mnist-cnn")
    assert (totals.images, totals.batches) == (6, 2)
    assert (totals.queue_s, totals.compute_s) == pytest.approx((0.02, 0.04))
    assert model_totals("absent").images == 0


def scrape(server: Server) -> dict[tuple[str, ...], float]:
    """Every series of a real server, by its name and the values of its labels in order of their names."""
    families = text_string_to_metric_families(httpx2.get(f"{server.url}/metrics").text)
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in families
        for one in family.samples
    }


def versions(server: Server) -> set[tuple[str, ...]]:
    return {key[1:] for key in scrape(server) if key[0] == "digitserve_model_info"}


async def post_all(server: Server, count: int) -> None:
    """Post one picture on each of `count` connections at once, so that several workers get some."""
    limits = httpx2.Limits(max_connections=count)
    async with httpx2.AsyncClient(base_url=server.url, timeout=30, limits=limits) as client:
        await asyncio.gather(*(client.post(NEVER, content=picture(n % 10)) for n in range(count)))


def test_a_server_of_two_workers_keeps_its_series_to_itself_and_true(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_artifact(tmp_path, "mnist-cnn")
    server = start_server(models_dir=tmp_path, workers=2)
    asyncio.run(post_all(server, 40))
    start_server(models_dir=tmp_path)  # BentoML would empty the folder of the first server's series here
    answered = ("digitserve_requests_total", "/predict", "200")
    predicted = [("digitserve_predictions_total", str(label), "mnist-cnn") for label in range(10)]
    until(lambda: sum(scrape(server).get(key, 0) for key in predicted) == 40)
    seen = scrape(server)
    assert seen[answered] == 40
    assert [seen[key] for key in predicted] == [4] * 10
    assert seen["digitserve_queued_images", "mnist-cnn"] == 0
    assert seen["digitserve_queue_capacity_images", "mnist-cnn"] == 2 * 1024

    [(_, provider, first)] = versions(server)
    assert provider.endswith("ExecutionProvider")
    write_artifact(tmp_path, "mnist-cnn", seed="1")
    until(lambda: len(found := versions(server)) == 1 and first not in {key[2] for key in found})
    assert scrape(server)["digitserve_queue_capacity_images", "mnist-cnn"] == 2 * 1024

    worker = next(
        child
        for child in psutil.Process(server.process.pid).children()
        if "DIGITSERVE_METRICS_DIR" in child.environ()
    )
    folder = Path(worker.environ()["DIGITSERVE_METRICS_DIR"])
    assert list(folder.glob("counter_*.db"))
    server.stop()
    assert not folder.exists()
