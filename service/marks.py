"""What the workers of one server tell each other: marks in the folder that they share.

A mark is an empty file with the number of its process in its name, so that it ends with the process.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def leave(kind: str) -> None:
    """Let the other workers know; without a folder there are none."""
    if (mark := _mark(kind)) is not None:
        mark.touch()


def remove(kind: str) -> None:
    if (mark := _mark(kind)) is not None:
        mark.unlink(missing_ok=True)


def count(kind: str) -> int:
    """How many living workers have left such a mark."""
    folder = _folder()
    found = folder.glob(f"{kind}.*") if folder is not None else ()
    return sum(psutil.pid_exists(int(mark.suffix[1:])) for mark in found)


def _mark(kind: str) -> Path | None:
    folder = _folder()
    return folder / f"{kind}.{os.getpid()}" if folder is not None else None


def _folder() -> Path | None:
    name = os.environ.get("DIGITSERVE_METRICS_DIR")
    return Path(name) if name is not None else None
