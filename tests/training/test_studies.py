"""The rules of the studies: what they compute is what they say, and each leaves a plot and a table."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console
from tiny_training import TINY, draw_bars
from torch import nn
from torch.nn import functional

from training.__main__ import main
from training.architectures import build
from training.data import Split, Splits
from training.errors import UsageError
from training.fit import evaluate, predict_logits
from training.options import StudyListOptions, StudyOptions, parse
from training.recipes import Recipe
from training.series import Series
from training.studies import (
    activations,
    batch_sizes,
    dropout_doubt,
    initialisations,
    learning_rates,
    neuron,
    overfitting,
    permuted_pixels,
    regularisers,
    run,
)
from training.studies.catalogue import STUDIES, Size
from training.studies.lab import Findings, Lab, mean_and_spread, smooth

ROOT = Path(__file__).resolve().parents[2]
TINY_SIZE = Size(images=64, epochs=2, seeds=2)
FLOATS = st.floats(-1e6, 1e6)


@pytest.fixture
def lab() -> Lab:
    """Drawn images in place of both datasets: every study in seconds, and none of the files is needed."""
    images = Splits(draw_bars(64, seed=1), draw_bars(60, seed=2))
    series = Series(Console(quiet=True), "test")
    return Lab(TINY_SIZE, None, torch.device("cpu"), series, {"mnist": images, "fashion-mnist": images})


# --- the command ---


def test_every_study_of_the_catalogue_can_be_drawn() -> None:
    assert list(run.DRAWINGS) == list(STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_leaves_a_picture_and_a_whole_table(name: str, lab: Lab, tmp_path: Path) -> None:
    findings = run.DRAWINGS[name](lab, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")
    assert findings.rows
    assert {len(row) for row in findings.rows} == {len(findings.columns)}
    assert findings.sentences


def test_the_command_line_knows_the_studies() -> None:
    assert parse(["study", "--list"]) == StudyListOptions()
    assert parse(["study", "neuron", "--epochs", "3"]) == StudyOptions("neuron", epochs=3)
    for words in (["study"], ["study", "--epochs", "3"]):
        with pytest.raises(UsageError, match="learning-rates"):
            parse(words)
    with pytest.raises(UsageError, match="neuron"):
        parse(["study", "nuron"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "study learning-rates --seeds 3",
            "trains each network once, with one seed: --seeds does nothing here",
        ),
        ("study neuron --images 8", "trains on no images"),
    ],
)
def test_a_size_that_would_do_nothing_is_refused(words: str, says: str, tmp_path: Path) -> None:
    options = parse([*words.split(), "--runs", str(tmp_path)])
    assert isinstance(options, StudyOptions)
    with pytest.raises(UsageError, match=says):
        run.run_study(options, Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_overfitting_needs_images_for_its_smallest_set(lab: Lab, tmp_path: Path) -> None:
    few = replace(lab, size=replace(lab.size, images=8))
    with pytest.raises(UsageError, match="needs at least 16 images"):
        overfitting.draw(few, tmp_path / "overfitting.png")


def test_the_list_states_every_default_size() -> None:
    console = Console(record=True, width=200, quiet=False)
    with console.capture() as captured:
        run.list_studies(console)
    for study in STUDIES.values():
        assert study.name in captured.get()
        assert str(study.size) in captured.get()


def test_the_markdown_table_has_every_row() -> None:
    findings = Findings(("a", "b"), [("1", "2"), ("3", "4")], ["A sentence."])
    page = run.to_markdown(STUDIES["neuron"], findings, "care")
    assert "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |" in page
    assert "A sentence." in page
    assert "](neuron.png)" in page


@pytest.mark.data
def test_a_study_of_real_images_never_reads_the_test_set(tmp_path: Path, data_folder: Path) -> None:
    """The real training files; the test files are there, and whoever read them would find them damaged."""
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (data_folder / "FashionMNIST" / "raw").glob("train-*-ubyte"):
        (raw / file.name).symlink_to(file.resolve())
    for file in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (raw / file).write_bytes(b"damaged")
    words = ["study", "overfitting", "--images", "640", "--epochs", "3", "--threads", "1"]
    assert main([*words, "--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]) == 0
    folder = tmp_path / "runs" / "studies" / "overfitting"
    assert {path.name for path in folder.iterdir()} == {"overfitting.png", "table.md", "table.csv"}
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["images"] for row in rows] == ["40", "160", "640"]
    accuracies = [float(row["at the end, %"]) for row in rows]
    assert accuracies[0] < accuracies[2]
    assert "640 images, 3 epochs, 1 seed" in (folder / "table.md").read_text()


# --- the lab ---


def a_recipe(**fields: object) -> Recipe:
    return replace(TINY, **{"name": "lab", "epochs": 2, "batch_size": 16, **fields})


def test_a_lab_gives_no_more_images_than_its_size(lab: Lab) -> None:
    small = replace(lab, size=Size(images=10, epochs=1, seeds=1)).load("mnist")
    assert len(small.training) == 10
    assert len(small.validation) == 60
    assert len(lab.load("mnist", 5).training) == 5


def test_a_training_that_diverges_is_a_result(lab: Lab) -> None:
    training = lab.train(a_recipe(learning_rate=1e30), lab.load("mnist"), "far too high")
    assert math.isnan(training.accuracy)
    assert mean_and_spread([training.accuracy, 90.0]) == "1 of 2 diverged"


def test_the_accuracy_is_that_of_the_network_that_training_returns(lab: Lab) -> None:
    """With early stopping that is an earlier one than the last."""
    data = lab.load("mnist")
    recipe = a_recipe(optimiser="adam", learning_rate=0.05, epochs=12, patience_epochs=2)
    training = lab.train(recipe, data, "early")
    loss, accuracy = evaluate(training.network, data.validation)
    assert training.accuracy == 100 * accuracy
    assert loss == pytest.approx(min(training.validation_losses))


def test_seeds_are_different_trainings_that_can_be_repeated(lab: Lab) -> None:
    data = lab.load("mnist")
    first, second = lab.train_seeds(a_recipe(), data, "once")
    again, _ = lab.train_seeds(a_recipe(), data, "twice")
    assert np.array_equal(first.step_losses, again.step_losses)
    assert not np.array_equal(first.step_losses, second.step_losses)
    assert len(first.step_losses) == 2 * 4  # epochs, batches


@given(arrays(float, st.integers(1, 200), elements=FLOATS), st.integers(1, 50))
def test_smoothing_gives_means_of_as_many_losses_as_there_are(losses: np.ndarray, wanted: int) -> None:
    steps, means = smooth(losses, wanted)
    width = int(steps[0])
    assert 1 <= width <= max(1, len(losses) // 10)
    assert steps[-1] == len(losses)
    for step, mean in zip(steps, means, strict=True):
        assert mean == pytest.approx(losses[step - width : step].mean(), abs=1e-6)


def test_a_spread_is_the_standard_deviation_over_seeds() -> None:
    assert mean_and_spread([1.0, 3.0]) == "2.00 ± 1.41"
    assert mean_and_spread([1.0]) == "1.00"


# --- single studies ---


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", torch.relu),
        ("leaky-relu", functional.leaky_relu),
        ("tanh", torch.tanh),
        ("sigmoid", torch.sigmoid),
    ],
)
def test_an_activation_is_drawn_with_its_own_values_and_slopes(name: str, function: object) -> None:
    x = torch.linspace(-3, 3, 40, dtype=torch.float64)  # which does not hold 0, where ReLU has a corner
    values, slopes = neuron.activate(name, x)
    assert torch.allclose(values, function(x))
    assert torch.allclose(slopes, (function(x + 1e-6) - function(x - 1e-6)) / 2e-6, atol=1e-5)


def an_outcome(rate: float, accuracy: float, losses: list[float]) -> learning_rates.Outcome:
    return learning_rates.Outcome(rate, losses, 4, validation_loss=1.0, validation_accuracy=accuracy)


def test_learning_rates_are_judged_by_how_far_they_come() -> None:
    outcomes = [
        an_outcome(0.001, 0.4, [2.3, 2.2, 2.1, 2.0]),
        an_outcome(0.1, 0.84, [2.3, 1.0, 0.7, 0.6]),
        an_outcome(0.2, 0.85, [2.3, 1.0, 0.6, 0.5]),
        an_outcome(1.0, 0.6, [2.3, 3.0, 1.2, 1.1]),
        an_outcome(3.0, 0.1, [2.3, 9.0, 99.0, 999.0]),
        an_outcome(10.0, 0.1, [2.3, 99.0]),
    ]
    expected = ["too low", "good", "good", "too high", "divergent", "divergent"]
    assert learning_rates.judge(outcomes) == expected


def test_training_batch_by_batch_is_training_at_once(lab: Lab) -> None:
    """The study's reason for it, and the batches it makes: one epoch in its order, by both ways."""
    data = lab.load("mnist")
    recipe = replace(learning_rates.RECIPE, batch_size=16)
    once = replace(lab, size=Size(images=64, epochs=1, seeds=1))
    outcome = learning_rates._train(once, recipe, data)
    batches = list(learning_rates._batches(data.training, 16, 1))
    shuffled = Split(
        torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])
    )
    training = lab.train(recipe, Splits(shuffled, data.validation), "at once")
    assert outcome.losses == pytest.approx(training.step_losses)
    assert 100 * outcome.validation_accuracy == pytest.approx(training.accuracy)


def test_every_image_is_permuted_alike_and_loses_nothing() -> None:
    split = draw_bars(20, seed=3)
    order = torch.randperm(784, generator=torch.Generator().manual_seed(5))
    permuted = permuted_pixels.permute(split, order)
    assert not torch.equal(permuted.images, split.images)
    assert torch.equal(permuted_pixels.permute(permuted, order.argsort()).images, split.images)
    assert torch.equal(permuted.labels, split.labels)


def test_to_an_mlp_a_permutation_only_renames_its_first_weights() -> None:
    split = draw_bars(20, seed=3)
    order = torch.randperm(784, generator=torch.Generator().manual_seed(5))
    network = build(a_recipe())
    expected = predict_logits(network, split.images)
    first = next(layer for layer in network if isinstance(layer, nn.Linear))
    with torch.no_grad():
        first.weight.copy_(first.weight[:, order])
    actual = predict_logits(network, permuted_pixels.permute(split, order).images)
    assert torch.allclose(actual, expected, atol=1e-5)


def test_overfitting_begins_at_the_lowest_validation_loss(lab: Lab) -> None:
    training = lab.train(a_recipe(epochs=6), lab.load("mnist"), "six")
    losses = training.validation_losses
    assert losses[overfitting.lowest(training)] == min(losses)


def test_batch_sizes_take_their_steps_from_the_same_samples(lab: Lab, tmp_path: Path) -> None:
    findings = batch_sizes.draw(lab, tmp_path / "study.png")
    for row in findings.rows:
        batch_size, steps = (int(row[place].replace(",", "")) for place in (0, 2))
        assert steps == 2 * math.ceil(64 / batch_size)


def test_the_gain_of_a_regulariser_is_measured_against_none(lab: Lab, tmp_path: Path) -> None:
    findings = regularisers.draw(lab, tmp_path / "study.png")
    none = float(findings.rows[0][1].split(" ± ")[0])
    for label, accuracy, gain, *_ in findings.rows[1:]:
        assert float(gain.split(" ± ")[0]) == pytest.approx(
            float(accuracy.split(" ± ")[0]) - none, abs=0.02
        ), label


def test_gradients_shrink_towards_the_image_in_a_deep_sigmoid_network(lab: Lab) -> None:
    sizes = activations.first_gradients(replace(activations.DEEP, activation="sigmoid"), lab.load("mnist"))
    assert len(sizes) == 7
    assert sizes[0] < 1e-2 * sizes[-1]


def test_he_weights_keep_the_signal_and_unit_weights_blow_it_up(lab: Lab) -> None:
    images = lab.load("mnist").training
    spreads = {
        how: initialisations.signal_spreads(replace(initialisations.RECIPE, initialisation=how), images)
        for how in ("he-normal", "normal-1", "normal-0.01")
    }
    assert 0.2 < spreads["he-normal"][-1] / spreads["he-normal"][1] < 5
    assert spreads["normal-1"][-1] > 1e4
    assert spreads["normal-0.01"][-1] < 1e-4


def test_thinned_networks_differ_and_leave_the_network_and_the_random_numbers_as_they_were() -> None:
    network = build(a_recipe(dropout=0.5, batch_norm=True)).eval()
    images = draw_bars(20, seed=3).images
    expected = predict_logits(network, images)
    torch.manual_seed(7)
    following = torch.rand(3)
    torch.manual_seed(7)
    votes = dropout_doubt.sample_probabilities(network, images, passes=4)
    assert torch.equal(torch.rand(3), following)
    assert votes.shape == (4, 20, 10)
    assert torch.allclose(votes.sum(2), torch.ones(4, 20))
    assert not torch.allclose(votes[0], votes[1])
    assert torch.equal(predict_logits(network, images), expected)


def test_doubt_is_nothing_for_the_certain_and_all_for_those_who_know_nothing() -> None:
    certain, unknowing = torch.eye(10)[:1], torch.full((1, 10), 0.1)
    assert dropout_doubt.entropy(certain) == pytest.approx([0.0])
    assert dropout_doubt.entropy(unknowing) == pytest.approx([math.log(10)])
    same = torch.stack([unknowing, unknowing])
    opposed = torch.stack([torch.eye(10)[:1], torch.eye(10)[1:2]])
    assert dropout_doubt.disagreement(same) == pytest.approx([0.0], abs=1e-6)
    assert dropout_doubt.disagreement(opposed) == pytest.approx([math.log(2)])


@given(
    arrays(float, st.integers(1, 12), elements=st.integers(0, 6).map(float)),
    arrays(float, st.integers(1, 12), elements=st.integers(0, 6).map(float)),
)
def test_separation_is_the_share_of_pairs_in_order(low: np.ndarray, high: np.ndarray) -> None:
    pairs = [(b > a) + (a == b) / 2 for a in low for b in high]
    assert dropout_doubt.separation(low, high) == pytest.approx(sum(pairs) / len(pairs))


def test_refusing_the_most_doubtful_leaves_the_errors_of_the_rest() -> None:
    doubt = np.array([0.9, 0.1, 0.5, 0.7])
    wrong = np.array([True, False, False, True])
    kept = dropout_doubt.errors_kept(doubt, wrong)  # with 0, 1, 2 and 3 refused
    assert kept == pytest.approx([2 / 4, 1 / 3, 0, 0])
