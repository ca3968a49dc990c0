"""The folder of one training run: made new, found again to resume, and never shared by two processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from training.errors import RunUnavailable
from training.recipes import Recipe, lost_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
RUNS: Final = ROOT / "runs"
RUN: Final = "run.json"
CHECKPOINT: Final = "checkpoint.pt"
SHIPPED: Final = "shipped.json"
METRICS: Final = "metrics.json"


@contextlib.contextmanager
def new_run(recipe: Recipe, runs: Path = RUNS) -> Iterator[Path]:
    """Make runs/<recipe>/<time> and hold it; two that start in the same second get two folders."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = runs / recipe.name / stamp
    attempt = 1
    while True:
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            attempt += 1
            folder = runs / recipe.name / f"{stamp}-{attempt}"
    write_json(folder / RUN, {"recipe": asdict(recipe), "commit": current_commit()})
    with _held(folder):
        yield folder


@contextlib.contextmanager
def resumed_run(name: str, runs: Path = RUNS) -> Iterator[Path]:
    """Hold the newest run of a recipe that has a checkpoint and has not shipped an artifact.

    Raises:
        RunUnavailable: there is none, or another process holds it.
    """
    candidates = [
        checkpoint.parent
        for checkpoint in sorted((runs / name).glob(f"*/{CHECKPOINT}"))
        if not (checkpoint.parent / SHIPPED).exists()
    ]
    if not candidates:
        raise RunUnavailable(f"{name} has no unfinished run in {runs}: start one without --resume.")
    with _held(candidates[-1]):
        yield candidates[-1]


@contextlib.contextmanager
def shipped_run(name: str, version: str, runs: Path = RUNS) -> Iterator[Path]:
    """Hold the run that shipped this version of a recipe's artifact.

    Raises:
        RunUnavailable: it is not here, has lost its checkpoint, or another process holds it.
    """
    for shipped in (runs / name).glob(f"*/{SHIPPED}"):
        if read_json(shipped)["version"] == version:
            if not (shipped.parent / CHECKPOINT).exists():
                raise RunUnavailable(
                    f"{shipped.parent} shipped {name} {version}, but its {CHECKPOINT} is gone, and with it "
                    "the network."
                )
            with _held(shipped.parent):
                yield shipped.parent
            return
    raise RunUnavailable(f"The run that shipped {name} {version} is not in {runs}.")


def recipe_of(folder: Path) -> Recipe:
    """Return the recipe that a run was started with; a field that came later has its default.

    Raises:
        RunUnavailable: the run made use of a field that recipes no longer have.
    """
    saved: dict[str, Any] = read_json(folder / RUN)["recipe"]
    if lost := lost_fields(saved):
        raise RunUnavailable(f"{folder} made use of {', '.join(lost)}, which recipes no longer have.")
    lists_as_tuples: dict[str, Any] = {  # JSON knows no tuples
        name: tuple(value) if isinstance(value, list) else value
        for name, value in saved.items()
        if name in Recipe.__dataclass_fields__
    }
    return Recipe(**lists_as_tuples)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock the folder for this process; the lock goes with the process, however it ends."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise RunUnavailable(f"Another process is training in {folder}.") from exc
        yield


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process changes what is in `folder`: two that ship at once must not mix theirs."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def current_commit() -> str:
    """Return the commit of the training code, with + where it was changed since, or "unknown"."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", "training")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603  all ours
    return done.stdout.strip()


def write_json(path: Path, content: Any) -> None:
    """Write `content` whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
