"""The tables of models/README.md that the program keeps: shipped artifacts, and the ledger of test reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from training.artifacts import list_artifacts, read_artifact
from training.evaluation import DOUBT_HEAD
from training.measure import Accuracy
from training.page_tables import block, read_table, write_table
from training.runs import alone_in

if TYPE_CHECKING:
    from pathlib import Path

    from training.export import Shipped

PAGE: Final = "README.md"
TEST_IMAGES: Final = 10_000
ARTIFACTS_HEAD: Final = (
    "| artifact | version | test accuracy (95 % interval) | calibration error | weights | multiply-adds "
    "| file |\n"
    "|---|---|---|---|---|---|---|"
)
LEDGER_HEAD: Final = (
    "| recipe | version | read on | right | test accuracy | 95 % interval |\n|---|---|---|---|---|---|"
)


def require_tables(folder: Path) -> None:
    """Make sure that a reading of the test set can be written down, before there is one.

    Raises:
        PageIncomplete: the page is there without the markers of its tables.
    """
    page = folder / PAGE
    if page.exists():
        for name in ("artifacts", "doubt", "ledger"):
            read_table(page, name)


def record_test_read(recipe: str, shipped: Shipped, folder: Path, same_as: str | None = None) -> None:
    """Append one reading of the test set to the ledger, and bring the table of artifacts up to date.

    `same_as` is the version that has the same weights and was read before: then nothing was read now.
    """
    accuracy = shipped.test_accuracy
    low, high = accuracy.interval
    read_on = f"not again: the weights of `{same_as}`" if same_as else f"{shipped.created:%Y-%m-%d}"
    row = (
        f"| `{recipe}` | `{shipped.version}` | {read_on} "
        f"| {accuracy.correct:,} of {accuracy.images:,} | {accuracy.share:.2%} | {low:.2%} to {high:.2%} |"
    )
    page = folder / PAGE
    with alone_in(folder):
        if not page.exists():
            tables = (block("artifacts", ""), block("doubt", DOUBT_HEAD), block("ledger", LEDGER_HEAD))
            page.write_text("\n\n".join(("# Artifacts", *tables)) + "\n")
        write_table(page, "ledger", f"{read_table(page, 'ledger')}\n{row}")
        write_table(page, "artifacts", artifacts_table(folder))


def update_artifacts_table(folder: Path) -> Path:
    """Write the table of shipped artifacts from their own metadata; return the page."""
    page = folder / PAGE
    with alone_in(folder):
        write_table(page, "artifacts", artifacts_table(folder))
    return page


def artifacts_table(folder: Path) -> str:
    """Return a row for every artifact in `folder`, from its metadata alone."""
    rows = [ARTIFACTS_HEAD]
    for name in list_artifacts(folder):
        artifact = read_artifact(name, folder)
        accuracy = Accuracy(round(artifact.number("test_accuracy") * TEST_IMAGES), TEST_IMAGES)
        error = (
            f"{artifact.number('expected_calibration_error'):.2%}"
            if artifact.calibrated
            else "not calibrated"
        )
        kilobytes = (folder / f"{name}.onnx").stat().st_size / 1e3
        rows.append(
            f"| `{name}` | `{artifact.version}` | {accuracy} | {error} "
            f"| {int(artifact.metadata['parameters']):,} | {int(artifact.metadata['macs_per_image']):,} "
            f"| {kilobytes:,.0f} kB |"
        )
    return "\n".join(rows)
