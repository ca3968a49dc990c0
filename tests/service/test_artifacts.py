"""An artifact is served when it keeps the contract, and refused with a sentence for each rule it breaks."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.capi import build_and_package_info
from tiny import THROWS, expected, golden_images, write_artifact

from service import artifacts, cuda, gpu
from service.artifacts import (
    PROBABILITY_TOLERANCE,
    TYPICALITY_TOLERANCE,
    has_cuda_driver,
    load,
    load_named,
    runtime_facts,
)
from service.errors import ArtifactRejected
from service.settings import Device, Settings


def reasons(path: Path) -> list[str]:
    with pytest.raises(ArtifactRejected) as caught:
        load(path, device="cpu", threads=1)
    assert caught.value.name == path.stem
    return caught.value.reasons


def test_a_whole_artifact_is_loaded_and_answers(tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    classifier = load(path, device="cpu", threads=1)
    probabilities, typicality = classifier.predict(golden_images())
    np.testing.assert_allclose(probabilities, expected(golden_images())[0], atol=1e-6)
    assert typicality.shape == (16,)
    assert classifier.provider == "CPUExecutionProvider"
    assert classifier.version == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert classifier.card.labels == tuple("0123456789")


def test_an_artifact_without_calibration_is_loaded(tmp_path: Path) -> None:
    path = write_artifact(
        tmp_path,
        calibrated="false",
        expected_calibration_error=None,
        conformal_level=None,
        conformal_quantile=None,
        in_distribution_level=None,
        in_distribution_threshold=None,
    )
    card = load(path, device="cpu", threads=1).card
    assert card.conformal_quantile is None
    assert card.in_distribution_threshold is None


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("contract_version", "2"),
        ("contract_version", None),
        ("recipe", "another"),
        ("dataset", None),
        ("labels", json.dumps(list("012345678"))),
        ("labels", "zero, one"),
        ("canonical_form", "letter"),
        ("parameters", "many"),
        ("parameters", "0"),
        ("test_accuracy", "1.5"),
        ("test_accuracy", "nan"),
        ("temperature", "0"),
        ("temperature", "inf"),
        ("calibrated", "perhaps"),
        ("conformal_quantile", None),
        ("in_distribution_threshold", "nan"),
        ("packages", "[]"),
        ("created", "yesterday"),
        ("created", "2026-01-01T00:00:00"),
    ],
)
def test_a_wrong_metadata_entry_is_refused(tmp_path: Path, entry: str, value: str | None) -> None:
    [reason] = reasons(write_artifact(tmp_path, **{entry: value}))
    assert entry in reason


def test_an_entry_within_an_entry_is_named_with_its_place(tmp_path: Path) -> None:
    [reason] = reasons(write_artifact(tmp_path, packages='{"torch": 2}'))
    assert reason == "Metadata packages.torch: Input should be a valid string."


def test_another_name_in_the_metadata_is_refused(tmp_path: Path) -> None:
    assert reasons(write_artifact(tmp_path, recipe="another")) == [
        "The metadata names the recipe 'another', the file 'tiny'."
    ]


def test_every_broken_rule_has_its_sentence(tmp_path: Path) -> None:
    path = write_artifact(tmp_path, batch=16, temperature="-1", dataset=None, seed="x")
    assert len(reasons(path)) == 6, "three of the metadata, one for each tensor"


def test_calibration_entries_without_calibration_are_refused(tmp_path: Path) -> None:
    [reason] = reasons(write_artifact(tmp_path, calibrated="false"))
    assert "must have none of" in reason


def test_a_fixed_batch_size_is_refused(tmp_path: Path) -> None:
    assert any(
        "fixes the batch size at 16" in reason for reason in reasons(write_artifact(tmp_path, batch=16))
    )


def edited(path: Path, edit: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)
    return path


def test_a_missing_output_is_refused(tmp_path: Path) -> None:
    def drop(model: onnx.ModelProto) -> None:
        del model.graph.output[1]

    assert reasons(edited(write_artifact(tmp_path), drop)) == ["The graph has no tensor `typicality`."]


def test_every_wrong_tensor_has_its_sentence(tmp_path: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.output[0] == "probabilities").output[0] = "answers"
        model.graph.output[0].name = "answers"
        model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
        cast = next(node for node in model.graph.node if node.output[0] == "column_float")
        cast.attribute[0].i = onnx.TensorProto.DOUBLE

    assert reasons(edited(write_artifact(tmp_path), rename)) == [
        "The graph has an unknown tensor `answers`.",
        "The graph has no tensor `probabilities`.",
        "`typicality` is ('tensor(double)', ['batch']), not tensor(float) of shape ['batch'].",
    ]


def test_one_typicality_for_the_whole_batch_is_refused(tmp_path: Path) -> None:
    def reduce(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.output[0] == "typicality")
        node.CopyFrom(onnx.helper.make_node("ReduceMax", ["column_float"], ["typicality"], keepdims=0))
        del model.graph.output[1].type.tensor_type.shape.dim[:]

    assert reasons(edited(write_artifact(tmp_path), reduce)) == [
        "`typicality` is ('tensor(float)', []), not tensor(float) of shape ['batch']."
    ]


def test_an_output_of_another_name_is_refused(tmp_path: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        model.graph.output[1].name = "column_float"

    assert "The graph has an unknown tensor `column_float`." in reasons(
        edited(write_artifact(tmp_path), rename)
    )


def test_an_output_of_another_shape_is_refused(tmp_path: Path) -> None:
    def keep_the_column(model: onnx.ModelProto) -> None:
        reshape = next(node for node in model.graph.node if node.output[0] == "typicality")
        reshape.input[1] = "flat"
        model.graph.output[1].type.tensor_type.shape.dim.add().dim_value = 1

    [reason] = reasons(edited(write_artifact(tmp_path), keep_the_column))
    assert reason.startswith("`typicality` is ")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" + bytes(100)])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    [reason] = reasons(path)
    assert re.fullmatch(r"ONNX Runtime cannot open the file: \[ONNXRuntimeError\] .+", reason)


def test_the_outputs_may_stand_in_any_order(tmp_path: Path) -> None:
    def swap(model: onnx.ModelProto) -> None:
        outputs = list(model.graph.output)
        del model.graph.output[:]
        model.graph.output.extend(reversed(outputs))

    path = edited(write_artifact(tmp_path), swap)
    probabilities, typicality = load(path, device="cpu", threads=1).predict(golden_images())
    assert probabilities.shape == (16, 10)
    assert typicality.shape == (16,)


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    path.write_bytes(path.read_bytes()[:-400])
    assert reasons(path)


def test_a_model_with_weights_in_another_file_is_refused(tmp_path: Path) -> None:
    path = write_artifact(tmp_path, slow_layers=1)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()
    [reason] = reasons(path)
    assert "ONNX Runtime cannot open the file" in reason


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert reasons(tmp_path / "absent.onnx") == ["The file cannot be read: No such file or directory."]


def golden(path: Path, **changes: np.ndarray) -> Path:
    file = path.with_name(f"{path.stem}.golden.npz")
    with np.load(file) as old:
        arrays = {**old, **changes}
    np.savez(file, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_an_artifact_without_golden_file_is_refused(tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    path.with_name("tiny.golden.npz").unlink()
    assert reasons(path) == ["The golden file tiny.golden.npz cannot be read: No such file or directory."]


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, golden_images())
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", npy()])
def test_a_golden_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = write_artifact(tmp_path)
    path.with_name("tiny.golden.npz").write_bytes(content)
    [reason] = reasons(path)
    assert reason.startswith("The golden file tiny.golden.npz cannot be read: ")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": np.uint8(0)}, "holds no uint8 images"),
        ({"images": golden_images()[:1]}, "holds no uint8 images"),
        ({"typicality": np.float32(0)}, "answers of other shapes"),
        ({"probabilities": np.full((len(golden_images()), 10), "0.1")}, "holds answers that are no float32"),
        ({"typicality": np.zeros(len(golden_images()))}, "holds answers that are no float32"),
        (
            {
                "previous_probabilities": np.full((len(golden_images()), 10), "0.1"),
                "previous_typicality": np.zeros(len(golden_images())),
            },
            "holds answers that are no float32",
        ),
    ],
)
def test_a_golden_file_of_other_arrays_is_refused(
    tmp_path: Path, changes: dict[str, np.ndarray], says: str
) -> None:
    [reason] = reasons(golden(write_artifact(tmp_path), **changes))
    assert says in reason


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_nothing_in_a_golden_file_is_unpickled(tmp_path: Path) -> None:
    trap = np.array([Trap(tmp_path / "sprung")], object)
    [reason] = reasons(golden(write_artifact(tmp_path), images=trap))
    assert reason.startswith("The golden file tiny.golden.npz cannot be read: ")
    assert not (tmp_path / "sprung").exists()


def test_two_golden_images_are_enough(tmp_path: Path) -> None:
    probabilities, typicality = expected(golden_images()[:2])
    two = {"images": golden_images()[:2], "probabilities": probabilities, "typicality": typicality}
    load(golden(write_artifact(tmp_path), **two), device="cpu", threads=1)


@given(st.data())
def test_any_damage_to_a_golden_file_ends_in_a_verdict(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = write_artifact(folder).with_name("tiny.golden.npz")
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
    assert all(isinstance(fault, str) for fault in artifacts._golden_faults(path, expected))


def test_a_truncated_golden_file_is_refused(tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    file = path.with_name("tiny.golden.npz")
    file.write_bytes(file.read_bytes()[:200])
    [reason] = reasons(path)
    assert "cannot be read" in reason


def test_the_model_before_is_accepted_beside_the_golden_file_of_the_next(tmp_path: Path) -> None:
    probabilities, typicality = expected(golden_images())
    path = golden(write_artifact(tmp_path), probabilities=np.roll(probabilities, 1, axis=1))
    [reason] = reasons(path)
    assert "answers differ for golden images" in reason
    before = {"previous_probabilities": probabilities, "previous_typicality": typicality}
    load(golden(path, **before), device="cpu", threads=1)
    [reason] = reasons(golden(path, **{**before, "previous_probabilities": probabilities[:3]}))
    assert "answers differ for golden images" in reason
    [reason] = reasons(golden(path, **{**before, "previous_typicality": typicality + np.float32(9)}))
    assert "answers differ for golden images" in reason


def test_a_model_that_answers_its_golden_images_otherwise_is_refused(tmp_path: Path) -> None:
    probabilities, typicality = expected(golden_images())
    off_by_more = golden(write_artifact(tmp_path), probabilities=probabilities + np.float32(2e-4))
    [reason] = reasons(off_by_more)
    assert "answers differ for golden images" in reason
    load(golden(off_by_more, probabilities=probabilities + np.float32(5e-5)), device="cpu", threads=1)
    [reason] = reasons(golden(off_by_more, typicality=typicality * np.float32(1.01)))
    assert "in typicality" in reason
    [reason] = reasons(golden(off_by_more, typicality=typicality * np.float32("nan")))
    assert "answers differ" in reason


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.zeros((16, 28, 27), np.uint8)},
        {"images": np.zeros((16, 28, 28), np.float32)},
        {"images": np.zeros((1, 28, 28), np.uint8)},
        {"probabilities": np.zeros((16, 9), np.float32)},
        {"typicality": np.zeros((15,), np.float32)},
    ],
)
def test_golden_arrays_of_other_shapes_are_refused(tmp_path: Path, changes: dict[str, np.ndarray]) -> None:
    [reason] = reasons(golden(write_artifact(tmp_path), **changes))
    assert "golden file" in reason


def test_probabilities_that_do_not_sum_to_one_are_refused(tmp_path: Path) -> None:
    def skip_softmax(model: onnx.ModelProto) -> None:
        softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
        softmax.op_type = "Identity"
        del softmax.attribute[:]

    broken = reasons(edited(write_artifact(tmp_path), skip_softmax))
    assert any("misses 1 by" in reason for reason in broken)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ([0.25, 0.75, 0.0], None),
        ([0.5, 0.50005, 0.0], None),
        ([0.5, 0.5002, 0.0], "A row of probabilities misses 1 by 2.0e-04."),
        ([0.5, 0.4998, 0.0], "A row of probabilities misses 1 by 2.0e-04."),
        ([-0.25, 0.5, 0.75], "Some probabilities are negative or not finite."),
        ([float("nan"), 0.5, 0.5], "Some probabilities are negative or not finite."),
        ([float("inf"), 0.5, 0.5], "Some probabilities are negative or not finite."),
    ],
)
def test_every_row_of_probabilities_is_one(row: list[float], fault: str | None) -> None:
    probabilities = np.array([[1, 0, 0], row, [0, 1, 0]], np.float32)
    assert artifacts._probability_faults(probabilities) == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("probability", "typicality", "expected_typicality", "differs"),
    [
        (PROBABILITY_TOLERANCE, 0, 0, False),
        (1.01 * PROBABILITY_TOLERANCE, 0, 0, True),
        (-1.01 * PROBABILITY_TOLERANCE, 0, 0, True),
        (0, TYPICALITY_TOLERANCE, 0, False),
        (0, 0.5 + 1.01 * TYPICALITY_TOLERANCE, 0.5, True),
        (0, 0.5 - 1.01 * TYPICALITY_TOLERANCE, 0.5, True),
        (0, -1000 - 0.99, -1000, False),
        (0, -1000 - 1.01, -1000, True),
        (float("nan"), 0, 0, True),
        (0, float("nan"), 0, True),
    ],
)
def test_answers_agree_within_the_tolerance_of_probabilities_and_the_relative_one_of_typicality(
    *, probability: float, typicality: float, expected_typicality: float, differs: bool
) -> None:
    answers = np.array([[0, probability], [0, 0]]), np.array([0, typicality])
    wanted = np.zeros((2, 2)), np.array([0, expected_typicality])
    assert bool(artifacts._difference("x", answers, wanted)) == differs


def test_an_answer_that_depends_on_its_neighbours_is_refused(tmp_path: Path) -> None:
    def softmax_over_the_batch(model: onnx.ModelProto) -> None:
        softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
        softmax.attribute[0].i = 0

    broken = reasons(edited(write_artifact(tmp_path), softmax_over_the_batch))
    says = "The answers differ for an image alone and the same image in a batch: by "
    assert any(reason.startswith(says) for reason in broken)


def test_an_artifact_is_found_by_its_name_and_opened_as_the_settings_say(tmp_path: Path) -> None:
    write_artifact(tmp_path)
    assert load_named("tiny", Settings(models_dir=tmp_path, device="cpu")).name == "tiny"
    with pytest.raises(ArtifactRejected, match=r"^absent: The file cannot be read"):
        load_named("absent", Settings(models_dir=tmp_path))


def test_a_classifier_computes_in_as_many_threads_as_it_was_given(tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    alone = psutil.Process().num_threads()
    for threads in (1, 3):
        classifier = load(path, device="cpu", threads=threads)
        assert psutil.Process().num_threads() == alone + threads - 1
        del classifier


@pytest.mark.parametrize(
    ("device", "driver", "before_the_cpu"),
    [
        ("auto", False, []),
        ("auto", True, [gpu.CUDA]),
        ("cuda", True, [gpu.CUDA]),
        ("tensorrt", True, [gpu.TENSORRT, gpu.CUDA]),
        ("cpu", True, []),
    ],
)
def test_cuda_is_asked_for_before_the_cpu_where_there_is_a_driver(
    monkeypatch: pytest.MonkeyPatch, device: Device, *, driver: bool, before_the_cpu: list[str]
) -> None:
    monkeypatch.setattr(artifacts, "has_cuda_driver", lambda: driver)
    options = gpu.GpuOptions(memory_mb=512)
    *first, last = artifacts._providers(device, options)
    assert last == "CPUExecutionProvider"
    assert [provider for provider, _ in first] == before_the_cpu
    if first:
        assert first == gpu.providers(options, tensorrt=device == "tensorrt")


class GpuSession:
    """A session on the CPU that says it runs on a GPU."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    def get_providers(self) -> list[str]:
        return [gpu.CUDA]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def test_what_the_gpu_cannot_compute_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_artifact(tmp_path)
    open_session = artifacts._open
    monkeypatch.setattr(artifacts, "_open", lambda *given: GpuSession(open_session(*given)))
    with pytest.raises(ArtifactRejected, match=r"^tiny: CUDAExecutionProvider cannot compute it: (?!None)"):
        load(path, device="cpu", threads=1)


def test_on_a_gpu_batches_are_bound_to_its_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    open_session = artifacts._open
    monkeypatch.setattr(artifacts, "_open", lambda *given: GpuSession(open_session(*given)))
    monkeypatch.setattr(gpu, "BoundSession", partial(gpu.BoundSession, device="cpu"))
    classifier = load(path, device="cpu", threads=1)
    assert classifier.provider == gpu.CUDA
    assert isinstance(classifier.predict, gpu.BoundSession.func)
    np.testing.assert_allclose(
        classifier.predict(golden_images())[0], expected(golden_images())[0], atol=1e-6
    )


def test_an_artifact_is_opened_as_the_settings_want_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[tuple[Any, ...]] = []
    open_session = artifacts._open

    def spy(*given: Any) -> onnxruntime.InferenceSession:
        opened.append(given)
        return open_session(*given)

    monkeypatch.setattr(artifacts, "_open", spy)
    content = write_artifact(tmp_path).read_bytes()
    wanted = Settings(
        models_dir=tmp_path, device="cpu", threads=3, max_batch=7, gpu_memory_mb=512, cuda_graphs=True
    )
    load_named("tiny", wanted)
    assert opened == [("tiny", content, "cpu", 3, gpu.GpuOptions(7, 512, graphs=True))]


def test_what_runs_here_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    facts = runtime_facts()
    assert facts["ONNX Runtime"].startswith(f"{onnxruntime.__version__} (onnxruntime")
    assert facts["execution providers"].split(", ") == onnxruntime.get_available_providers()
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    assert (len(facts) > 2) == has_cuda
    if has_cuda:
        version = float(build_and_package_info.cuda_version)
        assert facts["CUDA"] == cuda.versions(int(version))["CUDA"]
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(has_cuda_driver(), reason="only a machine without a GPU can show this refusal")
def test_cuda_is_refused_where_the_session_would_run_on_the_cpu(tmp_path: Path) -> None:
    write_artifact(tmp_path)
    says = r"^tiny: device=cuda was asked for, but the session runs on CPUExecutionProvider\.$"
    with pytest.raises(ArtifactRejected, match=says):
        load_named("tiny", Settings(models_dir=tmp_path, device="cuda"))
    assert load_named("tiny", Settings(models_dir=tmp_path)).provider == "CPUExecutionProvider"


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda_driver(), reason="NO GPU HERE: the CUDA provider is not tested")
def test_cuda_really_runs_on_the_gpu(tmp_path: Path) -> None:
    assert load(write_artifact(tmp_path), device="cuda", threads=1).provider == "CUDAExecutionProvider"


def test_where_only_cpu_providers_are_nothing_is_said_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    facts = runtime_facts()
    assert facts.keys() == {"ONNX Runtime", "execution providers"}


def test_a_model_that_fails_on_its_golden_images_is_refused(tmp_path: Path) -> None:
    path = write_artifact(tmp_path, "trapped", traps=True)
    golden = path.with_suffix(".golden.npz")
    with np.load(golden) as whole:
        arrays_in_it = dict(whole)
    arrays_in_it["images"][0, 0, 1:4] = THROWS
    np.savez(golden, **arrays_in_it)
    with pytest.raises(ArtifactRejected, match="fails on its golden images"):
        load(path, device="cpu", threads=1)
