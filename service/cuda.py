"""What of CUDA this machine has, asked from the libraries themselves."""

from __future__ import annotations

import ctypes
import sys

WINDOWS = sys.platform == "win32"
DRIVER = "nvcuda.dll" if WINDOWS else "libcuda.so.1"
# Version 9 is what ONNX Runtime wants since 1.19.
CUDNN = "cudnn64_9.dll" if WINDOWS else "libcudnn.so.9"


def has_driver() -> bool:
    return _open(DRIVER) is not None


def versions(cuda_major: int) -> dict[str, str]:
    """What is found of the driver, of CUDA's runtime in that major version, and of cuDNN, for people."""
    runtime = f"cudart64_{cuda_major}.dll" if WINDOWS else f"libcudart.so.{cuda_major}"
    driver_version = _cuda_version(DRIVER, "cuDriverGetVersion")
    return {
        "NVIDIA driver": f"for CUDA up to {driver_version}" if driver_version else "not found",
        "CUDA": _cuda_version(runtime, "cudaRuntimeGetVersion") or f"{runtime} not found",
        "cuDNN": _cudnn_version() or f"{CUDNN} not found",
    }


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
