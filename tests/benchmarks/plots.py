"""Plots of what the benchmarks found: how cost grows, what overload does, how the servers compare.

    python -m tests.benchmarks.plots --out service/plots

reads runs/bench, where the benchmarks leave their figures.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from training.report import STYLE

from .records import FOLDER
from .servers import OURS, PEERS

COLOUR, OTHERS, LIGHT = "#0b62a4", "#8a8f98", "#c5cbd3"
DPI, COLOURS = 80, 64
SMALLER = {**STYLE, "font.size": 9}
Measured = Mapping[str, Any]  # what one benchmark recorded, by key


def measured(benchmark: str) -> Measured:
    path = FOLDER / f"{benchmark}.json"
    found: Measured = json.loads(path.read_text(encoding="utf-8"))["measured"] if path.exists() else {}
    return found


def plot_servers(found: Measured) -> Figure:
    """Medians of requests a second and their spread, by model and number of connections and workers."""
    figure = Figure(figsize=(9, 2.2 * ((len(found) + 1) // 2)), layout="constrained")
    panels = figure.subplots((len(found) + 1) // 2, 2, squeeze=False).flatten()
    for axes, (title, entry) in zip(panels, found.items(), strict=False):
        samples = entry["samples"]
        names = [name for name in reversed(PEERS) if name in samples]
        rates = [[sample["requests_per_s"] for sample in samples[name]] for name in names]
        middle = [statistics.median(rate) for rate in rates]
        reach = [[m - min(r) for m, r in zip(middle, rates, strict=True)]]
        reach += [[max(r) - m for m, r in zip(middle, rates, strict=True)]]
        colours = [COLOUR if name == OURS else LIGHT for name in names]
        axes.barh(names, middle, xerr=reach, color=colours, ecolor=OTHERS)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("requests/s")
        axes.grid(visible=False, axis="y")
    for axes in panels[len(found) :]:
        axes.remove()
    return figure


def plot_growth(found: Measured) -> Figure:
    """Images a second by what grows, and beside it milliseconds to answer."""
    figure = Figure(figsize=(9, 1.9 * len(found)), layout="constrained")
    for row, (name, entry) in zip(figure.subplots(len(found), 2, squeeze=False), found.items(), strict=True):
        values = [int(value) for value in entry["samples"]]
        points = list(entry["samples"].values())
        rates = [point["images_per_s"] for point in points]
        row[0].plot(values, rates, "o-", color=COLOUR)
        row[0].set_ylabel("images/s")
        for what, colour in (("p50_ms", COLOUR), ("p99_ms", OTHERS)):
            times = [median(point["rounds"], what) for point in points]
            row[1].plot(values, times, "o-", color=colour, label=what[:3])
        row[1].legend(frameon=False, loc="upper left")
        row[1].set_ylabel("ms to answer")
        for axes in row:
            scale(axes, name, values)
            axes.set_ylim(bottom=0)
    return figure


def plot_overload(found: Measured) -> Figure:
    """Goodput, refusals and time to answer by what is offered."""
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for entry in found.values():
        points = entry["samples"]
        loads = [point["load"] for point in points]
        left.plot(loads, [point["goodput"] for point in points], "o-", color=COLOUR, label="answered")
        left.plot(loads, [point["shed_per_s"] for point in points], "o-", color=OTHERS, label="refused")
        right.plot(loads, [point["p99_ms"] for point in points], "o-", color=COLOUR, label="p99")
        right.plot(loads, [point["p50_ms"] for point in points], "o-", color=OTHERS, label="p50")
    for axes, label in ((left, "requests/s"), (right, "ms to answer what is accepted")):
        axes.set_xlabel("offered, of capacity")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.legend()
    return figure


def median(rounds: Sequence[Mapping[str, float]], what: str) -> float:
    return statistics.median(one[what] for one in rounds)


def scale(axes: Axes, label: str, values: Sequence[int]) -> None:
    axes.set_xlabel(label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of few colours, which is a third of the size."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(path, optimize=True)


PLOTS = {"serving": plot_servers, "growth": plot_growth, "overload": plot_overload}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder of the pictures (default runs/bench)"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for benchmark, plot in PLOTS.items():
        if found := measured(benchmark):
            with mpl.rc_context(SMALLER):
                save(plot(found), options.out / f"{benchmark}.png")
            print(options.out / f"{benchmark}.png")


if __name__ == "__main__":
    main()
