"""What of CUDA this machine has, asked from the libraries themselves."""

from __future__ import annotations

import ctypes
import math
import sys
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WINDOWS = sys.platform == "win32"
DRIVER = "nvcuda.dll" if WINDOWS else "libcuda.so.1"
# Version 9 is what ONNX Runtime wants since 1.19.
CUDNN = "cudnn64_9.dll" if WINDOWS else "libcudnn.so.9"


def has_driver() -> bool:
    return _open(DRIVER) is not None


def versions(cuda_major: int) -> dict[str, str]:
    """What is found of the driver, of CUDA's runtime in that major version, and of cuDNN, for people."""
    runtime = _runtime(cuda_major)
    driver_version = _cuda_version(DRIVER, "cuDriverGetVersion")
    return {
        "NVIDIA driver": f"for CUDA up to {driver_version}" if driver_version else "not found",
        "CUDA": _cuda_version(runtime, "cudaRuntimeGetVersion") or f"{runtime} not found",
        "cuDNN": _cudnn_version() or f"{CUDNN} not found",
    }


def pinned_array(shape: Sequence[int], cuda_major: int) -> NDArray[np.uint8]:
    """Zeros that the GPU can read by itself; ordinary memory where CUDA's runtime gives none."""
    runtime = _open(_runtime(cuda_major))
    size = math.prod(shape)
    address = ctypes.c_void_p()
    if runtime is None or runtime.cudaHostAlloc(ctypes.byref(address), ctypes.c_size_t(size), 0) != 0:
        return np.zeros(shape, np.uint8)
    assert address.value is not None, "cudaHostAlloc succeeded"
    memory = (ctypes.c_uint8 * size).from_address(address.value)
    freeing = weakref.finalize(memory, runtime.cudaFreeHost, address)
    freeing.atexit = False  # by then CUDA has ended, and all its memory with it
    array: NDArray[np.uint8] = np.ctypeslib.as_array(memory)
    array[:] = 0
    return array.reshape(shape)


def _runtime(cuda_major: int) -> str:
    return f"cudart64_{cuda_major}.dll" if WINDOWS else f"libcudart.so.{cuda_major}"


def _cuda_version(library: str, function: str) -> str | None:
    """What a function of the form `int f(int *version)` tells, as 1000 * major + 10 * minor."""
    opened = _open(library)
    version = ctypes.c_int()
    if opened is None or getattr(opened, function)(ctypes.byref(version)) != 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _cudnn_version() -> str | None:
    """As 10000 * major + 100 * minor + patch, since version 9."""
    opened = _open(CUDNN)
    if opened is None:
        return None
    opened.cudnnGetVersion.restype = ctypes.c_size_t
    version = opened.cudnnGetVersion()
    return f"{version // 10_000}.{version % 10_000 // 100}.{version % 100}"


def _open(library: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(library)
    except OSError:
        return None
