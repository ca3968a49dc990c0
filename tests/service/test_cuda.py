"""What is told of CUDA, with libraries that answer as NVIDIA's do, and without any."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from service import cuda


def version_function(version: int, status: int = 0) -> Any:
    """`int f(int *version)`, as the driver and the runtime have it."""

    def tell(pointer: Any) -> int:
        pointer._obj.value = version
        return status

    return tell


def found(monkeypatch: pytest.MonkeyPatch, **libraries: Any) -> dict[str, str]:
    names = {"driver": cuda.DRIVER, "cudnn": cuda.CUDNN, "runtime": "libcudart.so.13"}
    present = {names[kind]: library for kind, library in libraries.items()}
    monkeypatch.setattr(cuda, "WINDOWS", False)
    monkeypatch.setattr(cuda, "_open", present.get)
    assert cuda.has_driver() == ("driver" in libraries)
    return cuda.versions(13)


def test_the_versions_of_what_is_installed_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = found(
        monkeypatch,
        driver=SimpleNamespace(cuDriverGetVersion=version_function(13020)),
        runtime=SimpleNamespace(cudaRuntimeGetVersion=version_function(13010)),
        cudnn=SimpleNamespace(cudnnGetVersion=CudnnVersion()),
    )
    assert told == {"NVIDIA driver": "for CUDA up to 13.2", "CUDA": "13.1", "cuDNN": "9.26.3"}


class CudnnVersion:
    restype: Any = None

    def __call__(self) -> int:
        return 92603


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch) == {
        "NVIDIA driver": "not found",
        "CUDA": "libcudart.so.13 not found",
        "cuDNN": "libcudnn.so.9 not found",
    }


def test_a_driver_that_answers_with_an_error_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = SimpleNamespace(cuDriverGetVersion=version_function(13020, status=3))
    assert found(monkeypatch, driver=broken)["NVIDIA driver"] == "not found"


def test_a_library_that_is_not_installed_opens_as_none() -> None:
    assert cuda._open("libabsent.so.1") is None
    assert cuda._open("libc.so.6") is not None
