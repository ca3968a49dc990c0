"""Artifacts small enough to make in a test: the likeliest label is the image's first pixel, modulo ten."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

METADATA = {
    "contract_version": "1",
    "dataset": "mnist",
    "labels": json.dumps([str(digit) for digit in range(10)]),
    "canonical_form": "digit",
    "parameters": "10",
    "macs_per_image": "10",
    "test_accuracy": "0.5",
    "calibrated": "true",
    "temperature": "1.0",
    "expected_calibration_error": "0.01",
    "conformal_level": "0.99",
    "conformal_quantile": "0.5",
    "in_distribution_level": "0.99",
    "in_distribution_threshold": "0.0",
    "seed": "0",
    "commit": "abc",
    "packages": json.dumps({"torch": "0"}),
    "created": "2026-01-01T00:00:00+00:00",
}


def expected(images: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What the tiny network answers, computed without it."""
    logits = 8.0 * (images[:, 0, 0, None] % 10 == np.arange(10))
    exponentials = np.exp(logits)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), images[:, 0, 0].astype(np.float32)


def picture(label: int) -> bytes:
    """A picture that the tiny network reads as `label` with `canonical=never`."""
    pixels = np.full((28, 28), 200, np.uint8)
    pixels[0, 0] = label
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def golden_images() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (16, 28, 28), dtype=np.uint8)


def graph(*, slow_layers: int = 0, batch: str | int = "batch") -> onnx.GraphProto:
    """First pixel modulo ten, one hot, softmax; `slow_layers` 784x784 products make each image cost time."""

    def constant(name: str, value: Any, kind: Any) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value, kind), name)

    constants = [
        constant("start", [0, 0], np.int64),
        constant("end", [1, 1], np.int64),
        constant("axes", [1, 2], np.int64),
        constant("flat", [-1, 1], np.int64),
        constant("one", [-1], np.int64),
        constant("ten", 10, np.int64),
        constant("classes", [list(range(10))], np.int64),
        constant("eight", 8.0, np.float32),
        constant("flat784", [-1, 784], np.int64),
        constant("zero", 0.0, np.float32),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Slice", ["wide", "start", "end", "axes"], ["pixel"]),
        helper.make_node("Reshape", ["pixel", "flat"], ["column"]),
        helper.make_node("Mod", ["column", "ten"], ["label"]),
        helper.make_node("Equal", ["label", "classes"], ["hit"]),
        helper.make_node("Cast", ["hit"], ["one_hot"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["one_hot", "eight"], ["logits"]),
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "flat784"], ["hidden0"]),
    ]
    if slow_layers:
        constants.append(constant("weight", np.random.default_rng(0).normal(0, 0.03, (784, 784)), np.float32))
        for layer in range(slow_layers):
            nodes.append(helper.make_node("MatMul", [f"hidden{layer}", "weight"], [f"product{layer}"]))
            nodes.append(helper.make_node("Relu", [f"product{layer}"], [f"hidden{layer + 1}"]))
    nodes += [
        helper.make_node("Mul", [f"hidden{slow_layers}", "zero"], ["nothing"]),
        helper.make_node("ReduceSum", ["nothing", "one"], ["nothing1"], keepdims=1),
        helper.make_node("Add", ["logits", "nothing1"], ["logits1"]),
        helper.make_node("Softmax", ["logits1"], ["probabilities"], axis=1),
        helper.make_node("Cast", ["column"], ["column_float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["column_float", "one"], ["typicality"]),
    ]
    return helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, 28, 28])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, 10]),
            helper.make_tensor_value_info("typicality", TensorProto.FLOAT, [batch]),
        ],
        constants,
    )


def write_artifact(
    folder: Path,
    name: str = "tiny",
    *,
    slow_layers: int = 0,
    batch: str | int = "batch",
    **metadata: str | None,
) -> Path:
    """An artifact and its golden file in `folder`; `metadata` replaces entries, None removes one."""
    model = helper.make_model(
        graph(slow_layers=slow_layers, batch=batch), opset_imports=[helper.make_opsetid("", 18)]
    )
    model.ir_version = 10
    entries = {**METADATA, "recipe": name, **metadata}
    helper.set_model_props(model, {key: value for key, value in entries.items() if value is not None})
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    images = golden_images()
    probabilities, typicality = expected(images)
    np.savez(folder / f"{name}.golden.npz", images=images, probabilities=probabilities, typicality=typicality)
    return path
