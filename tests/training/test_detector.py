"""The detector tells what looks like the training images from what does not, at a tenth of the cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tiny_training import TINY, changed, draw_bars, weights_of
from torch.nn import functional

from training import detector as module
from training.architectures import build, count_macs
from training.detector import Detector, Distance, Energy, fit_detector, predict_typicality, units_for
from training.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

BARS = draw_bars(600, seed=4)
IMAGES = BARS.images
ARCHITECTURES = {
    "softmax": {"architecture": "softmax", "widths": ()},
    "mlp": {"architecture": "mlp", "widths": (32,)},
    "cnn": {"architecture": "cnn", "widths": (4, 4, 8)},
    "resnet": {"architecture": "resnet", "widths": (4, 4, 8)},
    "rnn": {"architecture": "rnn", "widths": (8,)},
}


def fitted(recipe: Recipe) -> tuple[torch.nn.Sequential, Detector]:
    network = build(recipe).eval()
    return network, fit_detector(network, BARS, recipe, count_macs(network))


@pytest.mark.parametrize("network", ARCHITECTURES)
def test_every_architecture_gets_a_detector(network: str) -> None:
    network, detector = fitted(changed(TINY, **ARCHITECTURES[network]))
    typicality = predict_typicality(network, detector, IMAGES)
    assert typicality.shape == (600,)
    assert torch.isfinite(typicality).all()


def test_noise_and_blank_paper_look_less_typical_than_new_images_of_the_same_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EPOCHS", 60)
    monkeypatch.setattr(module, "COST_SHARE", 0.1)  # of so small a network a fortieth pays for too little
    network, detector = fitted(TINY)
    typical = predict_typicality(network, detector, draw_bars(200, seed=5).images).quantile(0.05)
    noise = torch.randint(256, (200, 28, 28), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    strange = torch.cat((noise, torch.zeros(1, 28, 28, dtype=torch.uint8), 255 - IMAGES[:50]))
    assert (predict_typicality(network, detector, strange) < typical).float().mean() > 0.95


def test_the_same_seed_fits_the_same_detector_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    _, first = fitted(TINY)
    assert torch.equal(torch.rand(3), expected)
    _, second = fitted(TINY)
    assert torch.equal(weights_of(first), weights_of(second))


def test_the_network_is_not_changed() -> None:
    network, _ = fitted(changed(TINY, batch_norm=True))
    assert torch.equal(weights_of(network), weights_of(build(changed(TINY, batch_norm=True))))


@pytest.mark.parametrize("name", RECIPES)
def test_it_costs_less_than_a_tenth_of_the_networks_multiply_adds(name: str) -> None:
    network = build(RECIPES[name]).eval()
    macs = count_macs(network)
    features = network[:-1](torch.zeros(1, 28, 28)).shape[1]
    assert features * units_for(features, macs) <= macs / 10 or units_for(features, macs) == 1


@pytest.mark.parametrize("kind", [Energy, lambda: Distance(BARS.images[:, 3, :6].float(), BARS.labels)])
def test_typicality_is_the_least_of_both_log_odds_and_their_sum(
    kind: Callable[[], Energy | Distance],
) -> None:
    detector = Detector(features=6, units=4, score=kind())
    features, logits = torch.randn(5, 6), torch.randn(5, 10)
    score = detector.score(features, logits)
    opinions = detector(features, score)
    hidden = functional.relu(detector.hidden(features))
    assert torch.allclose(opinions[:, :1], detector.opinion(hidden))
    assert torch.allclose(opinions[:, 1:], detector.trust(score))
    expected = torch.cat((opinions, opinions.sum(1, keepdim=True)), dim=1).min(1).values
    assert torch.allclose(detector.typicality(features, logits), expected, atol=1e-5)


def test_the_energy_is_log_sum_exp_of_the_logits() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]).exp().sum(1, keepdim=True).log()
    assert torch.allclose(Energy()(torch.empty(2, 0), logits), expected)


def test_the_distance_is_mahalanobis_to_the_nearest_class() -> None:
    generator = torch.Generator().manual_seed(3)
    spread = torch.tensor([[2.0, 0.0, 0.0], [1.5, 0.5, 0.0], [0.0, 0.0, 0.5]])
    means = torch.tensor([[0.0, 0.0, 0.0], [9.0, -4.0, 1.0]])
    labels = torch.arange(4_000) % 2 * 7  # the other eight classes do not occur
    features = torch.randn(4_000, 3, generator=generator) @ spread.T + means[labels // 7]
    asked = torch.tensor([[0.0, 0.0, 0.0], [9.0, -4.0, 1.0], [2.0, 1.5, 0.0], [9.0, -3.0, 1.5]])
    inverse = torch.linalg.inv(spread @ spread.T)
    ways = asked[:, None] - means
    expected = -torch.einsum("nki,ij,nkj->nk", ways, inverse, ways).amin(1, keepdim=True)
    actual = Distance(features, labels)(asked, torch.empty(4, 10))
    assert actual == pytest.approx(expected, rel=0.1, abs=0.05)  # fitted to a sample, with a ridge


def test_features_that_never_vary_leave_the_distance_finite() -> None:
    features = torch.cat((torch.rand(50, 2), torch.ones(50, 1)), dim=1)
    labels = torch.arange(50) % 10
    for constant in (features, torch.ones(50, 3)):
        assert torch.isfinite(Distance(constant, labels)(torch.randn(5, 3), torch.empty(5, 10))).all()


@pytest.mark.parametrize("name", RECIPES)
def test_the_score_is_the_distance_where_that_is_cheap(name: str) -> None:
    assert isinstance(fitted(RECIPES[name])[1].score, Distance) == name.endswith("-resnet")
