"""What each command does, and prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from rich.table import Table

from training import distributed
from training.accuracies import find_accuracy
from training.architectures import build, count_macs, count_weights
from training.artifacts import list_artifacts, read_artifact
from training.devices import choose_device, gains_by_bfloat16
from training.errors import ArtifactDamaged
from training.evaluation import evaluate_artifact, keep_doubt, record_doubt
from training.evaluation_plots import draw_evaluation
from training.model_page import update_artifacts_table
from training.options import (
    CalibrateOptions,
    EvaluateOptions,
    FitOptions,
    ListOptions,
    Options,
    ReportOptions,
    ReproduceOptions,
    SearchOptions,
    StudyListOptions,
    StudyOptions,
)
from training.progress import watch
from training.recipes import RECIPES
from training.reproduce.run import run_reproduce
from training.runs import RUNS, new_run, recipe_of, resumed_run, shipped_run
from training.search.run import run_search
from training.ship import help_train, require_shippable, ship, train
from training.studies.run import list_studies, run_study

if TYPE_CHECKING:
    from rich.console import Console

    from training.evaluation import Evaluation
    from training.measure import Measurement

LIST_WIDTH: Final = 150  # columns of a terminal


def run(options: Options, console: Console) -> None:
    """Do what the command line asked for."""
    if isinstance(options, FitOptions):
        fit_recipe(options, console)
    elif isinstance(options, CalibrateOptions):
        calibrate_again(options, console)
    elif isinstance(options, EvaluateOptions):
        show_evaluation(options, console)
    elif isinstance(options, SearchOptions):
        run_search(options, console)
    elif isinstance(options, StudyOptions):
        run_study(options, console)
    elif isinstance(options, StudyListOptions):
        list_studies(console)
    elif isinstance(options, ReproduceOptions):
        run_reproduce(options, console)
    elif isinstance(options, ListOptions):
        list_recipes(options, console)
    else:
        write_report(options, console)


def fit_recipe(options: FitOptions, console: Console) -> None:
    """Train a recipe in a run folder of its own, and ship it: alone, or with the processes of torchrun."""
    if options.threads:
        torch.set_num_threads(options.threads)
    with distributed.joined(choose_device(options.device)) as device:
        if distributed.rank() == 0:
            _lead_fit(options, device, console)
        else:
            help_train(options.recipe, device, options.data, options.models)


def _lead_fit(options: FitOptions, device: torch.device, console: Console) -> None:
    recipe, processes = options.recipe, distributed.processes()
    if options.ship:
        require_shippable(recipe, options.data, options.models)
    held = resumed_run(recipe.name, options.runs) if options.resume else new_run(recipe, options.runs)
    with held as folder:
        together = f", {processes} processes" if processes > 1 else ""
        _say(console, f"{recipe.name} on {device}{together}, in {folder}")
        if recipe.precision == "bfloat16" and not gains_by_bfloat16(device):
            _say(console, "This processor gains nothing by bfloat16: training in float32.")
        with watch(console, recipe.epochs) as watcher:
            trained = train(
                recipe, folder, device, data=options.data, models=options.models, observers=[watcher]
            )
        if not options.ship:
            _say(console, "Not shipped: the test set was not read, models/ is as it was.")
            return
        shipped = ship(recipe, trained, folder, options.data, options.models)
    _say(console, f"{shipped.path}, version {shipped.version}: test accuracy {shipped.test_accuracy}")


def calibrate_again(options: CalibrateOptions, console: Console) -> None:
    """Load the network of a finished run, learn anew what its validation split teaches, and ship it."""
    if options.threads:
        torch.set_num_threads(options.threads)
    name = options.recipe.name
    version = read_artifact(name, options.models).version
    with shipped_run(name, version, options.runs) as folder:
        recipe = recipe_of(folder)  # whatever the recipe of this name has become since
        device = choose_device(options.device)
        trained = train(recipe, folder, device, data=options.data, models=options.models)
        shipped = ship(recipe, trained, folder, options.data, options.models)
    _say(console, f"{shipped.path}, version {shipped.version}: the weights of {version}, calibrated anew")


def show_evaluation(options: EvaluateOptions, console: Console) -> None:
    """Print and draw what an artifact makes of the test set, and of pictures of something else."""
    evaluation = evaluate_artifact(options.name, options.models, options.data)
    if options.predictions is not None:
        indices = evaluation.answers.probabilities.argmax(1)
        options.predictions.write_text("".join(f"{index}\n" for index in indices))
    version = evaluation.artifact.version
    _print_measurement(console, f"{options.name} {version}", evaluation.measured)
    _print_families(console, evaluation)
    folder = options.plots or RUNS / "evaluations" / f"{options.name}-{version}"
    drawn = draw_evaluation(evaluation, folder)
    _say(console, f"{folder}: {', '.join(path.name for path in drawn)}")


def write_report(options: ReportOptions, console: Console) -> None:
    """Bring both tables of artifacts up to date."""
    page = update_artifacts_table(options.models)
    names = list_artifacts(options.models)
    keep_doubt(names, page)
    for name in names:
        record_doubt(evaluate_artifact(name, options.models, options.data), page)
    _say(console, f"{page} tells of {', '.join(names)}")


def list_recipes(options: ListOptions, console: Console) -> None:
    """Print every recipe with its size and cost, and what its artifact or newest run came to."""
    table = Table("recipe", "dataset", "network")
    for heading in ("weights", "multiply-adds", "accuracy"):
        table.add_column(heading, justify="right")
    table.add_column("measured on")
    for name, recipe in RECIPES.items():
        network = build(recipe)
        shape = " ".join((recipe.architecture, "-".join(map(str, recipe.widths))))
        figures = (f"{count_weights(network):,}", f"{count_macs(network):,}")
        try:
            known = find_accuracy(recipe, options.models, options.runs)
            accuracy = (f"{known.share:.2%}", known.source) if known else ("-", "")
        except ArtifactDamaged:
            accuracy = ("-", "damaged artifact")
        table.add_row(name, recipe.dataset, shape, *figures, *accuracy)
    # A narrow terminal breaks the lines; cutting the columns would leave no name whole.
    console.width = max(console.width, LIST_WIDTH)
    console.print(table)


def _print_measurement(console: Console, title: str, measured: Measurement) -> None:
    table = Table("class", title=title, title_justify="left")
    for heading in ("images", "recall", "precision"):
        table.add_column(heading, justify="right")
    for row in measured.classes:
        table.add_row(row.label, str(row.images), f"{row.recall:.2%}", f"{row.precision:.2%}")
    console.print(table)
    _say(console, f"test accuracy        {measured.accuracy}")
    _say(console, f"calibration error    {measured.expected_calibration_error:.2%} over 15 bins")
    if measured.doubt is None:
        _say(console, "not calibrated: no prediction sets, no in-distribution threshold")
        return
    doubt = measured.doubt
    _say(console, f"prediction sets      {doubt.coverage:.2%} hold the label, made for {doubt.level:.0%};")
    _say(console, f"                     {doubt.mean_set_size:.3f} labels on average")
    _say(console, f"out of distribution  {doubt.flagged:.2%} of the test images")


def _print_families(console: Console, evaluation: Evaluation) -> None:
    if not evaluation.families:
        return
    table = Table("pictures of something else", title="out of distribution", title_justify="left")
    for heading in ("images", "flagged", "AUROC"):
        table.add_column(heading, justify="right")
    for name, figures in evaluation.families.items():
        images = len(evaluation.strange[name].typicality)
        table.add_row(name, str(images), f"{figures.flagged:.1%}", f"{figures.auroc:.3f}")
    console.print(table)


def _say(console: Console, line: str) -> None:
    """Print one line as it is, however narrow the terminal."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
