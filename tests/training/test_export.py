"""An artifact keeps the contract of models/README.md, or is not written at all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from tiny_training import TINY, changed, draw_bars

from training.architectures import build
from training.artifacts import Artifact, list_artifacts, read_artifact
from training.calibrate import Calibration
from training.data import Split
from training.detector import Detector, Distance, Energy, predict_typicality
from training.errors import ArtifactMissing, ExportRefused
from training.export import Candidate, classifier_of, export, require_agreement, to_onnx
from training.fit import predict_logits
from training.measure import Accuracy

if TYPE_CHECKING:
    from pathlib import Path

    from training.export import Shipped
    from training.recipes import Recipe

CALIBRATION = Calibration(
    temperature=1.7,
    probability_floor=0.02,
    expected_calibration_error=0.004,
    conformal_level=0.99,
    conformal_quantile=0.1 + 0.2,  # a number that only its repr reads back exactly
    in_distribution_level=0.99,
    in_distribution_threshold=4.25,
)
NETWORKS = {
    "softmax": {"architecture": "softmax", "widths": ()},
    "mlp": {"architecture": "mlp", "widths": (16, 16), "batch_norm": True, "dropout": 0.3},
    "cnn": {"architecture": "cnn", "widths": (4, 4, 8), "batch_norm": True, "standardise": True},
    "resnet": {"architecture": "resnet", "widths": (4, 4, 8)},
    "rnn": {"architecture": "rnn", "widths": (8,)},
}
TEST = draw_bars(1_200, seed=9)


def candidate(recipe: Recipe, calibration: Calibration | None = CALIBRATION) -> Candidate:
    """A network whose batch normalisation has seen something."""
    network = build(recipe).train()
    with torch.no_grad():
        for _ in range(5):
            network(torch.rand(64, 28, 28))
    detector = Detector(network[-1].in_features, units=5, score=Energy()).eval() if calibration else None
    return Candidate(network.eval(), recipe, calibration, detector, commit="0123abc+")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def shipped(folder: Path) -> Shipped:
    return export(candidate(changed(TINY, **NETWORKS["mlp"])), TEST, folder)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_answers_alike_in_pytorch_and_onnx_at_any_batch_size(
    tiny: Recipe, network: str
) -> None:
    offered = candidate(changed(tiny, **NETWORKS[network]))
    classifier = classifier_of(offered)
    model = to_onnx(classifier)
    onnx.checker.check_model(model, full_check=True)
    require_agreement(classifier, Artifact(model.SerializeToString()), TEST.images[:1_000])


def test_tensors_are_those_of_the_contract(shipped: Shipped) -> None:
    graph = onnx.load(shipped.path).graph

    def describe(value: onnx.ValueInfoProto) -> tuple[str, str, list[int | str]]:
        kind = value.type.tensor_type
        shape = [dimension.dim_param or dimension.dim_value for dimension in kind.shape.dim]
        return value.name, onnx.TensorProto.DataType.Name(kind.elem_type), shape

    assert [describe(value) for value in graph.input] == [("images", "UINT8", ["batch", 28, 28])]
    assert [describe(value) for value in graph.output] == [
        ("probabilities", "FLOAT", ["batch", 10]),
        ("typicality", "FLOAT", ["batch"]),
    ]


def test_metadata_reads_back_exactly(shipped: Shipped) -> None:
    metadata = read_artifact("tiny", shipped.path.parent).metadata
    assert metadata["contract_version"] == "1"
    assert metadata["recipe"] == "tiny"
    assert metadata["dataset"] == "mnist"
    assert json.loads(metadata["labels"]) == [str(digit) for digit in range(10)]
    assert metadata["canonical_form"] == "digit"
    assert metadata["calibrated"] == "true"
    for name in Calibration.__dataclass_fields__:
        assert float(metadata[name]) == getattr(CALIBRATION, name)
    assert int(metadata["parameters"]) == 784 * 16 + 16 * 16 + 4 * 16 + 16 * 10 + 10
    assert int(metadata["macs_per_image"]) == 784 * 16 + 16 * 16 + 16 * 10
    assert float(metadata["test_accuracy"]) == shipped.test_accuracy.share
    assert metadata["seed"] == "1"
    assert metadata["teachers"] == "{}"
    assert metadata["commit"] == "0123abc+"
    assert json.loads(metadata["packages"])["torch"] == torch.__version__.split("+")[0]
    assert metadata["created"] == shipped.created.isoformat(timespec="seconds")


def test_without_calibration_its_keys_are_absent(tiny: Recipe, tmp_path: Path) -> None:
    export(candidate(tiny, calibration=None), TEST, tmp_path)
    artifact = read_artifact("tiny", tmp_path)
    assert not artifact.calibrated
    assert artifact.number("temperature") == 1.0
    absent = set(Calibration.__dataclass_fields__) - {"temperature"}
    assert not absent & set(artifact.metadata)


def test_normalisation_and_calibration_are_in_the_graph(tiny: Recipe, tmp_path: Path) -> None:
    offered = candidate(changed(tiny, standardise=True))
    export(offered, TEST, tmp_path)
    answers = read_artifact("tiny", tmp_path).answer(TEST.images.numpy())
    logits = predict_logits(offered.network, TEST.images)
    q = torch.softmax(logits, 1)
    raised = (q**2 / (q + 0.02)) ** (1 / 1.7)
    expected = (raised / raised.sum(1, keepdim=True)).numpy()
    assert np.abs(answers.probabilities - expected).max() < 1e-5


@pytest.mark.parametrize("kind", [Energy, Distance])
def test_typicality_is_the_detectors(kind: type[Energy | Distance]) -> None:
    offered = candidate(changed(TINY, **NETWORKS["mlp"]))
    torch.manual_seed(3)
    score = Energy() if kind is Energy else Distance(torch.rand(1_200, 16), TEST.labels)
    detector = Detector(16, units=5, score=score).eval()
    typicality = predict_typicality(offered.network, detector, TEST.images).numpy()
    graph = to_onnx(classifier_of(replace(offered, detector=detector)))
    answers = Artifact(graph.SerializeToString()).answer(TEST.images.numpy())
    assert np.allclose(answers.typicality, typicality, atol=1e-4)


def test_without_a_detector_typicality_is_the_log_of_the_summed_exponentials(
    tiny: Recipe, tmp_path: Path
) -> None:
    offered = candidate(tiny, calibration=None)
    export(offered, TEST, tmp_path)
    answers = read_artifact("tiny", tmp_path).answer(TEST.images.numpy())
    logits = predict_logits(offered.network, TEST.images)
    assert np.allclose(answers.typicality, torch.logsumexp(logits, 1).numpy(), atol=1e-4)


def test_weights_that_were_read_before_are_not_read_again(tiny: Recipe, tmp_path: Path) -> None:
    unlabelled = Split(TEST.images, torch.full_like(TEST.labels, -1))
    shipped = export(candidate(tiny), unlabelled, tmp_path, known=Accuracy(7, 1_200))
    assert shipped.test_accuracy == Accuracy(7, 1_200)
    assert read_artifact("tiny", tmp_path).number("test_accuracy") == 7 / 1_200


def test_the_golden_file_holds_the_first_test_images_with_the_answers_of_pytorch(shipped: Shipped) -> None:
    with np.load(shipped.path.with_suffix(".golden.npz")) as golden:
        assert np.array_equal(golden["images"], TEST.images[:64].numpy())
        answers = read_artifact("tiny", shipped.path.parent).answer(golden["images"])
        assert golden["probabilities"].dtype == golden["typicality"].dtype == np.float32
        assert np.abs(answers.probabilities - golden["probabilities"]).max() < 1e-5
        assert np.allclose(answers.typicality, golden["typicality"], atol=1e-4)


def test_the_accuracy_is_the_share_of_test_labels_that_the_artifact_gives(shipped: Shipped) -> None:
    answers = read_artifact("tiny", shipped.path.parent).answer(TEST.images.numpy(), batch=7)
    right = int((answers.probabilities.argmax(1) == TEST.labels.numpy()).sum())
    assert (shipped.test_accuracy.correct, shipped.test_accuracy.images) == (right, 1_200)


def test_nothing_but_the_two_files_is_left(shipped: Shipped) -> None:
    assert sorted(path.name for path in shipped.path.parent.iterdir()) == ["tiny.golden.npz", "tiny.onnx"]
    assert list_artifacts(shipped.path.parent) == ["tiny"]


def test_a_graph_that_answers_otherwise_is_refused_and_the_old_artifact_stays(
    shipped: Shipped, tiny: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in shipped.path.parent.iterdir()}
    other = classifier_of(candidate(changed(tiny, seed=7)))
    monkeypatch.setattr("training.export.to_onnx", lambda _classifier: to_onnx(other))
    with pytest.raises(ExportRefused, match=r"differ by .* at batch size 1"):
        export(candidate(changed(tiny, **NETWORKS["mlp"])), TEST, shipped.path.parent)
    assert {path.name: path.read_bytes() for path in shipped.path.parent.iterdir()} == before


def test_answers_that_are_no_numbers_are_refused(tiny: Recipe, tmp_path: Path) -> None:
    offered = candidate(tiny)
    with torch.no_grad():
        offered.network[1].weight[0, 0] = float("nan")
    with pytest.raises(ExportRefused):
        export(offered, TEST, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_test_labels_are_not_looked_at_before_the_graph_is_right(tiny: Recipe, tmp_path: Path) -> None:
    offered = candidate(tiny)
    with torch.no_grad():
        offered.network[1].weight.fill_(float("nan"))
    with pytest.raises(ExportRefused):
        export(offered, replace(TEST, labels=None), tmp_path)


def test_a_missing_artifact_is_named_with_those_there_are(shipped: Shipped) -> None:
    with pytest.raises(ArtifactMissing, match=r"nothing\.onnx does not exist; the artifacts here: tiny"):
        read_artifact("nothing", shipped.path.parent)


def test_the_version_is_the_first_12_digits_of_the_files_sha256(shipped: Shipped) -> None:
    digest = hashlib.sha256(shipped.path.read_bytes()).hexdigest()
    assert shipped.version == digest[:12] == read_artifact("tiny", shipped.path.parent).version


def test_typicality_is_finite_however_strange_an_image_is() -> None:
    offered = candidate(TINY)
    with torch.no_grad():
        offered.detector.opinion.bias.fill_(-1e4)
    graph = to_onnx(classifier_of(offered))
    answers = Artifact(graph.SerializeToString()).answer(TEST.images[:5].numpy())
    assert np.allclose(answers.typicality, -1e4, rtol=0.01)
