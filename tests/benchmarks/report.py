"""Write what the benchmarks found into the pages that show it.

    python -m tests.benchmarks.report

fills every block `<!-- bench: NAME, KEY -->` … `<!-- /bench -->` of README.md and service/PERFORMANCE.md with
the table that `python -m tests.benchmarks.NAME` recorded under KEY in runs/bench; without a key, with all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .plots import measured
from .servers import ROOT

PAGES = (ROOT / "README.md", ROOT / "service" / "PERFORMANCE.md")
BLOCK = re.compile(r"(<!-- bench: (\w+)(?:, ([^>]*?))? -->\n).*?(<!-- /bench -->)", re.DOTALL)


def markdown(table: Mapping[str, Any]) -> str:
    columns: Sequence[str] = table["columns"]
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *table["rows"]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(block: re.Match[str]) -> str:
    """A block with its tables; as it was, where nothing has been measured."""
    begin, benchmark, key, end = block.groups()
    found = {name: entry for name, entry in measured(benchmark).items() if key in (None, name)}
    if not found:
        return block[0]
    tables = [
        markdown(entry["table"]) if key else f"\n**{name}**\n\n{markdown(entry['table'])}"
        for name, entry in found.items()
    ]
    machines = dict.fromkeys(entry["machine"] for entry in found.values())
    return begin + "\n".join([*tables, "", *(f"On {machine}." for machine in machines), end])


def main() -> None:
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = BLOCK.sub(shown, before)
        page.write_text(after, encoding="utf-8")
        print(f"{page.relative_to(ROOT)}: {'written' if after != before else 'as it was'}")


if __name__ == "__main__":
    main()
