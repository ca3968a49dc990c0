"""A session on an NVIDIA GPU: its providers, a few batch sizes, and buffers that stay where they are.

cuDNN chooses how to convolve anew for every batch size, which takes hundreds of times as long as the batch.
So batches are padded to a few sizes, each of which is computed before the model is ready. Images are gathered
in pinned memory, which the GPU reads by itself; a CUDA graph, which replays a batch in one launch, needs
addresses that never change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import build_and_package_info

from service import cuda
from service.batching import Images, Outputs

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
IMAGE = (28, 28)
ROW_SHAPES = {"probabilities": (10,), "typicality": ()}  # of one image's row in each output


@dataclass(frozen=True)
class GpuOptions:
    """How a worker's sessions use the GPU.

    Attributes:
        max_batch: images of the largest batch; smaller ones are padded to the next power of two.
        memory_mb: most of the GPU's memory that one model's session may take; 0 sets no limit.
        graphs: whether each batch size becomes a CUDA graph.
    """

    max_batch: int = 64
    memory_mb: int = 0
    graphs: bool = False


def providers(options: GpuOptions, *, tensorrt: bool) -> list[tuple[str, dict[str, str]]]:
    """CUDA's execution provider, after TensorRT's where that is asked for, with their options."""
    # TF32 moves probabilities by about 1e-3, which is more than the golden file allows.
    for_cuda = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
    if options.memory_mb:
        # Without the second, memory is taken in powers of two and soon is twice of what is needed.
        for_cuda["gpu_mem_limit"] = str(options.memory_mb * 2**20)
        for_cuda["arena_extend_strategy"] = "kSameAsRequested"
    if options.graphs:
        for_cuda["enable_cuda_graph"] = "1"
    if not tensorrt:
        return [(CUDA, for_cuda)]
    smallest, largest = (f"images:{batch}x{IMAGE[0]}x{IMAGE[1]}" for batch in (1, options.max_batch))
    for_tensorrt = {
        "trt_profile_min_shapes": smallest,
        "trt_profile_opt_shapes": largest,
        "trt_profile_max_shapes": largest,
        "trt_cuda_graph_enable": str(int(options.graphs)),
    }
    return [(TENSORRT, for_tensorrt), (CUDA, for_cuda)]


def cuda_major() -> int:
    """The version of CUDA that ONNX Runtime was built for."""
    return int(build_and_package_info.cuda_version.partition(".")[0])


def bucket_sizes(max_batch: int) -> list[int]:
    """The batch sizes that are computed: powers of two, and the largest batch."""
    return [2**power for power in range(math.ceil(math.log2(max_batch)))] + [max_batch]


class BoundSession:
    """Computes batches of any size in a few sizes, from and into buffers of the session's device.

    Never called twice at once: all batches of a size share their buffers. `device` is where the buffers are,
    `cpu` for tests.
    """

    def __init__(self, session: ort.InferenceSession, options: GpuOptions, device: str = "cuda") -> None:
        """Compute a batch of every size, so that nothing is chosen, allocated or captured later."""
        self._buckets = [
            _Bucket(session, size, device, graph if options.graphs else None)
            for graph, size in enumerate(bucket_sizes(options.max_batch))
        ]
        for bucket in self._buckets:
            bucket.run(np.zeros((bucket.size, *IMAGE), np.uint8))

    def __call__(self, images: Images) -> Outputs:
        """Probabilities (n, 10) and typicality (n,) of images (n, 28, 28)."""
        most = self._buckets[-1].size
        parts = [self._run(images[first : first + most]) for first in range(0, len(images), most)]
        return parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))

    def _run(self, images: Images) -> Outputs:
        return next(bucket for bucket in self._buckets if bucket.size >= len(images)).run(images)


class _Bucket:
    """One batch size: its buffers, and the session bound to them."""

    def __init__(self, session: ort.InferenceSession, size: int, device: str, graph: int | None) -> None:
        self.size = size
        self._session = session
        shape = (size, *IMAGE)
        on_gpu = device == "cuda"
        self._gathered = cuda.pinned_array(shape, cuda_major()) if on_gpu else np.empty(shape, np.uint8)
        self._images = _buffer(shape, np.uint8, device)
        self._outputs = [_buffer((size, *row), np.float32, device) for row in ROW_SHAPES.values()]
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input("images", self._images)
        for name, output in zip(ROW_SHAPES, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(name, output)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(-1 if graph is None else graph))

    def run(self, images: Images) -> Outputs:
        """The rows of at most `size` images; the rows of the padding, which is old images, are left out."""
        count = len(images)
        self._gathered[:count] = images
        self._images.update_inplace(self._gathered)
        self._session.run_with_iobinding(self._binding, self._options)
        return tuple(np.array(output.numpy()[:count]) for output in self._outputs)


def _buffer(shape: Sequence[int], kind: Any, device: str) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, device, 0)
