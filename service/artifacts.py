"""An artifact on disk becomes a checked classifier, or is refused; with gpu.py, what imports onnxruntime.

What is checked, and why, is the contract in models/README.md.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import onnxruntime as ort
from annotated_types import Len
from numpy.typing import NDArray
from onnxruntime.capi import build_and_package_info
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    Json,
    PositiveInt,
    ValidationError,
    model_validator,
)

from service import cuda, gpu
from service.batching import Compute, Images, Outputs
from service.errors import ArtifactRejected
from service.gpu import GpuOptions
from service.settings import Device, Settings

CLASSES = 10
PROBABILITY_TOLERANCE = 1e-4
TYPICALITY_TOLERANCE = 1e-3

PLAIN_GPU = GpuOptions()
# The provider that a device insists on.
_ASKED_FOR: Mapping[str, str] = {"cuda": gpu.CUDA, "tensorrt": gpu.TENSORRT}

# In a golden file: what the model before the one that it was written for answered.
PREVIOUS = ("previous_probabilities", "previous_typicality")

Share = Annotated[float, Field(ge=0, le=1)]


class Card(BaseModel):
    """What an artifact says of itself: the metadata entries of models/README.md, parsed."""

    model_config = ConfigDict(frozen=True)

    contract_version: Literal["1"]
    recipe: str
    dataset: str
    labels: Json[Annotated[tuple[str, ...], Len(CLASSES, CLASSES)]]
    canonical_form: Literal["digit", "garment"]
    parameters: PositiveInt
    macs_per_image: PositiveInt
    test_accuracy: Share
    calibrated: bool
    temperature: Annotated[FiniteFloat, Field(gt=0)]
    seed: int
    commit: str
    packages: Json[dict[str, str]]
    created: AwareDatetime

    expected_calibration_error: Share | None = None
    conformal_level: Share | None = None
    conformal_quantile: Share | None = None
    in_distribution_level: Share | None = None
    in_distribution_threshold: FiniteFloat | None = None

    @model_validator(mode="after")
    def _calibration_is_whole_or_absent(self) -> Self:
        missing = [key for key in CALIBRATION_KEYS if getattr(self, key) is None]
        if missing != ([] if self.calibrated else list(CALIBRATION_KEYS)):
            expected = "needs all of" if self.calibrated else "must have none of"
            raise ValueError(
                f"an artifact with calibrated={self.calibrated} {expected} {', '.join(CALIBRATION_KEYS)}"
            )
        return self


CALIBRATION_KEYS = (
    "expected_calibration_error",
    "conformal_level",
    "conformal_quantile",
    "in_distribution_level",
    "in_distribution_threshold",
)


@dataclass(frozen=True)
class Classifier:
    """A loaded network that keeps the contract.

    Attributes:
        version: first 12 hexadecimal digits of the file's SHA-256.
        provider: the ONNX Runtime execution provider that really runs it.
        predict: images uint8 (n, 28, 28) to probabilities float32 (n, 10) and typicality float32 (n,).
    """

    name: str
    version: str
    provider: str
    card: Card
    predict: Compute


def load_named(name: str, settings: Settings) -> Classifier:
    """`load` for the artifact called `name`, as `settings` want it to run."""
    path = settings.models_dir / f"{name}.onnx"
    options = GpuOptions(settings.max_batch, settings.gpu_memory_mb, settings.cuda_graphs)
    return load(path, device=settings.device, threads=settings.inference_threads(), on_gpu=options)


def load(path: Path, *, device: Device, threads: int, on_gpu: GpuOptions = PLAIN_GPU) -> Classifier:
    """The classifier in `path`, whose golden images it answered right on the provider it will serve with.

    Raises:
        ArtifactRejected: with one sentence for each rule of the contract that is broken.
    """
    name = path.stem
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactRejected(name, [f"The file cannot be read: {error.strerror}."]) from error
    session = _open(name, content, device, threads, on_gpu)
    card, broken = _read_card(name, session.get_modelmeta().custom_metadata_map)
    broken += _tensor_faults(session)
    if card is None or broken:
        raise ArtifactRejected(name, broken)

    predict = _compute(name, session, on_gpu)
    broken = _golden_faults(path.with_name(f"{name}.golden.npz"), predict)
    if broken:
        raise ArtifactRejected(name, broken)
    version = hashlib.sha256(content).hexdigest()[:12]
    return Classifier(name, version, session.get_providers()[0], card, predict)


def _compute(name: str, session: ort.InferenceSession, on_gpu: GpuOptions) -> Compute:
    """What maps images (n, 28, 28) to probabilities and typicality, ready for batches of every size."""

    def predict(images: Images) -> Outputs:
        probabilities, typicality = session.run(("probabilities", "typicality"), {"images": images})
        return probabilities, typicality

    provider = session.get_providers()[0]
    if provider not in (gpu.CUDA, gpu.TENSORRT):
        return predict
    try:
        return gpu.BoundSession(session, on_gpu)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ArtifactRejected(name, [f"{provider} cannot compute it: {reason}"]) from error


def _open(
    name: str, content: bytes, device: Device, threads: int, on_gpu: GpuOptions
) -> ort.InferenceSession:
    """A session on `content`: opened from memory, so that weights in another file cannot be reached."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # A thread that spins while it waits for work takes its core from whoever reads requests: without, an
    # answer costs half of the processor's time where sessions have two threads.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(content, options, providers=_providers(device, on_gpu))
    except Exception as error:  # onnxruntime raises a class of its own for each way a file can be broken
        reason = str(error).splitlines()[0]
        raise ArtifactRejected(name, [f"ONNX Runtime cannot open the file: {reason}"]) from error
    running_on = session.get_providers()[0]
    if device in _ASKED_FOR and running_on != _ASKED_FOR[device]:
        raise ArtifactRejected(
            name, [f"device={device} was asked for, but the session runs on {running_on}."]
        )
    return session


def _providers(device: Device, on_gpu: GpuOptions) -> list[Any]:
    """Execution providers, best first; the next is taken where a library of NVIDIA's is missing."""
    cpu = "CPUExecutionProvider"
    if device == "cpu" or not has_cuda_driver():
        return [cpu]
    ort.preload_dlls()
    return [*gpu.providers(on_gpu, tensorrt=device == "tensorrt"), cpu]


@functools.cache
def has_cuda_driver() -> bool:
    """Whether this machine has an NVIDIA driver; without one ONNX Runtime would complain for every model."""
    return gpu.CUDA in ort.get_available_providers() and cuda.has_driver()


def runtime_facts() -> dict[str, str]:
    """What of ONNX Runtime and CUDA is found on this machine, for people to read."""
    found = {
        "ONNX Runtime": f"{ort.__version__} ({build_and_package_info.package_name})",
        "execution providers": ", ".join(ort.get_available_providers()),
    }
    if gpu.CUDA in ort.get_available_providers():
        with contextlib.redirect_stdout(None):  # it prints what it does not find, which is told below
            ort.preload_dlls()
        found |= cuda.versions(gpu.cuda_major())
    return found


def _read_card(name: str, entries: Mapping[str, str]) -> tuple[Card | None, list[str]]:
    try:
        card = Card.model_validate(entries)
    except ValidationError as invalid:
        return None, [
            f"Metadata {'.'.join(map(str, fault['loc']))}: {fault['msg']}." for fault in invalid.errors()
        ]
    if card.recipe != name:
        return card, [f"The metadata names the recipe {card.recipe!r}, the file {name!r}."]
    return card, []


def _tensor_faults(session: ort.InferenceSession) -> list[str]:
    """A sentence for each tensor of the contract that the graph lacks or has otherwise."""
    found = {
        node.name: (node.type, list(node.shape)) for node in (*session.get_inputs(), *session.get_outputs())
    }
    wanted = {
        "images": ("tensor(uint8)", [28, 28]),
        "probabilities": ("tensor(float)", [CLASSES]),
        "typicality": ("tensor(float)", []),
    }
    broken = [f"The graph has an unknown tensor `{tensor}`." for tensor in found.keys() - wanted.keys()]
    for tensor, (kind, shape) in wanted.items():
        if tensor not in found:
            broken.append(f"The graph has no tensor `{tensor}`.")
            continue
        found_kind, found_shape = found[tensor]
        if found_kind != kind or len(found_shape) == 0 or found_shape[1:] != shape:
            broken.append(f"`{tensor}` is {found[tensor]}, not {kind} of shape {['batch', *shape]}.")
        elif isinstance(found_shape[0], int):
            broken.append(f"`{tensor}` fixes the batch size at {found_shape[0]}.")
    return broken


def _golden_faults(path: Path, predict: Compute) -> list[str]:
    """A sentence for each way in which the answers to the golden images break the contract."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as golden:
            images, probabilities, typicality = (
                golden[key] for key in ("images", "probabilities", "typicality")
            )
            previous = [golden[key] for key in PREVIOUS if key in golden]
    except Exception as error:  # noqa: BLE001 - numpy and zipfile raise anything on damaged bytes
        # A system error names the path, and callers see this.
        reason = getattr(error, "strerror", None) or error
        return [f"The golden file {path.name} cannot be read: {reason}."]
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or len(images) < 2:
        return [f"The golden file {path.name} holds no uint8 images of shape (n, 28, 28)."]
    n = len(images)
    if probabilities.shape != (n, CLASSES) or typicality.shape != (n,):
        return [f"The golden file {path.name} holds {n} images with answers of other shapes."]
    if any(array.dtype != np.float32 for array in (probabilities, typicality, *previous)):
        return [f"The golden file {path.name} holds answers that are no float32."]
    try:
        answers = predict(images)
        alone = predict(images[-1:])
    except Exception as error:  # noqa: BLE001 - whatever the runtime throws, the artifact is not servable
        return [f"The model fails on its golden images: {error}."]
    differences = _difference("golden images", answers, (probabilities, typicality))
    if differences and [array.shape for array in previous] == [probabilities.shape, typicality.shape]:
        differences = _difference("golden images", answers, (previous[0], previous[1]))
    return [
        *_probability_faults(answers[0]),
        *differences,
        *_difference(
            "an image alone and the same image in a batch", alone, (answers[0][-1:], answers[1][-1:])
        ),
    ]


def _probability_faults(probabilities: NDArray[np.float32]) -> list[str]:
    if not np.isfinite(probabilities).all() or (probabilities < 0).any():
        return ["Some probabilities are negative or not finite."]
    furthest = float(np.abs(probabilities.sum(axis=1) - 1).max())
    return [f"A row of probabilities misses 1 by {furthest:.1e}."] if furthest > PROBABILITY_TOLERANCE else []


def _difference(what: str, answers: Outputs, expected: Outputs) -> list[str]:
    probability = float(np.abs(answers[0] - expected[0]).max())
    scale = np.maximum(1, np.abs(expected[1]))
    typicality = float((np.abs(answers[1] - expected[1]) / scale).max())
    # Written so that a NaN counts as a difference.
    if probability <= PROBABILITY_TOLERANCE and typicality <= TYPICALITY_TOLERANCE:
        return []
    return [
        f"The answers differ for {what}: by {probability:.1e} in probability, {typicality:.1e} in typicality."
    ]
