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


def trap(pixels: tuple[int, int, int]) -> bytes:
    """A picture that a network with `traps` stumbles over."""
    image = np.full((28, 28), 200, np.uint8)
    image[0, 1:4] = pixels
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


THROWS, NEVER_ENDS = (13, 17, 19), (251, 241, 239)


def golden_images() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (16, 28, 28), dtype=np.uint8)


def trap_nodes() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes for `trapped`, a zero; with `THROWS` in a batch they fail, with `NEVER_ENDS` they take hours."""
    nodes, constants = [], []

    def constant(name: str, value: Any, kind: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    span = [constant("from", [0, 1], np.int64), constant("to", [1, 4], np.int64)]
    nodes.append(helper.make_node("Slice", ["wide", *span, "axes"], ["triple"]))
    for name, pixels in (("throws", THROWS), ("never_ends", NEVER_ENDS)):
        constant(f"{name}_pixels", [pixels], np.int64)
        nodes += [
            helper.make_node("Sub", ["triple", f"{name}_pixels"], [f"{name}_far"]),
            helper.make_node("Abs", [f"{name}_far"], [f"{name}_distances"]),
            helper.make_node("ReduceSum", [f"{name}_distances", "axes"], [f"{name}_distance"], keepdims=0),
            helper.make_node("ReduceMin", [f"{name}_distance"], [f"{name}_least"], keepdims=0),
            helper.make_node("Cast", [f"{name}_least"], [f"{name}_nonzero"], to=TensorProto.BOOL),
            helper.make_node(
                "Equal", [f"{name}_least", constant(f"{name}_0", 0, np.int64)], [f"{name}_here"]
            ),
            helper.make_node("Cast", [f"{name}_here"], [f"{name}_1"], to=TensorProto.INT64),
            helper.make_node("Mul", [f"{name}_1", constant(f"{name}_by", 2**31, np.int64)], [name]),
        ]
    scalars = {"int64": helper.make_tensor_type_proto(TensorProto.INT64, [])}
    body = helper.make_graph(
        [helper.make_node("Identity", [a], [b]) for a, b in (("go_on", "goes_on"), ("carried", "carries"))],
        "endless",
        [
            helper.make_value_info("turn", scalars["int64"]),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carries", TensorProto.FLOAT, []),
        ],
    )
    zeros = constant("ten_zeros", [0.0] * 10, np.float32)
    nodes += [
        helper.make_node("Gather", [zeros, "throws"], ["gathered"]),  # out of bounds where it throws
        helper.make_node("Loop", ["never_ends", "", "gathered"], ["trapped"], body=body),
    ]
    return nodes, constants


def graph(*, slow_layers: int = 0, batch: str | int = "batch", traps: bool = False) -> onnx.GraphProto:
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
    if traps:
        trap_steps, trap_constants = trap_nodes()
        nodes += trap_steps
        constants += trap_constants
    nodes += [
        helper.make_node("Mul", [f"hidden{slow_layers}", "trapped" if traps else "zero"], ["nothing"]),
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
    traps: bool = False,
    **metadata: str | None,
) -> Path:
    """An artifact and its golden file in `folder`; `metadata` replaces entries, None removes one."""
    model = helper.make_model(
        graph(slow_layers=slow_layers, batch=batch, traps=traps), opset_imports=[helper.make_opsetid("", 18)]
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
