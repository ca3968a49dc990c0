"""What a row gets to work with, and the table that it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from training.series import Series

AGREES: Final = "agrees"
DIFFERS: Final = "differs"


@dataclass(frozen=True)
class Bench:
    """Where the images are, what computes, and who watches."""

    data: Path | None
    device: torch.device
    series: Series


@dataclass(frozen=True)
class Outcome:
    """The table of one row; the last cell of each line says whether it agrees with the material."""

    columns: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]

    @property
    def agrees(self) -> bool:
        return all(line[-1] == AGREES for line in self.lines)

    def to_markdown(self) -> str:
        rows = (self.columns, ("---",) * len(self.columns), *self.lines)
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def verdict(*, agrees: bool) -> str:
    return AGREES if agrees else DIFFERS
