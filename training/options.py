"""From the words of the command line to the options of one command."""

from __future__ import annotations

import difflib
import itertools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias, TypeVar

import tyro

from training.errors import UsageError
from training.recipes import RECIPES, Recipe
from training.reproduce.material import ROWS
from training.studies.catalogue import STUDIES

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = Path(__file__).resolve().parent.parent
LEAST: Final = {"trials": 1, "images": 0, "epochs": 0, "seeds": 0, "seed": 0, "threads": 0}
COMMANDS: Final = ("fit", "calibrate", "evaluate", "search", "study", "reproduce", "list", "report")


@dataclass(frozen=True)
class FitOptions:
    """Train a recipe, calibrate it, export it, and read the test set once."""

    recipe: Annotated[Recipe, tyro.conf.OmitArgPrefixes]
    resume: bool = False
    """Go on with the newest run of this recipe that has not shipped."""
    ship: bool = True
    """Export at the end; --no-ship leaves models/ and the test set alone, and --resume can ship later."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is one."""
    threads: int = 0
    """Of PyTorch on the CPU; 0 leaves it the choice. Beside other work 1 is the fastest."""
    data: Path | None = None
    """Folder that holds MNIST/raw and FashionMNIST/raw; else DIGITSERVE_DATA, else ./data."""
    models: Path = ROOT / "models"
    """Folder for the artifact, and of those that teach."""
    runs: Path = ROOT / "runs"
    """Folder for checkpoints, figures and plots."""


@dataclass(frozen=True)
class CalibrateOptions:
    """Fit temperature, prediction sets and typicality anew for a shipped network, and export it again.

    Needs the run that shipped it. The weights stay, and so the test set is not read again.
    """

    recipe: tyro.conf.Suppress[Recipe]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is one."""
    threads: int = 0
    """Of PyTorch on the CPU; 0 leaves it the choice."""
    data: Path | None = None
    """Folder that holds MNIST/raw and FashionMNIST/raw; else DIGITSERVE_DATA, else ./data."""
    models: Path = ROOT / "models"
    """Folder of the artifact."""
    runs: Path = ROOT / "runs"
    """Folder of the runs."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Ask an artifact about the 10,000 test images, and about pictures of something else."""

    name: Annotated[str, tyro.conf.Suppress]
    predictions: Path | None = None
    """Write the index of each image's likeliest label here, one a line."""
    plots: Path | None = None
    """Folder for the pictures; else runs/evaluations/NAME-VERSION."""
    data: Path | None = None
    """Folder that holds MNIST/raw and FashionMNIST/raw; else DIGITSERVE_DATA, else ./data."""
    models: Path = ROOT / "models"
    """Folder of the artifact."""


@dataclass(frozen=True)
class SearchOptions:
    """Try many values of a recipe's fields, and choose by validation accuracy.

    Started again, a search goes on where it stopped; started more than once, the processes share its trials.
    """

    name: Annotated[str, tyro.conf.Suppress]
    grid: tuple[str, ...] = ()
    """FIELD=v1,v2 ...: every combination. A single value fixes a field."""
    random: tuple[str, ...] = ()
    """FIELD=low..high or FIELD=v1,v2 ...: independent draws, on a logarithmic scale from bounds a factor of
    ten or more apart."""
    trials: int = 20
    """How many draws --random makes; a larger number continues the same search."""
    seed: int = 1
    """Of those draws; the recipe has its own."""
    epochs: int = 0
    """Of each trial; 0 for the recipe's own."""
    images: int = 0
    """To train each trial on, for a quick search; 0 for all but the validation images."""
    prune: bool = False
    """Stop a trial that does worse than the median of the earlier ones at the same epoch."""
    study: str = ""
    """Name of the search and its folder; the recipe's where there is none."""
    storage: str | None = None
    """Optuna storage that machines share, such as postgresql://...; else an SQLite file in the folder."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is one."""
    threads: int = 0
    """Of PyTorch on the CPU; 0 leaves it the choice. With a process for each core 1 is the fastest."""
    data: Path | None = None
    """Folder that holds MNIST/raw and FashionMNIST/raw; else DIGITSERVE_DATA, else ./data."""
    models: Path = ROOT / "models"
    """Folder of the artifacts that teach."""
    runs: Path = ROOT / "runs"
    """The search is kept in its folder search/."""


@dataclass(frozen=True)
class StudyOptions:
    """Answer one question by experiment: a plot and a table in runs/studies/NAME."""

    name: Annotated[str, tyro.conf.Suppress]
    images: int = 0
    """To train on; 0 for the study's default."""
    epochs: int = 0
    """0 for the study's default."""
    seeds: int = 0
    """How often each training is repeated; 0 for the study's default."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is one."""
    threads: int = 0
    """Of PyTorch on the CPU; 0 leaves it the choice."""
    data: Path | None = None
    """Folder that holds MNIST/raw and FashionMNIST/raw; else DIGITSERVE_DATA, else ./data."""
    runs: Path = ROOT / "runs"
    """The study is kept in its folder studies/."""


@dataclass(frozen=True)
class ReproduceOptions:
    """Put our figures beside those that the course material prints; trains for minutes."""

    names: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """Of the rows; none for all."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is one."""
    threads: int = 0
    """Of PyTorch on the CPU; 0 leaves it the choice."""
    data: Path | None = None
    """Folder that holds MNIST/raw and FashionMNIST/raw; else DIGITSERVE_DATA, else ./data."""
    page: Path = ROOT / "training" / "reproduced.md"
    """The tables go in here, between their markers."""


@dataclass(frozen=True)
class StudyListOptions:
    """Show every study with its question and default size."""


@dataclass(frozen=True)
class ListOptions:
    """Show every recipe, with the accuracy of its artifact or newest run where there is one."""

    models: Path = ROOT / "models"
    """Folder of the artifacts."""
    runs: Path = ROOT / "runs"
    """Folder of the runs, which speak for recipes without an artifact."""


@dataclass(frozen=True)
class ReportOptions:
    """Write the tables of shipped artifacts into models/README.md."""

    data: Path | None = None
    """Folder that holds MNIST/raw and FashionMNIST/raw; else DIGITSERVE_DATA, else ./data."""
    models: Path = ROOT / "models"
    """Folder of the artifacts and their page."""


Options: TypeAlias = (
    FitOptions
    | CalibrateOptions
    | EvaluateOptions
    | SearchOptions
    | StudyOptions
    | StudyListOptions
    | ReproduceOptions
    | ListOptions
    | ReportOptions
)
Kind = TypeVar("Kind", bound=Options)


def parse(words: list[str]) -> Options:
    """Turn the words of the command line into the options of one command.

    Raises:
        UsageError: an unknown command, recipe or flag, with the nearest ones that exist.
    """
    command, *rest = words
    require_known("command", command, COMMANDS)
    if command in {"list", "report"}:
        return _flags(command, ListOptions() if command == "list" else ReportOptions(), rest)
    if command == "study":
        return _parse_study(rest)
    if command == "reproduce":
        return _parse_reproduce(rest)
    if not rest or rest[0].startswith("-"):
        raise UsageError(f"Say which: python -m training {command} NAME; the recipes: {', '.join(RECIPES)}.")
    name, *rest = rest
    if command == "evaluate":
        return _flags(f"evaluate {name}", EvaluateOptions(name), rest)
    require_known("recipe", name, RECIPES)
    if command == "search":
        return _flags(f"search {name}", SearchOptions(name), rest)
    kind = FitOptions if command == "fit" else CalibrateOptions
    return _flags(f"{command} {name}", kind(RECIPES[name]), rest)


def _parse_study(words: list[str]) -> StudyOptions | StudyListOptions:
    if words == ["--list"]:
        return StudyListOptions()
    if not words or words[0].startswith("-"):
        raise UsageError(f"Say which: python -m training study NAME; the studies: {', '.join(STUDIES)}.")
    name, *rest = words
    require_known("study", name, STUDIES)
    return _flags(f"study {name}", StudyOptions(name), rest)


def _parse_reproduce(words: list[str]) -> ReproduceOptions:
    names = tuple(itertools.takewhile(lambda word: not word.startswith("-"), words))
    for name in names:
        require_known("row", name, ROWS)
    return _flags("reproduce [NAME ...]", ReproduceOptions(names), words[len(names) :])


def require_known(kind: str, word: str, known: Iterable[str]) -> None:
    """Raise UsageError, with the nearest names, unless `word` is one of `known`."""
    known = list(known)
    if word not in known:
        nearest = difflib.get_close_matches(word, known, n=3, cutoff=0.0)
        raise UsageError(f"There is no {kind} {word}. The nearest: {', '.join(nearest)}.")


def _flags(program: str, default: Kind, words: list[str]) -> Kind:
    """Return `default` with the flags' values in place of its own."""
    options, unknown = tyro.cli(
        type(default),
        args=words,
        default=default,
        prog=f"python -m training {program}",
        return_unknown_args=True,
    )
    if unknown:
        names = [field.name for field in fields(options) if field.name not in {"recipe", "name", "names"}]
        if isinstance(options, FitOptions):
            names += [field.name for field in fields(Recipe)]
        wrong = next((word for word in unknown if word.startswith("-")), unknown[0])
        require_known("option", wrong.partition("=")[0], [f"--{name.replace('_', '-')}" for name in names])
    for name, least in LEAST.items():
        if getattr(options, name, least) < least:
            raise UsageError(f"--{name} is {getattr(options, name)}, and must be at least {least}.")
    return options
