"""One artifact on the test images of its dataset, and on pictures that are none of its classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from training.artifacts import read_artifact
from training.data import load_test
from training.families import draw_families
from training.measure import measure, measure_family
from training.page_tables import read_table, write_table
from training.runs import alone_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from training.artifacts import Answers, Artifact
    from training.measure import FamilyFigures, Measurement

DOUBT_HEAD: Final = (
    "| artifact | version | calibration error | sets hold the label | labels in a set | test images flagged "
    "| other dataset flagged (AUROC) | uniform noise | checkerboards | letters |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Evaluation:
    """What an artifact answers, and what that is worth."""

    name: str
    artifact: Artifact
    images: NDArray[np.uint8]  # [n, 28, 28], the test images
    labels: NDArray[np.int64]  # [n]
    answers: Answers
    measured: Measurement
    strange: dict[str, Answers]  # by family
    families: dict[str, FamilyFigures]  # empty where the artifact has no threshold


def evaluate_artifact(name: str, models: Path, data: Path | None) -> Evaluation:
    """Ask models/<name>.onnx about everything there is to ask about."""
    artifact = read_artifact(name, models)
    dataset = artifact.metadata["dataset"]
    test = load_test(dataset, data)
    images, labels = test.images.numpy(), test.labels.numpy()
    answers = artifact.answer(images)
    drawn = draw_families(dataset, data) if artifact.calibrated else {}
    strange = {family: artifact.answer(pictures) for family, pictures in drawn.items()}
    families = {family: measure_family(artifact, answers, outside) for family, outside in strange.items()}
    measured = measure(artifact, answers, labels)
    return Evaluation(name, artifact, images, labels, answers, measured, strange, families)


def doubt_row(evaluation: Evaluation) -> str:
    """Return the artifact's row of the table under DOUBT_HEAD."""
    measured, doubt = evaluation.measured, evaluation.measured.doubt
    figures = [f"{measured.expected_calibration_error:.2%}"]
    if doubt is None:
        figures += ["not calibrated"] + ["-"] * 6
    else:
        figures += [f"{doubt.coverage:.2%} for {doubt.level:.0%}", f"{doubt.mean_set_size:.3f}"]
        figures += [f"{doubt.flagged:.2%}"]
        figures += [f"{family.flagged:.1%} ({family.auroc:.3f})" for family in evaluation.families.values()]
    return " | ".join((f"| `{evaluation.name}`", f"`{evaluation.artifact.version}`", *figures)) + " |"


def keep_doubt(names: Sequence[str], page: Path) -> None:
    """Take the rows of all other artifacts from the table `doubt` of the page."""
    with alone_in(page.parent):
        head, rule, *rows = read_table(page, "doubt").splitlines()
        kept = [row for row in rows if row.startswith(tuple(f"| `{name}` |" for name in names))]
        write_table(page, "doubt", "\n".join((head, rule, *kept)))


def record_doubt(evaluation: Evaluation, page: Path) -> None:
    """Put the artifact's row into the table `doubt` of the page, in place of its earlier one."""
    with alone_in(page.parent):
        head, rule, *rows = read_table(page, "doubt").splitlines()
        kept = [row for row in rows if not row.startswith(f"| `{evaluation.name}` |")]
        write_table(page, "doubt", "\n".join((head, rule, *sorted([*kept, doubt_row(evaluation)]))))
