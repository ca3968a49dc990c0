"""Reading a shipped artifact back: its metadata, its version, and its answers by ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnxruntime

from training.errors import ArtifactDamaged, ArtifactMissing

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS: Final = Path(__file__).resolve().parent.parent / "models"
BATCH: Final = 64
NEEDED: Final = {"dataset", "labels", "calibrated", "test_accuracy", "parameters", "macs_per_image"}


@dataclass(frozen=True)
class Answers:
    """What an artifact says about n images."""

    probabilities: NDArray[np.float32]  # [n, 10]
    typicality: NDArray[np.float32]  # [n]


class Artifact:
    """One ONNX file of models/, open for questions."""

    def __init__(self, content: bytes, threads: int = 0) -> None:
        """Open the bytes of a file; 0 threads are one for each core."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # PyTorch waits for cores
        options.log_severity_level = 3  # warnings about providers that nobody asked for
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.version = hashlib.sha256(content).hexdigest()[:12]
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    @property
    def labels(self) -> list[str]:
        return list(json.loads(self.metadata["labels"]))

    @property
    def calibrated(self) -> bool:
        return self.metadata["calibrated"] == "true"

    def number(self, key: str) -> float:
        return float(self.metadata[key])

    def answer(self, images: NDArray[np.uint8], batch: int = BATCH) -> Answers:
        """Ask about `images` [n, 28, 28] in batches of this size."""
        parts = [
            self._session.run(["probabilities", "typicality"], {"images": images[first : first + batch]})
            for first in range(0, len(images), batch)
        ]
        return Answers(
            np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        )


def read_artifact(name: str, folder: Path = MODELS, threads: int = 0) -> Artifact:
    """Open models/<name>.onnx, to be asked with this many threads (0: one for each core).

    Raises:
        ArtifactMissing: a sentence that names those there are.
        ArtifactDamaged: ONNX Runtime cannot open it, or it is none of ours.
    """
    path = folder / f"{name}.onnx"
    if not path.exists():
        there = ", ".join(list_artifacts(folder)) or "none"
        raise ArtifactMissing(f"{path} does not exist; the artifacts here: {there}.")
    try:
        artifact = Artifact(path.read_bytes(), threads)
    except Exception as exc:  # ONNX Runtime's own classes share no other base
        raise ArtifactDamaged(f"{path} is damaged: {exc}") from exc
    if missing := NEEDED - artifact.metadata.keys():
        raise ArtifactDamaged(f"{path} is none of ours: it lacks {', '.join(sorted(missing))}.")
    return artifact


def list_artifacts(folder: Path = MODELS) -> list[str]:
    """Return the names of the artifacts in `folder`, sorted."""
    return sorted(path.stem for path in folder.glob("*.onnx"))
