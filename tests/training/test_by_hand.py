"""What is derived by hand agrees with autograd, with exported graphs and with the printed figures."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from training import architectures, by_hand
from training.artifacts import Artifact
from training.data import load_test, load_training
from training.export import Classifier, to_onnx
from training.recipes import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from training.by_hand import Array, Layer
    from training.data import Split

few = st.integers(1, 5)
generators = st.builds(np.random.default_rng, st.integers(0, 2**32 - 1))
image_shapes = st.tuples(few, few, st.integers(4, 8), st.integers(4, 8))


def assert_agrees_with_autograd(layer: Layer, reference: Callable[..., torch.Tensor], x: Array) -> None:
    """`reference` is the layer as a PyTorch function of its input and parameters."""
    leaves = [torch.tensor(array, requires_grad=True) for array in (x, *layer.parameters)]
    expected = reference(*leaves)
    y = layer.forward(x)
    d_y = np.random.default_rng(0).normal(size=y.shape)
    d_x = layer.backward(d_y)
    expected.backward(torch.from_numpy(d_y))
    gradients = [leaf.grad for leaf in leaves]
    for ours, theirs in zip((y, d_x, *layer.gradients), (expected, *gradients), strict=True):
        assert_equal_within(1e-6, ours, theirs)


def assert_equal_within(tolerance: float, ours: Array, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("layer", "reference"),
    [
        (by_hand.Polynomial(1, 1, 0, 2), lambda x: 2 * x**3 + x + 1),
        (by_hand.Tanh(), torch.tanh),
        (by_hand.Sigmoid(), torch.sigmoid),
        (by_hand.ReLU(), torch.relu),
        (by_hand.LeakyReLU(), functional.leaky_relu),
        (by_hand.LeakyReLU(0.3), lambda x: functional.leaky_relu(x, 0.3)),
        (by_hand.Reshape(-1), lambda x: x.flatten(1)),
    ],
    ids=["Polynomial", "Tanh", "Sigmoid", "ReLU", "LeakyReLU", "LeakyReLU-0.3", "Reshape"],
)
@given(generator=generators, shape=st.lists(few, min_size=2, max_size=4))
def test_a_layer_without_weights_agrees_with_autograd(
    layer: Layer, reference: Callable[..., torch.Tensor], generator: np.random.Generator, shape: list[int]
) -> None:
    x = generator.normal(0, 3, shape)
    assert_agrees_with_autograd(layer, reference, x)
    assert_agrees_with_autograd(layer, reference, np.round(x))  # the corner of ReLU among them


@given(generator=generators, shape=st.lists(few, min_size=2, max_size=4), slope=st.floats(-1, 1))
def test_prelu_and_its_slope_agree_with_autograd(
    generator: np.random.Generator, shape: list[int], slope: float
) -> None:
    x = generator.normal(0, 3, shape)
    for values in (x, np.round(x)):
        assert_agrees_with_autograd(by_hand.PReLU(np.array([slope])), functional.prelu, values)


@given(generator=generators, batch=few, inputs=few, outputs=few)
def test_linear_agrees_with_autograd(
    generator: np.random.Generator, batch: int, inputs: int, outputs: int
) -> None:
    x, weight, bias = (generator.normal(size=s) for s in ((batch, inputs), (inputs, outputs), outputs))
    assert_agrees_with_autograd(by_hand.Linear(weight), lambda x, w: x @ w, x)
    assert_agrees_with_autograd(by_hand.Linear(weight, bias), lambda x, w, b: x @ w + b, x)


@given(generator=generators, batch=few, widths=st.lists(few, min_size=2, max_size=5))
def test_a_network_agrees_with_autograd(
    generator: np.random.Generator, batch: int, widths: list[int]
) -> None:
    def reference(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
            logits = x @ weight + bias
            x = torch.tanh(logits)
        return logits

    network = by_hand.tanh_mlp([generator.normal(size=s) for s in itertools.pairwise(widths)])
    assert_agrees_with_autograd(network, reference, generator.normal(size=(batch, widths[0])))


@given(generator=generators, batch=few, width=few)
def test_a_residual_block_agrees_with_autograd(
    generator: np.random.Generator, batch: int, width: int
) -> None:
    transform, skip = (by_hand.Linear(w) for w in generator.normal(size=(2, width, width)))
    x = generator.normal(size=(batch, width))
    block = by_hand.Residual(by_hand.Network(transform, by_hand.Tanh()), skip)
    assert_agrees_with_autograd(block, lambda x, w, v: torch.tanh(x @ w) + x @ v, x)
    block = by_hand.Residual(transform, by_hand.Network())
    assert_agrees_with_autograd(block, lambda x, w: x @ w + x, x)


@given(generator=generators, batch=few, steps=few, inputs=few, hidden=few)
def test_a_recurrence_agrees_with_autograd(
    generator: np.random.Generator, batch: int, steps: int, inputs: int, hidden: int
) -> None:
    torch_rnn = nn.RNN(inputs, hidden, batch_first=True, dtype=torch.float64)

    def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        parameters = {
            "weight_ih_l0": weight[:inputs].T,
            "weight_hh_l0": weight[inputs:].T,
            "bias_ih_l0": bias,
            "bias_hh_l0": torch.zeros_like(bias),
        }
        _, (last,) = torch.func.functional_call(torch_rnn, parameters, (x,))
        return last

    layer = by_hand.Recurrent(generator.normal(size=(inputs + hidden, hidden)), generator.normal(size=hidden))
    assert_agrees_with_autograd(layer, reference, generator.normal(size=(batch, steps, inputs)))


@given(
    generator=generators,
    shape=image_shapes,
    outputs=few,
    size=st.integers(1, 4),
    steps=st.fixed_dictionaries({"stride": st.integers(1, 3), "padding": st.integers(0, 2)}),
)
def test_a_convolution_agrees_with_autograd(
    generator: np.random.Generator, shape: tuple[int, ...], outputs: int, size: int, steps: dict[str, int]
) -> None:
    x, kernel = generator.normal(size=shape), generator.normal(size=(outputs, shape[1], size, size))
    for parameters in ([kernel], [kernel, generator.normal(size=outputs)]):
        layer = by_hand.Convolution(*parameters, **steps)
        assert_agrees_with_autograd(layer, lambda *tensors: functional.conv2d(*tensors, **steps), x)


@given(generator=generators, shape=image_shapes, size=st.integers(2, 4), stride=st.integers(1, 3))
def test_pooling_agrees_with_autograd(
    generator: np.random.Generator, shape: tuple[int, ...], size: int, stride: int
) -> None:
    x = generator.normal(size=shape)
    plain, framed = (by_hand.AveragePool(size, stride=stride, padding=padding) for padding in (0, 1))
    assert_agrees_with_autograd(plain, lambda x: functional.avg_pool2d(x, size, stride), x)
    assert_agrees_with_autograd(framed, lambda x: functional.avg_pool2d(x, size, stride, padding=1), x)
    maximum = by_hand.MaxPool(size, stride=stride)
    for values in (x, np.round(x)):  # rounded, for windows whose largest pixel is there twice
        assert_agrees_with_autograd(maximum, lambda x: functional.max_pool2d(x, size, stride), values)
    assert_agrees_with_autograd(by_hand.GlobalAveragePool(), lambda x: x.mean(dim=(2, 3)), x)


@given(generator=generators, batch=st.integers(2, 5), channels=few, sides=st.lists(few, max_size=2))
def test_batch_normalisation_agrees_with_autograd(
    generator: np.random.Generator, batch: int, channels: int, sides: list[int]
) -> None:
    def reference(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(x, None, None, scale, shift, training=True)

    x = generator.normal(3, 2, (batch, channels, *sides))
    scale, shift = generator.normal(size=(2, channels))
    assert_agrees_with_autograd(by_hand.batch_norm(scale, shift), reference, x)


@given(generator=generators, batch=few, classes=few)
def test_the_losses_agree_with_autograd(generator: np.random.Generator, batch: int, classes: int) -> None:
    outputs, targets = generator.normal(0, 3, (2, batch, classes))
    labels = generator.integers(classes, size=batch)
    cases = [
        (by_hand.squared_error, targets, lambda y, t: functional.mse_loss(y, t, reduction="sum")),
        (by_hand.half_squared_error, targets, lambda y, t: functional.mse_loss(y, t, reduction="sum") / 2),
        (by_hand.cross_entropy, labels, lambda z, t: functional.cross_entropy(z, t, reduction="sum")),
    ]
    for ours, target, reference in cases:
        leaf = torch.tensor(outputs, requires_grad=True)
        expected = reference(leaf, torch.from_numpy(target))
        expected.backward()
        loss, gradient = ours(outputs, target)
        assert loss == pytest.approx(expected.item(), abs=1e-6)
        assert_equal_within(1e-6, gradient, leaf.grad)


def test_cross_entropy_survives_logits_that_overflow_a_plain_softmax() -> None:
    logits = np.array([[957.0, 0.0, -957.0]])
    loss, gradient = by_hand.cross_entropy(logits, np.array([2]))
    assert loss == pytest.approx(2 * 957)
    np.testing.assert_allclose(gradient, [[1, 0, -1]], atol=1e-12)


@pytest.mark.parametrize("number", by_hand.WORKED_NUMBERS, ids=lambda number: number.statement)
def test_a_worked_number_comes_out(number: by_hand.WorkedNumber) -> None:
    np.testing.assert_allclose(number.compute(), number.published, rtol=0, atol=number.tolerance)
    assert number.holds()


@pytest.mark.parametrize("seed", range(5))
def test_one_sigmoid_neuron_learns_and(seed: int) -> None:
    neuron = by_hand.train_and_neuron(np.random.default_rng(seed))
    answers = neuron.forward(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    assert (answers[:3] < 0.2).all()
    assert answers[3] > 0.8


@pytest.mark.parametrize("seed", range(5))
def test_linear_regression_ends_within_one_percent_of_the_least_squares_minimum(seed: int) -> None:
    generator = np.random.default_rng(seed)
    features, targets = by_hand.correlated_features(generator)
    assert features.shape == (159, 2)
    np.testing.assert_allclose([features.mean(axis=0), features.var(axis=0)], [[0, 0], [1, 1]], atol=1e-12)
    assert np.corrcoef(features.T)[0, 1] > 0.5
    _, (squares,), _, _ = np.linalg.lstsq(np.hstack([features, np.ones((159, 1))]), targets)
    minimum = squares / 2 / 159
    model = by_hand.linear_regression(generator, inputs=2)
    losses = list(by_hand.train_linear_regression(model, features, targets, [0.1] * 20))
    assert len(losses) == 20
    assert minimum <= losses[-1] <= 1.01 * minimum


@pytest.mark.parametrize("seed", range(5))
def test_linear_regression_at_a_decaying_rate_reaches_the_closed_form(seed: int) -> None:
    generator = np.random.default_rng(seed)
    features, targets = by_hand.correlated_features(generator)
    model = by_hand.linear_regression(generator, inputs=2)
    list(by_hand.train_linear_regression(model, features, targets, 0.1 / (1 + np.arange(3000) / 10)))
    best = by_hand.least_squares(features, targets)
    np.testing.assert_allclose(np.vstack(model.parameters), best, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def mnist(data_folder: Path) -> tuple[Array, np.ndarray]:
    """The 60,000 training images as rows in 0 … 1, float32, and their labels."""
    everything, _ = load_training("mnist", 0, data_folder)
    return _rows(everything)


def _rows(split: Split) -> tuple[Array, np.ndarray]:
    return split.images.flatten(1).numpy() / np.float32(255), split.labels.numpy()


def _linear_mlp(dtype: type[np.floating]) -> by_hand.Network:
    generator = np.random.default_rng(0)
    shapes = ((784, 512), (512, 512), (512, 10))
    return by_hand.linear_mlp([by_hand.draw_weight(generator, *s, gain=1).astype(dtype) for s in shapes])


def test_the_linear_mlp_has_the_gradients_of_autograd() -> None:
    network = _linear_mlp(np.float64)
    image = by_hand.unit_length(np.random.default_rng(1).uniform(size=(1, 784)))
    leaves = [torch.tensor(weight, requires_grad=True) for weight in network.parameters]
    logits = torch.from_numpy(image) @ leaves[0] @ leaves[1] @ leaves[2]
    functional.cross_entropy(logits, torch.tensor([3])).backward()

    _, d_logits = by_hand.cross_entropy(network.forward(image), np.array([3]))
    network.backward(d_logits)
    for ours, leaf in zip(network.gradients, leaves, strict=True):
        assert_equal_within(1e-12, ours, leaf.grad)


@pytest.mark.data
def test_the_linear_mlp_learns_sample_by_sample(mnist: tuple[Array, np.ndarray], data_folder: Path) -> None:
    """On real digits, for the rate of 0.05 holds or diverges by how alike they are."""
    images, labels = mnist
    network = _linear_mlp(np.float32)
    losses = list(by_hand.train_linear_mlp(network, images[:2000], labels[:2000]))
    assert np.mean(losses[:100]) > 2
    assert np.mean(losses[-500:]) < 0.6

    test_images, test_labels = _rows(load_test("mnist", data_folder))
    answers = network.forward(by_hand.unit_length(test_images)).argmax(axis=1)
    assert np.mean(answers == test_labels) > 0.8


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().double().numpy()


def _parameters(layer: nn.Module) -> list[Array]:
    return [_array(parameter) for parameter in layer.parameters()]


def _linear(layer: nn.Linear) -> Layer:
    weight, *bias = _parameters(layer)
    return by_hand.Linear(weight.T, *bias)


def _convolution(layer: nn.Conv2d) -> Layer:
    return by_hand.Convolution(*_parameters(layer), stride=layer.stride[0], padding=layer.padding[0])


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> Layer:
    statistics = _array(layer.running_mean), _array(layer.running_var)
    return by_hand.frozen_batch_norm(*_parameters(layer), *statistics, layer.eps)


def _residual(block: architectures.Residual) -> Layer:
    before, transform, skip = (_translate(part) for part in (block.before, block.transform, block.skip))
    if isinstance(block.skip, nn.Identity):
        return by_hand.Residual(by_hand.Network(before, transform), skip)
    return by_hand.Network(before, by_hand.Residual(transform, skip))


def _row_rnn(layer: architectures.RowRNN) -> Layer:
    weight = np.vstack([_array(layer.input.weight.T), _array(layer.state.weight.T)])
    return by_hand.Recurrent(weight, _array(layer.input.bias))


TRANSLATIONS: dict[type[nn.Module], Callable[..., Layer]] = {
    nn.Sequential: lambda layers: by_hand.Network(*(_translate(layer) for layer in layers)),
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: lambda _: by_hand.ReLU(),
    nn.LeakyReLU: lambda layer: by_hand.LeakyReLU(layer.negative_slope),
    nn.PReLU: lambda layer: by_hand.PReLU(*_parameters(layer)),
    nn.Tanh: lambda _: by_hand.Tanh(),
    nn.Sigmoid: lambda _: by_hand.Sigmoid(),
    nn.MaxPool2d: lambda pool: by_hand.MaxPool(pool.kernel_size, stride=pool.stride),
    nn.AdaptiveAvgPool2d: lambda _: by_hand.GlobalAveragePool(),
    nn.Flatten: lambda _: by_hand.Reshape(-1),
    nn.Unflatten: lambda _: by_hand.Reshape(1, 28, 28),
    architectures.Dropout: lambda _: by_hand.Network(),
    nn.Identity: lambda _: by_hand.Network(),
    architectures.Standardise: lambda layer: by_hand.Polynomial(
        -layer.mean / layer.standard_deviation, 1 / layer.standard_deviation
    ),
    architectures.Residual: _residual,
    architectures.RowRNN: _row_rnn,
}


def _translate(module: nn.Module) -> Layer:
    """Rewrite a PyTorch network, as it is in evaluation mode, by hand and in float64."""
    return TRANSLATIONS[type(module)](module)


@pytest.mark.parametrize(
    ("architecture", "widths", "activation"),
    [
        ("softmax", (), "relu"),
        *(("mlp", (20, 15), activation) for activation in architectures.ACTIVATIONS),
        ("cnn", (4, 6, 5), "relu"),
        ("resnet", (4, 4, 6), "relu"),
        ("rnn", (12,), "tanh"),
    ],
)
def test_an_exported_graph_gives_the_probabilities_by_hand(
    architecture: str, widths: tuple[int, ...], activation: str
) -> None:
    recipe = Recipe(
        name="tiny",
        dataset="mnist",
        architecture=architecture,
        widths=widths,
        activation=activation,
        batch_norm=True,
        standardise=True,
        epochs=1,
        batch_size=64,
        learning_rate=0.1,
    )
    network = architectures.build(recipe)
    images = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
    with torch.no_grad():
        network.train()(torch.from_numpy(images) / 255)  # gives batch normalisation statistics of its own
    network.eval()

    graph = to_onnx(Classifier(network, temperature=1.5, detector=None))
    answers = Artifact(graph.SerializeToString()).answer(images)
    logits = _translate(network).forward(images / 255)
    np.testing.assert_allclose(answers.probabilities, by_hand.softmax(logits / 1.5), rtol=0, atol=1e-5)


def test_the_oracle_is_independent_of_torch() -> None:
    program = "import sys, training.by_hand; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
