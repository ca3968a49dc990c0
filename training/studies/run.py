"""The study command: one study into a folder of its own, with its table as Markdown and CSV."""

from __future__ import annotations

import csv
import time
from typing import TYPE_CHECKING, Final, Protocol

import torch
from rich.table import Table

from training.devices import choose_device
from training.errors import UsageError
from training.runs import current_commit
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
)
from training.studies.catalogue import STUDIES, Size
from training.studies.lab import Findings, Lab

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from training.options import StudyOptions
    from training.studies.catalogue import Study


class Drawing(Protocol):
    """A study: trains what it needs, draws `path`, returns its table."""

    def __call__(self, lab: Lab, path: Path, /) -> Findings: ...


DRAWINGS: Final[dict[str, Drawing]] = {
    "neuron": neuron.draw,
    "learning-rates": learning_rates.draw,
    "batch-sizes": batch_sizes.draw,
    "overfitting": overfitting.draw,
    "permuted-pixels": permuted_pixels.draw,
    "regularisers": regularisers.draw,
    "activations": activations.draw,
    "initialisations": initialisations.draw,
    "dropout-doubt": dropout_doubt.draw,
}


def list_studies(console: Console) -> None:
    """Print every study with its question and default size."""
    table = Table("study", "question", "default size")
    for study in STUDIES.values():
        table.add_row(study.name, study.question, str(study.size))
    console.print(table)


def run_study(options: StudyOptions, console: Console) -> None:
    """Do one study; leave NAME.png, table.md and table.csv in runs/studies/NAME."""
    if options.threads:
        torch.set_num_threads(options.threads)
    study = STUDIES[options.name]
    if options.seeds and study.size.seeds == 1:
        raise UsageError(f"{study.name} trains each network once, with one seed: --seeds does nothing here.")
    if study.size.images == 0 and (options.images or options.epochs or options.seeds):
        raise UsageError(f"{study.name} trains on no images: it has no size to change.")
    size = Size(
        options.images or study.size.images,
        options.epochs or study.size.epochs,
        options.seeds or study.size.seeds,
    )
    folder = options.runs / "studies" / study.name
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"{study.name}.png"
    began = time.monotonic()
    with Series(console, study.name) as series:
        series.say(study.question)
        series.say(f"{size}; judged on validation images")
        lab = Lab(size, options.data, choose_device(options.device), series)
        findings = DRAWINGS[study.name](lab, picture)
    seconds = time.monotonic() - began
    where = f"{lab.device}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
    made = f"{size}; {seconds:.0f} s on {where}, commit {current_commit()}"
    (folder / "table.md").write_text(to_markdown(study, findings, made), encoding="utf-8")
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([findings.columns, *findings.rows])
    _show(console, study, findings)
    for line in (*findings.sentences, f"{picture}, {seconds:.0f} s"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def to_markdown(study: Study, findings: Findings, made: str) -> str:
    """Return a page with the question, the plot, the table and what it says."""
    lines = [f"# {study.name}", "", study.question, "", f"![{study.name}]({study.name}.png)", ""]
    lines += ["| " + " | ".join(findings.columns) + " |", "|---" * len(findings.columns) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in findings.rows]
    for sentence in findings.sentences:
        lines += ["", sentence]
    return "\n".join([*lines, "", f"Made with {made}.", ""])


def _show(console: Console, study: Study, findings: Findings) -> None:
    table = Table(title=study.question, title_justify="left")
    for place, column in enumerate(findings.columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    for row in findings.rows:
        table.add_row(*row)
    console.print(table)
