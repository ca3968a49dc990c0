"""A session for a GPU answers as a plain one, in few batch sizes, from buffers that stay; here on the CPU."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import write_artifact

from service import cuda
from service.gpu import CUDA, TENSORRT, BoundSession, GpuOptions, bucket_sizes, cuda_major, providers

LARGEST = 12


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> ort.InferenceSession:
    path: Path = write_artifact(tmp_path_factory.mktemp("models"))
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def bound(session: ort.InferenceSession) -> BoundSession:
    return BoundSession(session, GpuOptions(max_batch=LARGEST), device="cpu")


def drawn(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


@given(counts=st.lists(st.integers(1, 3 * LARGEST), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_batches_of_any_size_one_after_another_are_answered_as_by_a_plain_session(
    session: ort.InferenceSession, bound: BoundSession, counts: list[int], seed: int
) -> None:
    asked = [drawn(count, seed + place) for place, count in enumerate(counts)]
    answers = [bound(images) for images in asked]  # what was answered must outlive the buffers' next use
    for images, outputs in zip(asked, answers, strict=True):
        plain = session.run(["probabilities", "typicality"], {"images": images})
        for output, expected in zip(outputs, plain, strict=True):
            assert output.shape == expected.shape
            np.testing.assert_allclose(output, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("max_batch", "sizes"), [(1, [1]), (2, [1, 2]), (12, [1, 2, 4, 8, 12]), (16, [1, 2, 4, 8, 16])]
)
def test_sizes_are_powers_of_two_and_the_largest_batch(max_batch: int, sizes: list[int]) -> None:
    assert bucket_sizes(max_batch) == sizes


def test_every_size_is_computed_before_the_first_request_and_no_other_ever(
    session: ort.InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    graphs: list[str] = []
    run = ort.InferenceSession.run_with_iobinding

    def record(self: Any, binding: Any, options: Any) -> None:
        run(self, binding, options)
        computed.append(binding.get_outputs()[0].shape()[0])
        graphs.append(options.get_run_config_entry("gpu_graph_id"))

    monkeypatch.setattr(ort.InferenceSession, "run_with_iobinding", record)
    ready = BoundSession(session, GpuOptions(max_batch=LARGEST, graphs=True), device="cpu")
    assert computed == bucket_sizes(LARGEST)
    assert graphs == ["0", "1", "2", "3", "4"]
    ready(drawn(5))
    assert computed[5:] == [8]
    assert graphs[5:] == ["3"]


def test_the_providers_options_are_those_that_were_asked_for() -> None:
    plain = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
    assert providers(GpuOptions(), tensorrt=False) == [(CUDA, plain)]
    [(_, bounded)] = providers(GpuOptions(memory_mb=512, graphs=True), tensorrt=False)
    assert bounded.items() >= {"gpu_mem_limit": str(512 * 2**20), "enable_cuda_graph": "1"}.items()
    (first, for_tensorrt), (second, _) = providers(GpuOptions(max_batch=32), tensorrt=True)
    assert (first, second) == (TENSORRT, CUDA)
    assert for_tensorrt["trt_profile_min_shapes"] == "images:1x28x28"
    assert for_tensorrt["trt_profile_max_shapes"] == "images:32x28x28"


class CudaRuntime:
    """Gives memory as CUDA's runtime does, from this process's own."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.memory = bytearray(b"\xff" * 10_000)
        self.freed: list[int] = []

    def cudaHostAlloc(self, pointer: Any, size: Any, flags: int) -> int:  # noqa: N802 - as CUDA names it
        assert size.value <= len(self.memory)
        assert flags == 0
        pointer._obj.value = np.frombuffer(self.memory, np.uint8).ctypes.data
        return self.status

    def cudaFreeHost(self, address: Any) -> None:  # noqa: N802 - as CUDA names it
        self.freed.append(address.value)


def test_pinned_memory_is_the_runtimes_and_given_back_with_its_last_array(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = CudaRuntime()
    monkeypatch.setattr(cuda, "_open", lambda _: runtime)
    array = cuda.pinned_array((3, 28, 28), 13)
    assert array.shape == (3, 28, 28)
    assert not array.any()
    array[:] = 7
    assert runtime.memory[:2352] == b"\7" * 2352
    kept = array[1]
    del array
    gc.collect()
    assert not runtime.freed
    del kept
    gc.collect()
    assert len(runtime.freed) == 1


@pytest.mark.parametrize(
    "runtime", [None, CudaRuntime(status=2), SimpleNamespace(cudaHostAlloc=lambda *_: 1)]
)
def test_without_cudas_runtime_memory_is_ordinary(monkeypatch: pytest.MonkeyPatch, runtime: Any) -> None:
    monkeypatch.setattr(cuda, "_open", lambda _: runtime)
    assert not cuda.pinned_array((2, 28, 28), cuda_major()).any()
