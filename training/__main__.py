"""The command line of training: fit, calibrate, evaluate, search, study, reproduce, list, report."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console

from training.errors import Interrupted, TrainingError
from training.options import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED: Final = 130  # what shells expect after Ctrl-C

USAGE: Final = """\
python -m training fit NAME [--resume] [--no-ship] [--device auto|cpu|cuda] [--FIELD VALUE ...]
python -m training calibrate NAME
python -m training evaluate NAME [--predictions FILE]
python -m training search NAME --grid FIELD=v1,v2 ... | --random FIELD=low..high ... [--trials N]
python -m training study NAME | --list
python -m training reproduce [NAME ...]
python -m training list
python -m training report

NAME is a recipe; `list` shows them all. Every field of a recipe is a flag of `fit`: see `fit NAME --help`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    console = Console()
    if not words or words[0] in {"-h", "--help"}:
        console.print(USAGE, highlight=False, markup=False)
        return 0
    try:
        options = parse(words)
        from training.commands import run  # noqa: PLC0415  loads PyTorch: not before the words are right

        run(options, console)
    except (TrainingError, OSError) as exc:  # of the latter: a full disk, a folder that is not there
        Console(stderr=True).print(str(exc), style="red", highlight=False, markup=False, soft_wrap=True)
        return INTERRUPTED if isinstance(exc, Interrupted) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
