"""Training here beside the usual script: the same network, batch and optimiser, on the same cores.

    python -m tests.benchmarks.training --rounds 5

times epochs of the 55,000 training images, round after round, so that a machine that changes its mind does so
for all; and how long a new process takes until the held-out images say 99.0 %, the usual MNIST CNN beside
ours. Prints medians, and ratios round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader

from training.architectures import build
from training.data import Splits, load_training
from training.fit import fit
from training.recipes import RECIPES, Recipe

from .peers import training_peer
from .records import cpu_name
from .servers import ROOT

OURS = "digitserve"
WORKERS = (0, 2)
# Whatever else an epoch of ours does for accuracy, and the usual script does not, we leave away; the
# precision stays.
PLAIN = {
    "flip": False,
    **dict.fromkeys(
        (
            *("shift_pixels", "rotation_degrees", "shear_degrees", "scaling", "elastic_pixels", "stroke"),
            *("blur", "tone", "grain", "residue", "erasing", "label_smoothing", "weight_averaging"),
        ),
        0.0,
    ),
    "schedule": "constant",
}
EPOCHS = {"mnist-mlp, batch 64": ("mnist-mlp", 64), "mnist-mlp, batch 256": ("mnist-mlp", 256)} | {
    "mnist-cnn, batch 128": ("mnist-cnn", 128)
}


@dataclass(frozen=True)
class Arrival:
    """How a training came to the target."""

    seconds: float  # from the start of the process
    images: int  # trained on until then, repeats counted
    validation_accuracy: float
    test_accuracy: float


def our_epoch_seconds(recipe: Recipe, data: Splits) -> float:
    _, (epoch,) = fit(build(recipe), data, recipe)
    return epoch.seconds


def usual_epoch_seconds(recipe: Recipe, folder: Path, workers: int) -> float:
    training, _ = training_peer.split(folder)
    # Normalize standardises. A DataLoader gives [batch, 1, 28, 28], our CNN takes [batch, 28, 28].
    network = (
        training_peer.usual_mlp(recipe.dropout)
        if recipe.architecture == "mlp"
        else nn.Sequential(nn.Flatten(1, 2), build(replace(recipe, standardise=False)))
    )
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    loader = DataLoader(training, batch_size=recipe.batch_size, shuffle=True, num_workers=workers)
    start = time.perf_counter()
    for _ in training_peer.train_epoch(network, loader, optimiser):
        pass
    return time.perf_counter() - start


def measure_epochs(name: str, batch_size: int, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of an epoch of each, `rounds` times in turn; a first short training only warms."""
    recipe = replace(RECIPES[name], batch_size=batch_size, epochs=1, validation_images=5_000, **PLAIN)
    data = load_training(recipe.dataset, recipe.validation_images, folder)
    warm = replace(data.training, images=data.training.images[:5_000], labels=data.training.labels[:5_000])
    our_epoch_seconds(recipe, data._replace(training=warm))
    seconds: dict[str, list[float]] = {OURS: [], **{f"usual, {workers} workers": [] for workers in WORKERS}}
    for _ in range(rounds):
        seconds[OURS].append(our_epoch_seconds(recipe, data))
        for workers in WORKERS:
            seconds[f"usual, {workers} workers"].append(usual_epoch_seconds(recipe, folder, workers))
    return seconds


def race(module: str, folder: Path, seed: int, *more: str) -> Arrival:
    """Start a new process; the clock runs from there until it says that the target is reached."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", "--data", str(folder), "--seed", str(seed)]
    start = time.perf_counter()
    seconds = validation = 0.0
    with subprocess.Popen([*command, *more], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            what, images, accuracy = line.split()
            if what == "test":
                return Arrival(seconds, int(images), validation, float(accuracy))
            seconds, validation = time.perf_counter() - start, float(accuracy)
    raise SystemExit(f"{module} did not come to the target with seed {seed}")


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def epochs_table(title: str, seconds: dict[str, list[float]]) -> Table:
    shown = Table(title=title, title_justify="left", box=None)
    shown.add_column("way")
    for heading in ("seconds an epoch", "it / ours"):
        shown.add_column(heading, justify="right")
    for way, found in seconds.items():
        ratios = [it / ours for ours, it in zip(seconds[OURS], found, strict=True)]
        shown.add_row(way, spread(found, ".2f"), "" if way == OURS else spread(ratios, ".2f"))
    return shown


def race_table(title: str, arrivals: dict[str, list[Arrival]]) -> Table:
    shown = Table(title=title, title_justify="left", box=None)
    shown.add_column("way")
    for heading in ("seconds", "it / ours", "images", "validation", "test"):
        shown.add_column(heading, justify="right")
    for way, found in arrivals.items():
        ratios = [it.seconds / ours.seconds for ours, it in zip(arrivals[OURS], found, strict=True)]
        shown.add_row(
            way,
            spread([arrival.seconds for arrival in found], ".1f"),
            "" if way == OURS else spread(ratios, ".2f"),
            spread([arrival.images for arrival in found], ",.0f"),
            spread([arrival.validation_accuracy for arrival in found], ".2%"),
            spread([arrival.test_accuracy for arrival in found], ".2%"),
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = Path(os.environ.get("DIGITSERVE_DATA", "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder in torchvision's layout")
    parser.add_argument("--rounds", type=int, default=5, help="of epochs")
    parser.add_argument("--races", type=int, default=3, help="to 99.0 %%, each with a seed of its own")
    parser.add_argument("--epochs", nargs="*", choices=EPOCHS, default=list(EPOCHS))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench" / "training.json")
    options = parser.parse_args()
    console = Console(width=130)
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "torch": torch.__version__}
    console.print(f"{machine['cpu']}, {machine['cores']} cores, PyTorch {machine['torch']}\n")
    figures: dict[str, object] = {**machine, "epochs": {}, "races": {}}
    for case in options.epochs:
        seconds = measure_epochs(*EPOCHS[case], options.data, options.rounds)
        console.print(epochs_table(case, seconds))
        figures["epochs"][case] = seconds  # type: ignore[index]
    racers = {OURS: "quick_training", "usual CNN": "peers.training_peer"}
    arrivals: dict[str, list[Arrival]] = {way: [] for way in racers}
    for seed in range(1, options.races + 1):
        for way, module in racers.items():
            arrivals[way].append(race(module, options.data, seed))
            console.print(f"seed {seed}: {way} arrives after {arrivals[way][-1].seconds:.1f} s")
    if options.races:
        console.print(race_table("from a cold start to 99.0 % of the validation images", arrivals))
        figures["races"] = {way: [asdict(it) for it in found] for way, found in arrivals.items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
