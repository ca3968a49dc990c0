"""Figures say what was counted, with intervals as wide as the counts allow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from training.artifacts import Answers
from training.measure import Accuracy, auroc, confusion_matrix, measure, measure_family, prediction_sets

LABELS = [str(digit) for digit in range(10)]


def fake_artifact(**numbers: float) -> Any:
    """Stands in for an artifact's metadata, the only part of it that is asked here."""
    return SimpleNamespace(labels=LABELS, calibrated=bool(numbers), number=numbers.__getitem__)


@pytest.fixture
def answers() -> Answers:
    """Four images: sure of 1, sure of 1, torn between 2 and 3, sure of 4 but untypical."""
    probabilities = np.zeros((4, 10), np.float32)
    probabilities[0, 1] = probabilities[1, 1] = probabilities[3, 4] = 1
    probabilities[2, 2], probabilities[2, 3] = 0.6, 0.4
    return Answers(probabilities, np.array([9, 8, 7, 1], np.float32))


@pytest.mark.parametrize(("correct", "images"), [(9_950, 10_000), (1, 7), (5_000, 10_000)])
def test_the_interval_ends_where_the_share_seen_is_196_deviations_off(correct: int, images: int) -> None:
    for end in Accuracy(correct, images).interval:
        deviation = (end * (1 - end) / images) ** 0.5
        assert abs(correct / images - end) == pytest.approx(1.959964 * deviation)


def test_the_interval_stays_within_0_and_1() -> None:
    assert Accuracy(10, 10).interval == (pytest.approx(0.7225, abs=1e-4), pytest.approx(1.0))
    assert Accuracy(0, 10).interval == (pytest.approx(0.0), pytest.approx(0.2775, abs=1e-4))


def test_an_accuracy_is_written_with_its_interval() -> None:
    assert str(Accuracy(9_950, 10_000)) == "99.50% (99.34% to 99.62%)"


def test_the_confusion_matrix_counts_true_classes_in_rows() -> None:
    confusion = confusion_matrix(np.array([3, 3, 9]), np.array([3, 5, 9]))
    assert confusion[3, 3] == confusion[3, 5] == confusion[9, 9] == 1
    assert confusion.sum() == 3


def test_a_prediction_set_always_holds_the_likeliest_label(answers: Answers) -> None:
    sets = prediction_sets(fake_artifact(conformal_quantile=0.0), answers)
    assert sets.sum(1).tolist() == [1, 1, 1, 1]
    assert sets[2, 2]


def test_recall_counts_the_true_and_precision_the_said(answers: Answers) -> None:
    measured = measure(fake_artifact(), answers, np.array([1, 2, 2, 4]))
    assert measured.accuracy == Accuracy(3, 4)
    assert (measured.classes[1].recall, measured.classes[1].precision) == (1.0, 0.5)
    assert (measured.classes[2].recall, measured.classes[2].precision) == (0.5, 1.0)
    assert measured.classes[7].images == 0
    assert measured.doubt is None


def test_coverage_set_size_and_flags_are_shares_of_all_images(answers: Answers) -> None:
    artifact = fake_artifact(conformal_level=0.9, conformal_quantile=0.7, in_distribution_threshold=5.0)
    doubt = measure(artifact, answers, np.array([1, 2, 3, 4])).doubt
    assert doubt is not None
    assert (doubt.level, doubt.coverage, doubt.mean_set_size, doubt.flagged) == (0.9, 0.75, 1.25, 0.25)


def test_auroc_is_the_share_of_pairs_in_the_right_order_with_ties_for_half() -> None:
    assert auroc(np.array([3.0, 4.0], np.float32), np.array([1.0, 2.0], np.float32)) == 1.0
    assert auroc(np.array([1.0, 3.0], np.float32), np.array([1.0, 2.0], np.float32)) == (0.5 + 2) / 4
    assert auroc(np.array([0.0], np.float32), np.array([5.0], np.float32)) == 0.0


def test_a_family_is_flagged_below_the_threshold(answers: Answers) -> None:
    artifact = fake_artifact(in_distribution_threshold=7.5)
    figures = measure_family(artifact, answers, Answers(answers.probabilities, answers.typicality))
    assert (figures.flagged, figures.auroc) == (0.5, 0.5)
