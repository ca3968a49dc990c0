"""The loop is repeatable, survives being stopped anywhere, and every training field acts."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import torch
from tiny_training import changed, weights_of

from training.architectures import build
from training.errors import CheckpointNotWritten, CheckpointRejected, Interrupted, TrainingDiverged
from training.fit import evaluate, fit, learning_rate_at, steps_per_epoch
from training.state import start

if TYPE_CHECKING:
    from pathlib import Path

    from training.data import Splits
    from training.recipes import Recipe
    from training.state import EpochResult

# Everything that has a state of its own, at once.
STATEFUL = {
    "optimiser": "adamw",
    "learning_rate": 0.01,
    "schedule": "one-cycle",
    "batch_norm": True,
    "dropout": 0.2,
    "shift_pixels": 1.0,
    "weight_averaging": 0.9,
    "patience_epochs": 5,
}


class Listener:
    """Hears what a training says, and can interrupt the process after some step."""

    def __init__(self, interrupt_after: int = -1) -> None:
        self.epochs: list[EpochResult] = []
        self.losses: list[float] = []
        self.started: list[tuple[int, int]] = []
        self._interrupt_after = interrupt_after

    def on_start(self, step: int, steps: int) -> None:
        self.started.append((step, steps))

    def on_step(self, step: int, loss: float, accuracy: float) -> None:
        if step == self._interrupt_after:
            os.kill(os.getpid(), signal.SIGINT)

    def on_epoch(self, result: EpochResult, step: int, step_losses: list[float]) -> None:
        self.epochs.append(result)
        self.losses += step_losses


@pytest.fixture
def reports_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.fit.REPORT_SECONDS", 0.0)


def trained(recipe: Recipe, data: Splits) -> torch.Tensor:
    return weights_of(fit(build(recipe), data, recipe)[0])


def test_a_network_learns(tiny: Recipe, bars: Splits) -> None:
    network, history = fit(build(tiny), bars, changed(tiny, epochs=15))
    assert evaluate(network, bars.validation)[1] > 0.95
    assert history[-1].training_loss < history[0].training_loss
    assert history[-1].validation_accuracy == evaluate(network, bars.validation)[1]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny: Recipe, bars: Splits) -> None:
    recipe = changed(tiny, **STATEFUL)
    torch.manual_seed(1)
    first = trained(recipe, bars)
    torch.manual_seed(2)
    assert torch.equal(first, trained(recipe, bars))
    assert not torch.equal(first, trained(changed(recipe, seed=2), bars))


@pytest.mark.parametrize(("architecture", "widths"), [("mlp", (16,)), ("cnn", (4, 4, 4))])
@pytest.mark.parametrize("step", [1, 6, 7, 8, 13])  # an epoch has 7 steps
@pytest.mark.usefixtures("reports_every_step")
def test_a_stopped_and_resumed_training_gives_the_weights_of_an_unstopped_one(  # noqa: PLR0913, PLR0917  fixtures
    tiny: Recipe, bars: Splits, tmp_path: Path, architecture: str, widths: tuple[int, ...], step: int
) -> None:
    recipe = changed(tiny, architecture=architecture, widths=widths, **STATEFUL)
    unstopped, listener = fit(build(recipe), bars, recipe)[0], Listener()
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(Interrupted):
        fit(build(recipe), bars, recipe, checkpoint=checkpoint, observers=[Listener(interrupt_after=step)])
    network, history = fit(build(recipe), bars, recipe, checkpoint=checkpoint, observers=[listener])
    assert listener.started == [(step, 21)]
    assert torch.equal(weights_of(network), weights_of(unstopped))
    assert [result.epoch for result in history] == [1, 2, 3]


@pytest.mark.usefixtures("reports_every_step")
def test_after_an_interruption_signals_act_as_before(tiny: Recipe, bars: Splits) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        fit(build(tiny), bars, tiny, observers=[Listener(interrupt_after=2)])
    assert signal.getsignal(signal.SIGINT) is before


def test_training_works_outside_the_main_thread_where_signals_cannot_be_caught(
    tiny: Recipe, bars: Splits
) -> None:
    with ThreadPoolExecutor(max_workers=1) as pool:
        elsewhere = pool.submit(trained, tiny, bars).result()
    assert torch.equal(elsewhere, trained(tiny, bars))


def test_a_finished_training_resumes_without_another_step(tiny: Recipe, bars: Splits, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    first, _ = fit(build(tiny), bars, tiny, checkpoint=checkpoint)
    listener = Listener()
    again, history = fit(build(tiny), bars, tiny, checkpoint=checkpoint, observers=[listener])
    assert torch.equal(weights_of(first), weights_of(again))
    assert listener.losses == []
    assert len(history) == 3


def test_a_checkpoint_is_replaced_whole(tiny: Recipe, bars: Splits, tmp_path: Path) -> None:
    fit(build(tiny), bars, tiny, checkpoint=tmp_path / "checkpoint.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_damaged_checkpoint_is_refused(tiny: Recipe, bars: Splits, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    fit(build(tiny), bars, tiny, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-500])
    with pytest.raises(CheckpointRejected, match="not a whole checkpoint"):
        fit(build(tiny), bars, tiny, checkpoint=checkpoint)


def test_a_checkpoint_of_other_settings_is_refused_by_their_names(
    tiny: Recipe, bars: Splits, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    fit(build(tiny), bars, tiny, checkpoint=checkpoint)
    other = changed(tiny, learning_rate=0.2, dropout=0.5)
    with pytest.raises(CheckpointRejected, match="dropout, learning_rate"):
        fit(build(other), bars, other, checkpoint=checkpoint)


def test_a_checkpoint_from_before_a_field_existed_goes_on_at_its_default(
    tiny: Recipe, bars: Splits, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    fit(build(tiny), bars, tiny, checkpoint=checkpoint)
    content = torch.load(checkpoint, weights_only=True)
    del content["recipe"]["residue"], content["recipe"]["blur"]
    torch.save(content, checkpoint)
    fit(build(tiny), bars, tiny, checkpoint=checkpoint)
    other = changed(tiny, residue=0.5)
    with pytest.raises(CheckpointRejected, match="values of residue:"):
        fit(build(other), bars, other, checkpoint=checkpoint)


def test_a_checkpoint_that_made_use_of_a_field_that_is_gone_is_refused(
    tiny: Recipe, bars: Splits, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    fit(build(tiny), bars, tiny, checkpoint=checkpoint)
    content = torch.load(checkpoint, weights_only=True)
    content["recipe"]["unused"] = 0.0
    torch.save(content, checkpoint)
    fit(build(tiny), bars, tiny, checkpoint=checkpoint)
    content["recipe"]["lost"] = 0.5
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointRejected, match="values of lost:"):
        fit(build(tiny), bars, tiny, checkpoint=checkpoint)


def test_a_lost_loss_stops_with_a_sentence_and_keeps_the_last_good_checkpoint(
    tiny: Recipe, bars: Splits, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    recipe = changed(tiny, learning_rate=1e25, activation="relu")
    with pytest.raises(TrainingDiverged, match=r"no longer a number at step .* below 1e\+25"):
        fit(build(recipe), bars, recipe, checkpoint=checkpoint)
    assert not checkpoint.exists()


def test_a_last_image_alone_is_left_out_where_batches_are_normalised(tiny: Recipe, bars: Splits) -> None:
    images = len(bars.training)
    recipe = changed(tiny, batch_norm=True, batch_size=images - 1, epochs=1)
    assert steps_per_epoch(recipe, images) == 1
    assert steps_per_epoch(changed(recipe, batch_norm=False), images) == 2
    assert steps_per_epoch(recipe, images + 1) == 2
    fit(build(recipe), bars, recipe)  # PyTorch would refuse to normalise one value


def test_an_epoch_is_kept_before_anybody_hears_of_it(tiny: Recipe, bars: Splits, tmp_path: Path) -> None:
    class OnFullDisk(Listener):
        def on_epoch(self, *_: object) -> None:
            raise OSError(28, "No space left on device")

    checkpoint, listener = tmp_path / "checkpoint.pt", Listener()
    with pytest.raises(OSError, match="No space left"):
        fit(build(tiny), bars, tiny, checkpoint=checkpoint, observers=[OnFullDisk()])
    fit(build(tiny), bars, tiny, checkpoint=checkpoint, observers=[listener])
    assert [result.epoch for result in listener.epochs] == [2, 3]


def test_observers_hear_the_loss_of_every_step(tiny: Recipe, bars: Splits) -> None:
    listener = Listener()
    _, history = fit(build(tiny), bars, tiny, observers=[listener])
    assert listener.started == [(0, 21)]
    assert len(listener.losses) == 21
    assert listener.epochs == history
    assert history[0].training_loss == pytest.approx(sum(listener.losses[:7]) / 7)


def test_without_a_validation_split_the_validation_figures_are_missing(tiny: Recipe, bars: Splits) -> None:
    data = bars._replace(
        validation=type(bars.validation)(bars.validation.images[:0], bars.validation.labels[:0])
    )
    _, history = fit(build(tiny), data, tiny)
    assert history[0].validation_loss is None
    assert history[0].validation_accuracy is None


FIELDS = [
    {"seed": 2},
    {"shuffle": False},
    {"batch_size": 50},
    {"epochs": 2},
    {"learning_rate": 0.05},
    {"momentum": 0.9},
    {"optimiser": "adam"},
    {"optimiser": "adamw"},
    {"schedule": "cosine"},
    {"schedule": "one-cycle"},
    {"weight_decay": 0.1},
    {"l1": 0.01},
    {"label_smoothing": 0.2},
    {"weight_averaging": 0.9},
    {"dropout": 0.5},
    {"batch_norm": True},
    {"standardise": True},
    {"activation": "tanh"},
    {"initialisation": "he-normal"},
    {"flip": True},
    {"erasing": 0.5},
    {"precision": "bfloat16"},
]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: "-".join(map(str, next(iter(field.items())))))
def test_every_field_changes_the_weights(
    tiny: Recipe, bars: Splits, field: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.fit.gains_by_bfloat16", lambda _: True)
    other = trained(changed(tiny, **field), bars)
    plain = trained(tiny, bars)
    assert other.shape != plain.shape or not torch.equal(other, plain)


def test_where_bfloat16_gains_nothing_products_are_in_float32(
    tiny: Recipe, bars: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.fit.gains_by_bfloat16", lambda _: False)
    assert torch.equal(trained(changed(tiny, precision="bfloat16"), bars), trained(tiny, bars))


def test_l2_adds_weight_decay_times_the_weight_to_the_gradient(tiny: Recipe, bars: Splits) -> None:
    recipe = changed(tiny, epochs=1, batch_size=200, shuffle=False)
    before = build(recipe)[1].weight.detach().clone()
    plain, decayed = (
        fit(build(recipe), bars, changed(recipe, weight_decay=decay))[0] for decay in (0.0, 0.5)
    )
    difference = plain[1].weight - decayed[1].weight
    assert torch.allclose(difference, 0.1 * 0.5 * before, atol=1e-6)
    assert torch.equal(plain[1].bias, decayed[1].bias)


def test_l1_adds_its_sign_to_the_gradient(tiny: Recipe, bars: Splits) -> None:
    recipe = changed(tiny, epochs=1, batch_size=200, shuffle=False)
    before = build(recipe)[1].weight.detach().clone()
    plain, decayed = (fit(build(recipe), bars, changed(recipe, l1=strength))[0] for strength in (0.0, 0.5))
    assert torch.allclose(plain[1].weight - decayed[1].weight, 0.1 * 0.5 * before.sign(), atol=1e-6)


def test_early_stopping_keeps_the_weights_of_the_best_epoch(tiny: Recipe, bars: Splits) -> None:
    recipe = changed(tiny, epochs=40, learning_rate=0.5, patience_epochs=3, momentum=0.9)
    network, history = fit(build(recipe), bars, recipe)
    losses = [result.validation_loss for result in history]
    best = min(range(len(losses)), key=losses.__getitem__)
    assert len(history) == best + 1 + 3 < 40
    assert evaluate(network, bars.validation)[0] == losses[best]


def test_the_averaged_network_is_the_moving_average_of_the_steps(tiny: Recipe) -> None:
    recipe = changed(tiny, weight_averaging=0.6)
    state = start(build(recipe), recipe)
    expected = weights_of(state.network)
    for state.step in range(1, 12):
        with torch.no_grad():
            for parameter in state.network.parameters():
                parameter.add_(0.1)
        state.update_average(0.6)
        decay = min(0.6, (1 + state.step) / (10 + state.step))
        expected = decay * expected + (1 - decay) * weights_of(state.network)
    assert state.chosen is state.average
    assert torch.allclose(weights_of(state.chosen), expected, atol=1e-5)


def test_schedules_start_peak_and_end_where_they_should(tiny: Recipe) -> None:
    rate = tiny.learning_rate
    cosine, one_cycle = changed(tiny, schedule="cosine"), changed(tiny, schedule="one-cycle")
    assert [learning_rate_at(tiny, progress) for progress in (0, 0.5, 1)] == [rate] * 3
    assert learning_rate_at(cosine, 0) == rate
    assert learning_rate_at(cosine, 0.5) == pytest.approx(rate / 2)
    assert learning_rate_at(cosine, 1) == pytest.approx(0)
    assert learning_rate_at(one_cycle, 0) == 0
    assert learning_rate_at(one_cycle, 0.15) == pytest.approx(rate)
    assert learning_rate_at(one_cycle, 1) == pytest.approx(0)


def test_a_checkpoint_that_cannot_be_written_stops_the_training_with_a_sentence(
    bars: Splits, tiny: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointNotWritten, match=r"checkpoint\.pt could not be written"):
        fit(build(tiny), bars, tiny, checkpoint=tmp_path / "absent" / "checkpoint.pt")
