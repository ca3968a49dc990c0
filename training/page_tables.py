"""Tables that the program keeps in Markdown pages, between two markers; the rest of a page is people's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.errors import PageIncomplete

if TYPE_CHECKING:
    from pathlib import Path


def read_table(page: Path, name: str) -> str:
    """Return what stands between the markers of this name.

    Raises:
        PageIncomplete: the page lacks a marker, or has one twice or in the wrong place.
    """
    _, table, _ = _split(page, name)
    return table.strip()


def write_table(page: Path, name: str, table: str) -> None:
    """Put `table` between the markers of this name, whole or not at all; raises as `read_table` does."""
    before, _, after = _split(page, name)
    temporary = page.with_suffix(".tmp")
    temporary.write_text(before + block(name, table) + after, encoding="utf-8")
    temporary.replace(page)


def block(name: str, table: str) -> str:
    """Return a table with its markers, for a new page."""
    start, end = _markers(name)
    return f"{start}\n{table}\n{end}"


def _split(page: Path, name: str) -> tuple[str, str, str]:
    """Return what stands before, between and after the two markers."""
    text = page.read_text(encoding="utf-8")
    start, end = _markers(name)
    if text.count(start) != 1 or text.count(end) != 1 or text.index(end) < text.index(start):
        raise PageIncomplete(f"{page.name} needs one line {start} and, below, one line {end}.")
    before, rest = text.split(start)
    table, after = rest.split(end)
    return before, table, after


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}: written by python -m training -->", f"<!-- end of {name} -->"
