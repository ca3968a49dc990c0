"""The reproduce command: each row's table on the console and on a page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import torch
from rich.table import Table

from training.devices import choose_device
from training.errors import NotReproduced
from training.page_tables import block, read_table, write_table
from training.reproduce.blackboard import by_hand_rows
from training.reproduce.material import ROWS
from training.reproduce.networks import mlp_16, quickstart, tanh_mlp
from training.reproduce.outcome import Bench
from training.runs import current_commit
from training.series import Series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from training.options import ReproduceOptions
    from training.reproduce.outcome import Outcome

REPRODUCTIONS: Final[dict[str, Callable[[Bench], Outcome]]] = {
    "mnist-mlp-tanh": tanh_mlp,
    "fashion-mnist-mlp-quickstart": quickstart,
    "mnist-mlp-16": mlp_16,
    "by-hand": by_hand_rows,
}


def run_reproduce(options: ReproduceOptions, console: Console) -> None:
    """Reproduce the rows asked for, or all; write each one's table into the page when it is done.

    Raises:
        NotReproduced: a figure differs from the material's; its table says which.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    names = options.names or tuple(ROWS)
    prepare_page(options.page)
    began = time.monotonic()
    outcomes = {}
    with Series(console, "reproduce", total=len(names)) as series:
        bench = Bench(options.data, choose_device(options.device), series)
        for name in names:
            outcomes[name] = _reproduce(name, bench, options.page)
            series.advance()
    for name, outcome in outcomes.items():
        _show(console, ROWS[name], outcome)
    where = f"{len(names)} of {len(ROWS)} rows in {time.monotonic() - began:.0f} s"
    console.print(f"{where}; {options.page}", highlight=False, markup=False, soft_wrap=True)
    wrong = [name for name, outcome in outcomes.items() if not outcome.agrees]
    if wrong:
        raise NotReproduced(f"Other figures than the material's: {', '.join(wrong)}.")


def _reproduce(name: str, bench: Bench, page: Path) -> Outcome:
    bench.series.say(f"{name}: {ROWS[name]}")
    began = time.monotonic()
    outcome = REPRODUCTIONS[name](bench)
    seconds = time.monotonic() - began
    made = (
        f"Made in {seconds:.0f} s on {bench.device}, {torch.get_num_threads()} threads, "
        f"PyTorch {torch.__version__}, commit {current_commit()}."
    )
    write_table(page, name, f"{outcome.to_markdown()}\n\n{made}")
    return outcome


def prepare_page(page: Path) -> None:
    """Make the page where there is none; see that every table has its place before anything is trained."""
    if not page.exists():
        sections = [f"## {name}\n\n{title}.\n\n{block(name, '')}" for name, title in ROWS.items()]
        page.write_text("\n\n".join(["# Reproduced", *sections]) + "\n", encoding="utf-8")
    for name in ROWS:
        read_table(page, name)


def _show(console: Console, title: str, outcome: Outcome) -> None:
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(outcome.columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    for line in outcome.lines:
        table.add_row(*line)
    console.print(table)
