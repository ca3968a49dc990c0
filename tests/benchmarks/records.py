"""What a benchmark found: a table for people, and JSON under runs/bench with every sample behind it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table as Shown

from .load import Rounds, require_wrk
from .servers import ROOT

FOLDER = ROOT / "runs" / "bench"
PACKAGES = ("bentoml", "onnxruntime-gpu", "uvloop", "fastapi", "litserve")
CONSOLE = Console(width=150)


@dataclass(frozen=True)
class Table:
    """Figures as people read them; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def print(self) -> None:
        shown = Shown(title=self.title, title_justify="left", box=None)
        for place, column in enumerate(self.columns):
            shown.add_column(column, justify="right" if place else "left")
        for row in self.rows:
            shown.add_row(*row)
        CONSOLE.print(shown)
        CONSOLE.print()


def record(benchmark: str, key: str, table: Table, samples: Any) -> None:
    """Print a table, and keep it with its samples in the benchmark's file, in the place of an older one."""
    table.print()
    path = FOLDER / f"{benchmark}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    document.setdefault("measured", {})[key] = {
        "machine": machine(),
        "table": asdict(table),
        "samples": samples,
    }
    path.write_text(json.dumps({"measured": document["measured"]}, indent=1, default=vars), encoding="utf-8")


def machine() -> str:
    """Processor, cores, memory and versions, in one line."""
    cores = len(os.sched_getaffinity(0))
    memory_gib = psutil.virtual_memory().total / 2**30
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        f"{cpu_name()}, {cores} cores, {memory_gib:.0f} GiB; Python {platform.python_version()}, {packages}"
    )


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def parser(about: str | None, *, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """The options that every benchmark has, with its own defaults."""
    made = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    made.add_argument("--rounds", type=int, default=rounds, help=f"how often (default {rounds})")
    made.add_argument("--seconds", type=float, default=seconds, help=f"for how long (default {seconds:g})")
    require_wrk()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and the servers with it
    return made


def rounds_of(options: argparse.Namespace) -> Rounds:
    return Rounds(options.rounds, options.seconds)
