"""Every network has the shape, the size and the first weights that its recipe says."""

from __future__ import annotations

import pytest
import torch
from tiny_training import changed, weights_of
from torch import nn

from training.architectures import (
    Dropout,
    Residual,
    RowRNN,
    build,
    count_macs,
    count_weights,
    initialise,
)
from training.recipes import RECIPES, Recipe

NETWORKS = [
    # architecture, widths, weights with biases, multiply-adds
    ("softmax", (), 784 * 10 + 10, 784 * 10),
    ("mlp", (512, 512), 669_706, 668_672),
    ("mlp", (16, 16), 13_002, 784 * 16 + 16 * 16 + 16 * 10),
    ("rnn", (256,), 28 * 256 + 256 + 256 * 256 + 2_570, 28 * 28 * 256 + 27 * 256 * 256 + 2_560),
]


@pytest.mark.parametrize(("architecture", "widths", "weights", "macs"), NETWORKS)
def test_weights_and_multiply_adds_are_those_of_the_formula(
    tiny: Recipe, architecture: str, widths: tuple[int, ...], weights: int, macs: int
) -> None:
    network = build(changed(tiny, architecture=architecture, widths=widths))
    assert (count_weights(network), count_macs(network)) == (weights, macs)


@pytest.mark.parametrize("architecture", ["softmax", "mlp", "cnn", "resnet", "rnn"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_network_turns_images_into_ten_logits(
    tiny: Recipe, architecture: str, *, batch_norm: bool
) -> None:
    widths = {"softmax": (), "mlp": (8, 8), "cnn": (4, 4, 8), "resnet": (4, 4, 8), "rnn": (8,)}[architecture]
    network = build(changed(tiny, architecture=architecture, widths=widths, batch_norm=batch_norm)).eval()
    pixels = torch.rand(5, 28, 28)
    logits = network(pixels)
    assert logits.shape == (5, 10)
    assert torch.allclose(network(pixels[2:3]), logits[2:3], atol=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds(name: str) -> None:
    assert build(RECIPES[name]).eval()(torch.rand(2, 28, 28)).shape == (2, 10)


def test_the_smallest_mlp_has_the_weights_of_the_course_material() -> None:
    assert count_weights(build(RECIPES["mnist-mlp-16"])) == 13_002


@pytest.mark.parametrize("name", ["mnist-cnn", "fashion-mnist-cnn"])
def test_the_flagships_stay_small(name: str) -> None:
    network = build(RECIPES[name])
    assert count_weights(network) <= 1_500_000
    assert count_macs(network) <= 12_000_000  # of the usual MNIST script's network


def test_first_weights_follow_the_seed_alone(tiny: Recipe) -> None:
    torch.manual_seed(1)
    first = weights_of(build(tiny))
    torch.manual_seed(2)
    assert torch.equal(first, weights_of(build(tiny)))
    assert not torch.equal(first, weights_of(build(changed(tiny, seed=5))))


@pytest.mark.parametrize(("widths", "last"), [((4, 8), False), ((8, 16), True)])
def test_channels_come_last_where_that_is_safe(widths: tuple[int, ...], *, last: bool) -> None:
    network = build(changed(RECIPES["mnist-resnet"], widths=widths))
    layers = [
        layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)
    ]
    weights = [layer.weight for layer in layers if layer.in_channels > 1]
    assert weights
    assert all(weight.is_contiguous(memory_format=torch.channels_last) == last for weight in weights)


def test_building_leaves_the_global_generator_alone(tiny: Recipe) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    build(tiny)
    assert torch.equal(torch.rand(4), expected)


def test_one_generator_draws_the_weights_in_the_order_of_the_formula() -> None:
    network = nn.Sequential(nn.Linear(784, 100), nn.Tanh(), nn.Linear(100, 10))
    initialise(network, "normal-1", torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(784, 100, generator=generator)
    second = torch.randn(100, 10, generator=generator)
    assert torch.equal(network[0].weight, first.T)
    assert torch.equal(network[2].weight, second.T)


def test_he_draws_a_convolution_by_the_inputs_of_one_output() -> None:
    network = nn.Sequential(nn.Conv2d(32, 64, 3))
    initialise(network, "he-normal", torch.Generator().manual_seed(1))
    assert float(network[0].weight.detach().std()) == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.02)


def test_standardised_pixels_have_mean_zero_and_variance_one(tiny: Recipe) -> None:
    network = build(changed(tiny, standardise=True))
    assert network[0](torch.tensor(0.1307)) == pytest.approx(0.0, abs=1e-6)
    assert network[0](torch.tensor(0.1307 + 0.3081)) == pytest.approx(1.0)


def test_a_residual_block_adds_its_input(tiny: Recipe) -> None:
    block = Residual(tiny, 4, 4, stride=1)
    for parameter in block.transform.parameters():
        nn.init.zeros_(parameter)
    maps = torch.randn(2, 4, 6, 6)
    expected = maps.clone()
    assert torch.equal(block(maps), expected)


def test_a_residual_block_matches_channels_by_a_1x1_convolution(tiny: Recipe) -> None:
    block = Residual(tiny, 4, 8, stride=2)
    assert isinstance(block.skip, nn.Conv2d)
    assert block.skip.kernel_size == (1, 1)
    assert block(torch.randn(2, 4, 6, 6)).shape == (2, 8, 3, 3)


def test_the_row_rnn_follows_its_recurrence() -> None:
    network = RowRNN(6)
    pixels = torch.rand(3, 28, 28)
    state = torch.zeros(3, 6)
    with torch.no_grad():
        for row in range(28):
            state = torch.tanh(
                pixels[:, row] @ network.input.weight.T + state @ network.state.weight.T + network.input.bias
            )
        assert torch.allclose(network(pixels), state, atol=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_anywhere_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(1)
    values = torch.ones(999, 1_001, requires_grad=True)
    dropped = Dropout(share)(values)
    kept = dropped > 0
    assert float(kept.float().mean()) == pytest.approx(1 - share, abs=0.003)
    assert torch.allclose(dropped[kept], torch.tensor(1 / (1 - share)))
    for axis in (0, 1):  # no row and no column is special
        assert float((kept.float().mean(axis) - (1 - share)).abs().max()) < 0.1
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())


def test_dropout_leaves_everything_in_evaluation() -> None:
    values = torch.rand(5, 7)
    assert torch.equal(Dropout(0.5).eval()(values), values)
