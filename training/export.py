"""From a trained network to one checked ONNX file with its golden answers; see models/README.md."""

from __future__ import annotations

import copy
import json
import os
import warnings
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from training.architectures import SIDE, count_macs, count_weights
from training.artifacts import Answers, Artifact
from training.calibrate import calibrated_probabilities
from training.data import SOURCES
from training.errors import ExportRefused
from training.measure import Accuracy
from training.runs import alone_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any, BinaryIO

    from torch import Tensor

    from training.calibrate import Calibration
    from training.data import Split
    from training.detector import Detector
    from training.recipes import Recipe

CONTRACT_VERSION: Final = 1
COMPARED_IMAGES: Final = 1_000
COMPARED_BATCHES: Final = (1, 2, 7, 64)
TOLERANCE: Final = 1e-5
TYPICALITY_TOLERANCE: Final = 1e-4
GOLDEN_IMAGES: Final = 64
PACKAGES: Final = ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Candidate:
    """A trained network and what its artifact will say of it."""

    network: nn.Sequential
    recipe: Recipe
    calibration: Calibration | None  # None where the recipe has no validation split
    detector: Detector | None  # None where there is no threshold for what it says
    commit: str
    teachers: Mapping[str, str] = field(default_factory=dict)  # the versions of the artifacts by name


@dataclass(frozen=True)
class Shipped:
    """What became of a network: its artifact's version and its one reading of the test set."""

    path: Path
    version: str
    created: datetime
    test_accuracy: Accuracy


class Classifier(nn.Module):
    """All that the artifact computes: uint8 images in, calibrated probabilities and a typicality out.

    The network must end in the linear layer that gives the logits. Without a detector the typicality is log
    sum exp of the logits: the negative energy of Liu et al. 2020.
    """

    def __init__(
        self, network: nn.Sequential, temperature: float, detector: Detector | None, floor: float = 0.0
    ) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.floor = floor
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Turn uint8 [batch, 28, 28] into float32 [batch, 10] and [batch]."""
        features = self.network[:-1](images.float() / 255)  # [batch, features]
        logits = self.network[-1](features)  # [batch, 10]
        typicality = (
            self.detector.typicality(features, logits) if self.detector else torch.logsumexp(logits, dim=1)
        )
        return calibrated_probabilities(logits, self.temperature, self.floor), typicality


def export(candidate: Candidate, test: Split, folder: Path, known: Accuracy | None = None) -> Shipped:
    """Read the test set once with the exported graph, then write <name>.onnx and <name>.golden.npz.

    `known` is the accuracy where the same weights were read before: then the test labels are left alone.

    Raises:
        ExportRefused: the exported graph and PyTorch differ; the test labels were not looked at.
    """
    classifier = classifier_of(candidate)
    model = to_onnx(classifier)
    artifact = Artifact(model.SerializeToString())
    require_agreement(classifier, artifact, test.images[:COMPARED_IMAGES])

    accuracy = known or _read_test_set(artifact, test)
    created = datetime.now(UTC)
    onnx.helper.set_model_props(
        model,
        {
            **describe(candidate, created),
            "parameters": str(count_weights(candidate.network)),
            "macs_per_image": str(count_macs(classifier.network)),
            "test_accuracy": repr(accuracy.share),
        },
    )
    onnx.checker.check_model(model, full_check=True)
    path = folder / f"{candidate.recipe.name}.onnx"
    _write(path, model.SerializeToString(), test.images[:GOLDEN_IMAGES], classifier)
    return Shipped(path, Artifact(path.read_bytes()).version, created, accuracy)


def classifier_of(candidate: Candidate) -> Classifier:
    """Return what the artifact will compute, on the CPU."""
    fitted = candidate.calibration
    temperature, floor = (fitted.temperature, fitted.probability_floor) if fitted else (1.0, 0.0)
    network, detector = copy.deepcopy((candidate.network, candidate.detector))
    return Classifier(network, temperature, detector, floor).cpu().eval()


def _read_test_set(artifact: Artifact, test: Split) -> Accuracy:
    probabilities = artifact.answer(test.images.numpy()).probabilities
    return Accuracy(int((probabilities.argmax(1) == test.labels.numpy()).sum()), len(test))


def to_onnx(classifier: Classifier) -> onnx.ModelProto:
    """Return the graph of `classifier` for any batch size, with batch normalisation folded away."""
    folded = Classifier(
        _fold(classifier.network), classifier.temperature, classifier.detector, classifier.floor
    ).eval()
    example = torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations are not ours to mend
        program = torch.onnx.export(
            folded,
            (example,),
            input_names=["images"],
            output_names=["probabilities", "typicality"],
            dynamo=True,
            external_data=False,
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    for node in model.graph.node:  # the exporter notes which line of Python each came from
        node.ClearField("metadata_props")
    return model


def _fold(network: nn.Sequential) -> nn.Sequential:
    """Return the network with batch normalisation folded into the convolution or linear layer before it."""
    layers: list[nn.Module] = []
    for layer in network:
        if layers and isinstance(layer, nn.BatchNorm2d) and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        elif layers and isinstance(layer, nn.BatchNorm1d) and isinstance(layers[-1], nn.Linear):
            layers[-1] = fuse_linear_bn_eval(layers[-1], layer)
        elif not isinstance(layer, nn.Dropout):
            layers.append(layer)
    return nn.Sequential(*layers)


def require_agreement(classifier: Classifier, artifact: Artifact, images: Tensor) -> None:
    """Raise ExportRefused unless both give each image the same answer, whatever the batch size."""
    expected = _answer(classifier, images)
    for batch in COMPARED_BATCHES:
        actual = artifact.answer(images.numpy(), batch)
        size = np.maximum(1, np.abs(expected.typicality))
        differences = {
            "probability": (np.abs(actual.probabilities - expected.probabilities), TOLERANCE),
            "typicality": (np.abs(actual.typicality - expected.typicality) / size, TYPICALITY_TOLERANCE),
        }
        for what, (difference, tolerance) in differences.items():
            if not difference.max() <= tolerance:
                raise ExportRefused(
                    f"ONNX Runtime and PyTorch differ by {difference.max():.2g} in {what} at batch size "
                    f"{batch}; {tolerance:g} is allowed. Nothing was written."
                )


@torch.no_grad()
def _answer(classifier: Classifier, images: Tensor) -> Answers:
    probabilities, typicality = classifier(images)
    return Answers(probabilities.numpy(), typicality.numpy())


def describe(candidate: Candidate, created: datetime) -> dict[str, str]:
    """Return the metadata that does not depend on the network."""
    recipe = candidate.recipe
    source = SOURCES[recipe.dataset]
    fitted = asdict(candidate.calibration) if candidate.calibration else {"temperature": 1.0}
    return {
        "contract_version": str(CONTRACT_VERSION),
        "recipe": recipe.name,
        "dataset": recipe.dataset,
        "labels": json.dumps(source.labels),
        "canonical_form": source.canonical_form,
        "calibrated": "true" if candidate.calibration else "false",
        **{key: repr(value) for key, value in fitted.items()},
        "seed": str(recipe.seed),
        "teachers": json.dumps(dict(candidate.teachers)),
        "commit": candidate.commit,
        "packages": json.dumps(_packages()),
        "created": created.isoformat(timespec="seconds"),
    }


def _packages() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:  # one of the two ONNX Runtimes is never here
            continue
    return found


def _write(path: Path, model: bytes, images: Tensor, classifier: Classifier) -> None:
    """Put both files in place whole, the golden one first, so that no reader ever sees half an artifact.

    The golden file also tells what the model before answered: a process that is killed between the two
    renames leaves that model with a golden file it agrees with.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    golden = path.with_suffix(".golden.npz")
    expected = _answer(classifier, images)
    temporary_golden, temporary_model = (
        target.with_name(f".{target.name}.{os.getpid()}.tmp") for target in (golden, path)
    )
    arrays: dict[str, Any] = {"images": images.numpy(), **asdict(expected)}
    try:
        with alone_in(path.parent):
            with temporary_golden.open("wb") as file:
                np.savez_compressed(file, **arrays, **_answers_before(path, images))
                _flush(file)
            with temporary_model.open("wb") as file:
                file.write(model)
                _flush(file)
            temporary_golden.replace(golden)
            temporary_model.replace(path)
    finally:
        temporary_golden.unlink(missing_ok=True)
        temporary_model.unlink(missing_ok=True)


def _answers_before(path: Path, images: Tensor) -> dict[str, Any]:
    """What the artifact at `path` answers to these images; nothing where there is none, or a broken one."""
    try:
        before = Artifact(path.read_bytes()).answer(images.numpy())
    except Exception:  # noqa: BLE001  ONNX Runtime has a class of its own for each way a file can be broken
        return {}
    return {f"previous_{name}": array for name, array in asdict(before).items()}


def _flush(file: BinaryIO) -> None:
    """Have the bytes on the disk before a name points to them, for the power may fail too."""
    file.flush()
    os.fsync(file.fileno())
