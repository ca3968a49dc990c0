"""The rules of a hyperparameter search: its plan, its study shared by processes, and what it leaves."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from rich.console import Console

from training.__main__ import main
from training.data import Split, Splits
from training.errors import Interrupted, RunUnavailable, UsageError
from training.options import FitOptions, SearchOptions, parse
from training.recipes import RECIPES, Recipe
from training.search.results import (
    TrialResult,
    best_recipe,
    fit_flags,
    plot_trials,
    recipe_source,
    settled_trials,
    write_csv,
)
from training.search.run import plan_search
from training.search.space import Choices, Range, apply, parse_dimensions, plan_grid, plan_random
from training.search.study import open_study, planned_trials, revive, work
from training.search.trial import PLACE, WORKER, Search, Trainer
from training.series import Series

ROOT = Path(__file__).resolve().parents[2]
TINY = Recipe(
    name="tiny", dataset="mnist", architecture="softmax", epochs=2, batch_size=32, learning_rate=0.1, seed=3
)


def bars(images: int) -> Split:
    """Images whose class is the height of a bright bar: learnt in a few steps, no data files needed."""
    labels = torch.arange(images) % 10
    pixels = torch.zeros(images, 28, 28, dtype=torch.uint8)
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[2 * label : 2 * label + 3] = 255
    return Split(pixels, labels)


def a_search(*words: str, recipe: Recipe = TINY, draws: int = 0) -> Search:
    dimensions = parse_dimensions(words, ranges=bool(draws))
    plan = plan_random(dimensions, draws, seed=1) if draws else plan_grid(dimensions)
    return Search(recipe, dimensions, plan, images=0, drawn="grid")


def run_trials(
    search: Search, folder: Path, series: type[Series] = Series, *, prune: bool = False, heartbeat: int = 10
) -> list[TrialResult]:
    study = open_study(folder, None, search, prune=prune, heartbeat_seconds=heartbeat)
    data = Splits(bars(64), bars(40))
    with series(Console(quiet=True), "search", len(search.plan)) as shown:
        work(study, Trainer(search, data, torch.device("cpu"), shown, folder.parent), folder)
    return settled_trials(study)


# --- the plan ---


@given(word=st.text(max_size=40), ranges=st.booleans())
def test_any_word_is_a_dimension_or_a_usage_error(word: str, *, ranges: bool) -> None:
    try:
        (dimension,) = parse_dimensions([word], ranges=ranges)
    except UsageError:
        return
    assert isinstance(dimension, Choices | Range)


@given(
    st.sampled_from(["learning_rate", "batch_size", "widths", "activation", "batch_norm", "nothing"]),
    st.text("0123456789.,-e+naifrelutanhTruefalse", max_size=16),
)
def test_a_word_that_is_accepted_makes_recipes(field: str, text: str) -> None:
    try:
        dimensions = parse_dimensions([f"{field}={text}"], ranges=True)
    except UsageError:
        return
    for values in plan_random(dimensions, 3, seed=0):
        value = getattr(apply(TINY, values), field)
        assert type(value) is type(getattr(TINY, field))


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("lerning_rate=0.1", "learning_rate"),
        ("learning_rate", "FIELD="),
        ("learning_rate=", "FIELD="),
        ("learning_rate=nan", "a number"),
        ("batch_size=1.5", "a whole number"),
        ("batch_norm=maybe", "true or false"),
        ("activation=gelu", "relu"),
        ("activation=relu..tanh", "no number"),
        ("widths=64x64", "512-512"),
        ("dropout=0.5..0.1", "lower bound comes first"),
        ("name=other", "no field name"),
        ("dataset=mnist", "no field dataset"),
    ],
)
def test_a_wrong_word_is_answered_with_what_to_write(word: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_dimensions([word], ranges=True)


def test_a_grid_takes_no_range() -> None:
    with pytest.raises(UsageError, match="--random"):
        parse_dimensions(["dropout=0..0.5"], ranges=False)


def test_a_grid_is_every_combination_once() -> None:
    search = a_search("learning_rate=0.1,0.01,0.001,1e-2", "batch_size=16,32,16")
    points = {(values["learning_rate"], values["batch_size"]) for values in search.plan}
    assert len(search.plan) == len(points) == 6


@given(low=st.floats(1e-6, 1e3), factor=st.floats(1.0001, 1e6), whole=st.booleans())
def test_every_draw_lies_within_its_bounds(low: float, factor: float, *, whole: bool) -> None:
    bounds = (round(low), round(low) + round(factor)) if whole else (low, low * factor)
    for values in plan_random([Range("field", *bounds, whole=whole)], 20, seed=1):
        assert bounds[0] <= values["field"] <= bounds[1]
        assert isinstance(values["field"], int if whole else float)


def test_a_wide_range_is_drawn_logarithmically_and_a_narrow_one_is_not() -> None:
    wide = plan_random([Range("field", 1e-4, 1.0, whole=False)], 400, seed=1)
    narrow = plan_random([Range("field", 1.0, 2.0, whole=False)], 400, seed=1)
    assert 0.4 < sum(values["field"] < 1e-2 for values in wide) / 400 < 0.6
    assert 0.4 < sum(values["field"] < 1.5 for values in narrow) / 400 < 0.6


def test_a_longer_random_plan_begins_with_the_shorter_one() -> None:
    dimensions = parse_dimensions(["learning_rate=1e-4..1", "activation=relu,tanh"], ranges=True)
    assert plan_random(dimensions, 9, seed=5)[:4] == plan_random(dimensions, 4, seed=5)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (SearchOptions("mnist-mlp"), "either --grid"),
        (SearchOptions("mnist-mlp", grid=("seed=1",), random=("seed=1",)), "either --grid"),
        (SearchOptions("mnist-mlp", grid=("epochs=1,2",), epochs=3), "epochs once"),
        (SearchOptions("mnist-mlp", grid=("validation_images=0",)), "never reads the test set"),
        (SearchOptions("mnist-mlp", grid=("validation_images=5000,10000",)), "same validation images"),
        (SearchOptions("mnist-mlp", grid=("seed=1,2", "seed=3")), "given twice"),
    ],
)
def test_a_plan_that_compares_nothing_is_refused(options: SearchOptions, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        plan_search(options)


def test_a_single_value_fixes_a_field_and_is_not_searched() -> None:
    search = plan_search(SearchOptions("mnist-mlp", grid=("dropout=0.4", "seed=1,2")))
    assert search.recipe.dropout == 0.4
    assert search.plan == [{"seed": 1}, {"seed": 2}]


# --- the study ---


def test_every_trial_is_recorded_with_values_figures_and_duration(tmp_path: Path) -> None:
    trials = run_trials(a_search("learning_rate=0.001,0.5", "batch_size=16,32"), tmp_path / "s")
    assert [trial.number for trial in trials] == [1, 2, 3, 4]
    for trial in trials:
        assert set(trial.values) == {"learning_rate", "batch_size"}
        assert trial.outcome == "complete"
        assert trial.epochs == TINY.epochs
        assert trial.validation_loss is not None
        assert 0 < trial.training_seconds <= trial.duration_seconds
    by_rate = {trial.values["learning_rate"]: trial.validation_accuracy or 0 for trial in trials}
    assert by_rate[0.5] > by_rate[0.001], "the values did not reach the training"


def test_a_finished_search_started_again_trains_nothing(tmp_path: Path) -> None:
    search = a_search("learning_rate=0.1,0.5")
    first = run_trials(search, tmp_path / "s")
    assert run_trials(search, tmp_path / "s") == first


def test_more_trials_continue_the_same_search(tmp_path: Path) -> None:
    words = ("learning_rate=0.01..1", "batch_size=8..64")
    first = run_trials(a_search(*words, draws=2), tmp_path / "s")
    both = run_trials(a_search(*words, draws=3), tmp_path / "s")
    assert both[:2] == first
    assert len(both) == 3


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (a_search("learning_rate=0.1,0.6"), "space"),
        (a_search("learning_rate=0.1,0.5", recipe=replace(TINY, epochs=3)), "epochs"),
        (replace(a_search("learning_rate=0.1,0.5"), images=10), "images"),
        (replace(a_search("learning_rate=0.1,0.5"), drawn="random, seed 2"), "plan"),
    ],
)
def test_a_study_takes_no_trials_of_another_search(tmp_path: Path, other: Search, difference: str) -> None:
    open_study(tmp_path / "s", None, a_search("learning_rate=0.1,0.5"), prune=False)
    with pytest.raises(UsageError, match=f"differs in {difference}"):
        open_study(tmp_path / "s", None, other, prune=False)


@pytest.mark.parametrize("url", ["nonsense://x", "no address", "sqlite:////nowhere/at/all.sqlite3"])
def test_a_storage_that_cannot_be_opened_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(RunUnavailable, match="cannot be opened"):
        open_study(tmp_path / "s", url, a_search("learning_rate=0.1,0.5"), prune=False)


def test_folders_apart_share_the_trials_of_one_storage(tmp_path: Path) -> None:
    """As machines do: the storage is all they have in common."""
    search, url = a_search("learning_rate=0.1,0.5"), f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    here = open_study(tmp_path / "here" / "s", url, search, prune=False)
    there = open_study(tmp_path / "there" / "s", url, search, prune=False)
    revive(here, search.plan)
    assert [trial.user_attrs[PLACE] for trial in planned_trials(there)] == [0, 1]


def test_a_diverged_trial_is_a_result_and_is_not_repeated(tmp_path: Path) -> None:
    recipe = replace(TINY, architecture="mlp", widths=(16,))
    search = a_search("learning_rate=1e30,0.1", recipe=recipe)
    trials = run_trials(search, tmp_path / "s")
    assert [trial.outcome for trial in trials] == ["diverged", "complete"]
    assert run_trials(search, tmp_path / "s") == trials
    found = best_recipe(trials, recipe)
    assert found is not None
    assert found.learning_rate == 0.1


def test_pruning_ends_a_trial_that_is_worse_than_the_median(tmp_path: Path) -> None:
    search = a_search("learning_rate=0.5,0.4,0.3,0.2,0.1,1e-6", recipe=replace(TINY, epochs=3))
    trials = run_trials(search, tmp_path / "s", prune=True)
    assert trials[-1].outcome == "pruned"
    assert trials[-1].epochs < 3


class Interrupting(Series):
    """Asks to stop in the middle of the first trial, as Ctrl-C does."""

    def on_start(self, step: int, steps: int, /) -> None:
        super().on_start(step, steps)
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_trial_goes_back_to_the_plan(tmp_path: Path) -> None:
    search = a_search("learning_rate=0.1,0.5")
    with pytest.raises(Interrupted):
        run_trials(search, tmp_path / "s", Interrupting)
    trials = run_trials(search, tmp_path / "s")
    assert [trial.number for trial in trials] == [1, 2]
    assert all(trial.outcome == "complete" for trial in trials)


CONTEXT = multiprocessing.get_context("spawn")


def share(search: Search, folder: Path, barrier: multiprocessing.synchronize.Barrier) -> None:
    """Work on a search, but finish no trial before every process has begun one."""

    class Meeting(Series):
        met = False

        def begin(self, label: str) -> None:
            if not self.met:
                barrier.wait(timeout=120)
            self.met = True
            super().begin(label)

    torch.set_num_threads(1)
    run_trials(search, folder, Meeting)


def test_two_processes_share_one_study_and_do_each_trial_once(tmp_path: Path) -> None:
    search = a_search("learning_rate=0.05,0.1,0.2,0.5", "batch_size=16,32")
    barrier = CONTEXT.Barrier(2)
    processes = [CONTEXT.Process(target=share, args=(search, tmp_path / "s", barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=240)
    assert [process.exitcode for process in processes] == [0, 0]
    trials = planned_trials(open_study(tmp_path / "s", None, search, prune=False))
    assert Counter(trial.user_attrs[PLACE] for trial in trials) == dict.fromkeys(range(8), 1)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({trial.user_attrs[WORKER] for trial in trials}) == 2


def hang(search: Search, folder: Path, started: multiprocessing.synchronize.Event) -> None:
    """Begin a trial and never end it."""

    class Hanging(Series):
        def on_epoch(self, *_: object) -> None:
            started.set()
            signal.pause()

    run_trials(search, folder, Hanging, heartbeat=1)


def test_a_trial_whose_process_was_killed_is_done_again(tmp_path: Path) -> None:
    search = a_search("learning_rate=0.1,0.5")
    started = CONTEXT.Event()
    process = CONTEXT.Process(target=hang, args=(search, tmp_path / "s", started))
    process.start()
    assert started.wait(timeout=120)
    process.kill()
    process.join(timeout=60)
    results = run_trials(search, tmp_path / "s", heartbeat=1)
    assert [trial.number for trial in results] == [1, 2]
    records = planned_trials(open_study(tmp_path / "s", None, search, prune=False))
    assert Counter((trial.user_attrs[PLACE], trial.state) for trial in records) == {
        (0, TrialState.FAIL): 1,
        (0, TrialState.COMPLETE): 1,
        (1, TrialState.COMPLETE): 1,
    }


# --- what it leaves ---


def a_result(number: int, accuracy: float | None, loss: float, outcome: str = "complete") -> TrialResult:
    values = {"learning_rate": number / 10, "activation": "relu" if number % 2 else "tanh"}
    return TrialResult(number, values, outcome, accuracy, loss, loss, accuracy, 2, 1.0, 1.1, "here:1")


def test_the_best_trial_is_the_most_accurate_complete_one_and_loss_breaks_ties() -> None:
    trials = [
        a_result(1, 0.99, 0.1, "pruned"),
        a_result(2, 0.97, 0.3),
        a_result(3, 0.97, 0.2),
        a_result(4, None, 9.0, "diverged"),
    ]
    assert best_recipe(trials, TINY) == replace(TINY, learning_rate=0.3, activation="relu")
    assert best_recipe(trials[:1], TINY) is None


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_source_of_a_recipe_evaluates_to_it(recipe: Recipe) -> None:
    assert eval(recipe_source(recipe), {"Recipe": Recipe}) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_the_flags_of_the_best_recipe_give_it_to_fit(name: str) -> None:
    base = RECIPES[name]
    widths = "64" if base.architecture == "rnn" else "64-32"
    values = {"widths": widths, "learning_rate": 3.5e-05, "batch_norm": not base.batch_norm, "epochs": 3}
    found = apply(base, values)
    options = parse(["fit", name, *fit_flags(found, base).split()])
    assert isinstance(options, FitOptions)
    assert options.recipe == found


def test_trials_are_written_as_csv_and_drawn_as_png(tmp_path: Path) -> None:
    dimensions = parse_dimensions(["learning_rate=0.1..0.4", "activation=relu,tanh"], ranges=True)
    trials = [a_result(1, 0.9, 0.1), a_result(2, 0.8, 0.3, "pruned"), a_result(3, None, 9.0, "diverged")]
    write_csv(trials, dimensions, tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["outcome"] for row in rows] == ["complete", "pruned", "diverged"]
    assert [float(row["learning_rate"]) for row in rows] == [0.1, 0.2, 0.3]
    plot_trials(trials, Search(TINY, dimensions, [], 0, "grid"), tmp_path / "trials.png")
    assert (tmp_path / "trials.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.data
def test_the_command_searches_real_images_and_never_reads_the_test_set(
    tmp_path: Path, data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real training files; the test files are there, and whoever read them would find them damaged."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (data_folder / "MNIST" / "raw").glob("train-*-ubyte"):
        (raw / file.name).symlink_to(file.resolve())
    for file in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (raw / file).write_bytes(b"damaged")
    words = ["search", "mnist-mlp", "--grid", "learning_rate=0.001,0.01", "widths=32", "weight_averaging=0"]
    words += ["--epochs", "2", "--images", "500", "--threads", "1"]
    assert main([*words, "--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]) == 0
    folder = tmp_path / "runs" / "search" / "mnist-mlp"
    assert {path.name for path in folder.iterdir()} >= {"trials.csv", "trials.png", "best_recipe.py"}
    assert "python -m training fit mnist-mlp --widths 32 --learning-rate 0.01" in capsys.readouterr().out
    best = {}
    exec((folder / "best_recipe.py").read_text(), best)
    assert best["BEST"] == replace(
        RECIPES["mnist-mlp"], widths=(32,), learning_rate=0.01, weight_averaging=0.0
    )
