"""Temperature, prediction sets and the typicality threshold do what their formulas promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from training.calibrate import (
    CONFORMAL_LEVELS,
    calibrate,
    calibrated_probabilities,
    conformal_quantile,
    expected_calibration_error,
    fit_probabilities,
    fit_temperature,
    lower_quantile,
)


def draw_logits(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are honest: labels are drawn from their softmax."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, 10, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(functional.softmax(logits, 1), 1, generator=generator)[:, 0]
    return logits, labels


@pytest.mark.parametrize("temperature", [0.2, 1.0, 4.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    logits, labels = draw_logits(20_000, seed=1)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_has_a_lower_cross_entropy() -> None:
    logits, labels = draw_logits(500, seed=2)
    best = fit_temperature(logits, labels)
    losses = [float(functional.cross_entropy(logits / (best * factor), labels)) for factor in (1, 0.98, 1.02)]
    assert losses[0] == min(losses)


@given(st.lists(st.floats(-40, 40), min_size=10, max_size=10), st.floats(0.2, 5), st.floats(0, 0.5))
def test_calibrated_probabilities_sum_to_one_and_keep_the_order(
    values: list[float], temperature: float, floor: float
) -> None:
    logits = torch.tensor([values], dtype=torch.float64)
    probabilities = calibrated_probabilities(logits, temperature, floor)[0]
    assert float(probabilities.sum()) == pytest.approx(1)
    assert bool((probabilities[logits[0].argsort()].diff() >= -1e-12).all())


def test_without_a_floor_calibration_is_the_temperature_alone() -> None:
    logits, _ = draw_logits(100, seed=8)
    plain = functional.softmax(logits / 1.3, 1)
    assert torch.equal(calibrated_probabilities(logits, 1.3, 0), plain)


def test_a_floor_takes_from_small_probabilities_alone() -> None:
    q = torch.tensor([[0.9, 0.0999, 0.0001, *[0.0] * 7]], dtype=torch.float64).clamp(min=1e-300)
    lowered = calibrated_probabilities(q.log(), temperature=1, floor=0.001)
    expected = q**2 / (q + 0.001)
    assert lowered == pytest.approx(expected / expected.sum(), abs=1e-12)
    assert float(lowered[0, 0]) == pytest.approx(0.9, abs=0.002)
    assert float(lowered[0, 2]) < 0.1 * 0.0001


def test_the_floor_undoes_label_smoothing_where_a_temperature_cannot() -> None:
    logits, labels = draw_logits(20_000, seed=10)
    smoothed = (0.95 * functional.softmax(logits, 1) + 0.005).log()
    temperature, floor = fit_probabilities(smoothed, labels)
    probabilities = calibrated_probabilities(smoothed, temperature, floor)
    alone = functional.softmax(smoothed / fit_temperature(smoothed, labels), 1)
    assert floor > 0
    assert functional.nll_loss(probabilities.log(), labels) < functional.nll_loss(alone.log(), labels)
    error = expected_calibration_error(probabilities, labels)
    assert error < expected_calibration_error(alone, labels)


def test_honest_logits_are_left_as_they_are() -> None:
    logits, labels = draw_logits(20_000, seed=11)
    temperature, floor = fit_probabilities(logits, labels)
    change = calibrated_probabilities(logits, temperature, floor) - functional.softmax(logits, 1)
    assert float(change.abs().max()) < 0.02


def test_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    probabilities = torch.full((100, 10), 0.2 / 9)
    probabilities[:, 3] = 0.8
    labels = torch.full((100,), 3)
    labels[:50] = 4
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.3)


def test_gaps_of_different_bins_do_not_cancel() -> None:
    sure, unsure = torch.full((10,), 0.0), torch.full((10,), 0.05)
    sure[0], unsure[0] = 1.0, 0.55
    probabilities = torch.stack((sure, unsure))
    assert expected_calibration_error(probabilities, torch.tensor([1, 0])) == pytest.approx((1 + 0.45) / 2)


def test_honest_probabilities_have_hardly_any_calibration_error() -> None:
    logits, labels = draw_logits(50_000, seed=3)
    assert expected_calibration_error(functional.softmax(logits, 1), labels) < 0.01


def test_the_conformal_quantile_is_the_finite_sample_one() -> None:
    # true-label probabilities 0.99, 0.98, …, 0.01: 99 scores 0.01 … 0.99; rank ceil(100 * 0.9) = 90
    true = 1 - torch.arange(1, 100) / 100
    probabilities = torch.zeros(99, 10)
    probabilities[:, 0] = true
    labels = torch.zeros(99, dtype=torch.long)
    assert conformal_quantile(probabilities, labels, 0.9) == pytest.approx(0.90)


def test_too_few_images_promise_everything() -> None:
    assert conformal_quantile(torch.full((20, 10), 0.1), torch.zeros(20, dtype=torch.long), 0.99) == 1.0


@pytest.mark.parametrize("level", sorted(set(CONFORMAL_LEVELS.values())))
def test_prediction_sets_cover_new_images_as_promised(level: float) -> None:
    logits, labels = draw_logits(5_000, seed=4)
    quantile = conformal_quantile(functional.softmax(logits, 1), labels, level)
    new_logits, new_labels = draw_logits(20_000, seed=5)
    scores = 1 - functional.softmax(new_logits, 1).gather(1, new_labels[:, None])
    assert float((scores <= quantile).double().mean()) == pytest.approx(level, abs=0.006)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=300), st.floats(0, 0.5))
def test_all_but_the_share_reach_the_lower_quantile(values: list[float], share: float) -> None:
    scores = torch.tensor(values, dtype=torch.float64)
    below = float((scores < lower_quantile(scores, share)).double().mean())
    assert below <= share + 1e-9


def test_calibration_keeps_99_percent_of_the_images_it_was_fitted_on() -> None:
    logits, labels = draw_logits(5_000, seed=6)
    typicality = torch.randn(5_000, generator=torch.Generator().manual_seed(7))
    calibration = calibrate(2 * logits, typicality, labels, 0.95)
    kept = typicality >= calibration.in_distribution_threshold
    assert float(kept.double().mean()) == pytest.approx(0.99, abs=1e-3)
    assert calibration.temperature == pytest.approx(2, rel=0.1)
    assert calibration.conformal_level == 0.95
    assert calibration.in_distribution_level == 0.99
    probabilities = calibrated_probabilities(
        2 * logits, calibration.temperature, calibration.probability_floor
    )
    error = expected_calibration_error(probabilities, labels)
    assert calibration.expected_calibration_error == pytest.approx(error)
