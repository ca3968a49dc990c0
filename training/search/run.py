"""The search command: plan or join, work, and show what came of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from training.data import Split, Splits, load_training
from training.devices import choose_device
from training.errors import Interrupted, UsageError
from training.recipes import RECIPES
from training.runs import alone_in
from training.search.results import (
    best_recipe,
    fit_flags,
    plot_trials,
    recipe_source,
    settled_trials,
    tabulate,
    write_csv,
)
from training.search.space import apply, is_fixed, parse_dimensions, plan_grid, plan_random
from training.search.study import open_study, work
from training.search.trial import Search, Trainer
from training.series import Series

if TYPE_CHECKING:
    from pathlib import Path

    import optuna
    from rich.console import Console

    from training.options import SearchOptions
    from training.recipes import Recipe


def run_search(options: SearchOptions, console: Console) -> None:
    """Work on a search until its plan is done; leave trials.csv, trials.png and best_recipe.py in its folder.

    Raises:
        UsageError: the plan is none, or the study of that name searches something else.
        Interrupted: somebody asked to stop; the same command goes on.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    search = plan_search(options)
    data = _load(search, options.data)
    folder = options.runs / "search" / (options.study or options.name)
    study = open_study(folder, options.storage, search, prune=options.prune)
    with Series(console, "search", len(search.plan)) as series:
        _introduce(search, data, folder, series)
        device = choose_device(options.device)
        trainer = Trainer(search, data.to(device), device, series, options.models)
        try:
            work(study, trainer, folder)
        except Interrupted as exc:
            raise Interrupted(f"{exc}; the same command again goes on with {folder}") from exc
    recipe = search.recipe
    if options.epochs:  # shortened the trials, not what they are to find
        recipe = replace(recipe, epochs=RECIPES[options.name].epochs)
    show_results(study, search, recipe, folder, console)


def plan_search(options: SearchOptions) -> Search:
    """Turn the command's options into a plan.

    Raises:
        UsageError: there is neither --grid nor --random, or both; or a trial would have no validation images.
    """
    if bool(options.grid) == bool(options.random):
        raise UsageError("Give either --grid FIELD=v1,v2 ... or --random FIELD=low..high ...")
    given = parse_dimensions(options.grid or options.random, ranges=bool(options.random))
    if options.epochs and any(dimension.field == "epochs" for dimension in given):
        raise UsageError("Give the epochs once: by --epochs or as a field.")
    recipe = RECIPES[options.name]
    recipe = replace(recipe, epochs=options.epochs or recipe.epochs)
    recipe = apply(recipe, {fixed.field: fixed.values[0] for fixed in given if is_fixed(fixed)})
    dimensions = [dimension for dimension in given if not is_fixed(dimension)]
    plan = plan_grid(dimensions) if options.grid else plan_random(dimensions, options.trials, options.seed)
    held_out = {apply(recipe, values).validation_images for values in plan}
    if len(held_out) > 1:
        raise UsageError(
            "Trials are compared on the same validation images: give validation_images one value."
        )
    if held_out == {0}:
        raise UsageError(
            f"{options.name} holds no validation images out, and a search never reads the test set: "
            "add validation_images=5000."
        )
    drawn = f"random, seed {options.seed}" if options.random else "grid"
    return Search(recipe, dimensions, plan, options.images, drawn)


def _load(search: Search, folder: Path | None) -> Splits:
    held_out = apply(search.recipe, search.plan[0]).validation_images
    training, validation = load_training(search.recipe.dataset, held_out, folder)
    wanted = search.images or len(training)
    return Splits(Split(training.images[:wanted], training.labels[:wanted]), validation)


def _introduce(search: Search, data: Splits, folder: Path, series: Series) -> None:
    series.say(f"{search.recipe.name}: {len(search.plan)} trials in {folder}")
    for dimension in search.dimensions:
        series.say(f"  {dimension}")
    images = f"{len(data.training):,} training and {len(data.validation):,} validation images"
    series.say(f"  each trains on {images}; the test set is not read")


def show_results(study: optuna.Study, search: Search, recipe: Recipe, folder: Path, console: Console) -> None:
    """Print the trials, and `recipe` with the best one's values; write them down."""
    trials = settled_trials(study)
    with alone_in(folder):  # all that worked on it come here at once
        write_csv(trials, search.dimensions, folder / "trials.csv")
        plot_trials(trials, search, folder / "trials.png")
    console.print(tabulate(trials, search.dimensions, str(folder)))
    found = best_recipe(trials, recipe)
    if found is None:
        console.print("No trial was completed.", highlight=False)
        return
    base = RECIPES[search.recipe.name]
    source = recipe_source(found)
    (folder / "best_recipe.py").write_text(
        f"from training.recipes import Recipe\n\nBEST = {source}\n", encoding="utf-8"
    )
    for line in (source, "", f"python -m training fit {found.name} {fit_flags(found, base)}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
