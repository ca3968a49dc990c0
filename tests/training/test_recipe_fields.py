"""Every choice that a recipe can make acts by its formula; what each does to a training is in test_fit.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tiny_training import changed
from torch import nn
from torch.nn import functional

from training.architectures import build
from training.errors import UsageError
from training.fit import fit, learning_rate_at
from training.state import start

if TYPE_CHECKING:
    from training.data import Splits
    from training.recipes import Recipe

POINTS = torch.linspace(-3, 3, 61)


def hidden_values(network: nn.Sequential, kind: type[nn.Module], images: torch.Tensor) -> list[torch.Tensor]:
    """What the layers of this kind give for the images, in order."""
    values: list[torch.Tensor] = []
    for layer in network:
        if isinstance(layer, kind):
            layer.register_forward_hook(
                lambda _layer, _inputs, output: values.append(output.detach().clone())
            )
    network(images / 255)
    return values


def one_step(recipe: Recipe, data: Splits) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Step once on all images: the first layer's weight before, its gradient, the weight after, the loss."""
    recipe = changed(recipe, epochs=1, batch_size=len(data.training), shuffle=False)
    reference = build(recipe)
    loss = functional.cross_entropy(
        reference(data.training.images / 255), data.training.labels, label_smoothing=recipe.label_smoothing
    )
    (gradient,) = torch.autograd.grad(loss, reference[1].weight)
    network, history = fit(build(recipe), data, recipe)
    return reference[1].weight.detach(), gradient, network[1].weight.detach(), history[0].training_loss


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("leaky-relu", lambda x: torch.where(x > 0, x, 0.01 * x)),
        ("prelu", lambda x: torch.where(x > 0, x, 0.25 * x)),
        ("tanh", lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())),
        ("sigmoid", lambda x: 1 / (1 + (-x).exp())),
    ],
)
def test_an_activation_is_its_formula(tiny: Recipe, name: str, formula: object) -> None:
    layers = build(changed(tiny, activation=name))
    assert callable(formula)
    with torch.no_grad():
        assert torch.allclose(layers[2](POINTS.clone()), formula(POINTS), atol=1e-6)


def test_the_slope_of_prelu_is_learned(tiny: Recipe, bars: Splits) -> None:
    recipe = changed(tiny, activation="prelu")
    network, _ = fit(build(recipe), bars, recipe)
    (slope,) = network[2].parameters()
    assert slope.shape == (1,)
    assert slope.item() != 0.25


@pytest.mark.parametrize(
    ("how", "deviation", "kurtosis"),
    [
        ("default", (1 / 784 / 3) ** 0.5, 1.8),  # uniform between the two ±1/√inputs
        ("normal-1", 1.0, 3.0),
        ("normal-0.01", 0.01, 3.0),
        ("xavier-normal", (2 / (784 + 400)) ** 0.5, 3.0),
        ("xavier-uniform", (2 / (784 + 400)) ** 0.5, 1.8),
        ("he-normal", (2 / 784) ** 0.5, 3.0),
    ],
)
def test_an_initialisation_draws_from_its_distribution(
    tiny: Recipe, how: str, deviation: float, kurtosis: float
) -> None:
    """Mean, deviation and fourth moment tell the normal distribution from the uniform one."""
    layer = build(changed(tiny, widths=(400,), initialisation=how))[1]
    assert layer.bias.any() == (how == "default")
    scaled = layer.weight.detach().double() / deviation
    assert float(scaled.mean()) == pytest.approx(0, abs=0.01)
    assert float(scaled.square().mean()) == pytest.approx(1, rel=0.01)
    assert float(scaled.pow(4).mean()) == pytest.approx(kurtosis, rel=0.03)
    if kurtosis == 1.8:
        assert float(scaled.abs().max()) == pytest.approx(3**0.5, rel=1e-3)


def test_batch_normalisation_gives_each_unit_mean_zero_and_variance_one(tiny: Recipe, bars: Splits) -> None:
    network = build(changed(tiny, widths=(16, 8), batch_norm=True)).train()
    for values in hidden_values(network, nn.BatchNorm1d, bars.training.images):
        assert torch.allclose(values.mean(0), torch.zeros(values.shape[1]), atol=1e-5)
        assert torch.allclose(values.var(0, correction=0), torch.ones(values.shape[1]), atol=0.01)
    assert not hidden_values(build(tiny), nn.BatchNorm1d, bars.training.images)


@pytest.mark.parametrize(
    ("architecture", "widths", "places"),
    [("mlp", (64, 64), 2), ("cnn", (4, 4, 8), 1), ("resnet", (4, 8), 1), ("rnn", (64,), 1)],
)
def test_dropout_drops_its_share_in_training_and_nothing_afterwards(
    tiny: Recipe, bars: Splits, architecture: str, widths: tuple[int, ...], places: int
) -> None:
    recipe = changed(tiny, architecture=architecture, widths=widths, dropout=0.4, activation="sigmoid")
    dropping, whole = build(recipe).train(), build(recipe).eval()
    torch.manual_seed(0)
    dropped = hidden_values(dropping, nn.Dropout, bars.training.images)
    kept = hidden_values(whole, nn.Dropout, bars.training.images)
    assert len(dropped) == len(kept) == places
    for values in dropped:
        assert float((values == 0).float().mean()) == pytest.approx(0.4, abs=0.03)
    first, before = dropped[0], kept[0]
    if architecture in {"mlp", "rnn"}:  # without normalisation both networks have the same values there
        assert torch.allclose(first[first != 0], before[first != 0] / 0.6, atol=1e-5)
    assert not any((values == 0).any() for values in kept)


def test_sgd_steps_against_the_gradient_by_the_learning_rate(tiny: Recipe, bars: Splits) -> None:
    before, gradient, after, _ = one_step(tiny, bars)
    assert torch.allclose(after, before - 0.1 * gradient, atol=1e-6)


def test_momentum_carries_a_share_of_the_last_step_into_the_next(tiny: Recipe) -> None:
    recipe = changed(tiny, optimiser="sgd", momentum=0.5)
    state = start(build(recipe), recipe)
    weight = state.network[1].weight
    places = [weight.detach().clone()]
    for slope in (1.0, 0.0, 0.0):  # pushed once, then left to roll
        for parameter in state.network.parameters():
            parameter.grad = torch.full_like(parameter, slope)
        state.optimiser.step()
        places.append(weight.detach().clone())
    moved = [float((now - then).mean()) for then, now in zip(places[1:], places[:-1], strict=True)]
    assert moved == pytest.approx([0.1, 0.05, 0.025], rel=1e-3)


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_adam_steps_first_by_the_learning_rate_whatever_the_gradient(
    tiny: Recipe, bars: Splits, optimiser: str
) -> None:
    before, gradient, after, _ = one_step(changed(tiny, optimiser=optimiser), bars)
    steep = gradient.abs() > 1e-4  # where the 1e-8 that Adam adds to the denominator does not count
    assert torch.allclose((before - after)[steep], 0.1 * gradient[steep].sign(), atol=1e-4)


def test_the_optimiser_is_the_one_asked_for(tiny: Recipe) -> None:
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    for name, kind in kinds.items():
        recipe = changed(tiny, optimiser=name)
        assert type(start(build(recipe), recipe).optimiser) is kind


def test_adam_takes_weight_decay_into_the_gradient_and_adamw_out_of_the_weights(
    tiny: Recipe, bars: Splits
) -> None:
    recipe = changed(tiny, learning_rate=0.01, weight_decay=1e6)
    before, _, after, _ = one_step(changed(recipe, optimiser="adam"), bars)
    assert torch.allclose(before - after, 0.01 * before.sign(), atol=1e-5)  # the decay drowns the gradient
    recipe = changed(recipe, optimiser="adamw", weight_decay=0.5)
    plain = one_step(changed(recipe, weight_decay=0.0), bars)[2]
    assert torch.allclose(plain - one_step(recipe, bars)[2], 0.01 * 0.5 * before, atol=1e-6)


def test_label_smoothing_spreads_its_share_over_all_labels(tiny: Recipe, bars: Splits) -> None:
    recipe = changed(tiny, label_smoothing=0.2)
    logarithms = build(recipe)(bars.training.images / 255).log_softmax(1)
    hard = -logarithms.gather(1, bars.training.labels[:, None]).mean()
    even = -logarithms.mean()
    assert one_step(recipe, bars)[3] == pytest.approx((0.8 * hard + 0.2 * even).item(), rel=1e-5)


@pytest.mark.parametrize(("batch_size", "steps"), [(200, 1), (64, 4), (1, 200)])
def test_the_batch_size_sets_the_steps_of_an_epoch(
    tiny: Recipe, bars: Splits, batch_size: int, steps: int
) -> None:
    recipe = changed(tiny, batch_size=batch_size, epochs=1, learning_rate=1e-3)
    heard: list[float] = []

    class Listener:
        def on_start(self, *_: object) -> None: ...
        def on_step(self, *_: object) -> None: ...
        def on_epoch(self, _result: object, _step: int, losses: list[float]) -> None:
            heard.extend(losses)

    fit(build(recipe), bars, recipe, observers=[Listener()])
    assert len(heard) == steps


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_training_takes_the_rates_of_its_schedule(tiny: Recipe, bars: Splits, schedule: str) -> None:
    recipe = changed(tiny, schedule=schedule)
    _, history = fit(build(recipe), bars, recipe)
    last_steps = [6, 13, 20]  # of the three epochs, of 21 steps
    assert [r.learning_rate for r in history] == [learning_rate_at(recipe, step / 21) for step in last_steps]


def test_patience_needs_something_to_tell_by(tiny: Recipe) -> None:
    with pytest.raises(UsageError, match="patience needs validation images"):
        changed(tiny, patience_epochs=2, validation_images=0)


def test_without_patience_all_epochs_are_trained(tiny: Recipe, bars: Splits) -> None:
    worsening = changed(tiny, learning_rate=0.5, momentum=0.9, epochs=12)
    assert len(fit(build(worsening), bars, worsening)[1]) == 12
    stopped = changed(worsening, patience_epochs=1, epochs=40)
    assert len(fit(build(stopped), bars, stopped)[1]) < 40
