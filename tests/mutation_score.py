"""What `make mutate` found: the share of mutants killed by module, and survivors without an explanation.

A survivor is explained where the line that it changed stands in mutants.md as the mutant has it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

LEAST_KILLED = 0.85
EXPLAINED = Path(__file__).with_name("mutants.md")
MUTMUT = Path(sys.executable).with_name("mutmut")
KILLED = {
    "killed",
    "timeout",
    "suspicious",
    "segfault",
}  # a test fails, never ends, or brings the process down


def mutmut(*arguments: str) -> str:
    return subprocess.run([MUTMUT, *arguments], capture_output=True, text=True, check=True).stdout


def verdicts() -> dict[str, str]:
    """What became of each mutant, by its name."""
    found = re.findall(r"^ +(\S+): (.+)$", mutmut("results", "--all=true"), re.MULTILINE)
    if not found:
        raise SystemExit("There are no mutants: `make mutate` makes them.")
    return dict(found)


def changed_line(mutant: str) -> str:
    """The line that the mutant has otherwise."""
    return " ".join(
        line.strip() for line in re.findall(r"^\+(?!\+\+)(.*)$", mutmut("show", mutant), re.MULTILINE)
    )


def main() -> None:
    became = verdicts()
    by_module: dict[str, Counter[bool]] = defaultdict(Counter)
    for mutant, verdict in became.items():
        by_module[mutant.rpartition(".")[0]][verdict in KILLED] += 1
    explained = EXPLAINED.read_text(encoding="utf-8")
    survivors = {mutant: changed_line(mutant) for mutant, verdict in became.items() if verdict not in KILLED}
    unexplained = [mutant for mutant, line in survivors.items() if f"`{line}`" not in explained]

    for module, counts in by_module.items():
        share = counts[True] / counts.total()
        print(f"{module:<20} {counts[True]:4} of {counts.total():4} mutants killed, {share:.1%}")
    for mutant in unexplained:
        print(f"{mutant}: {became[mutant]}, not explained in {EXPLAINED.name}: {survivors[mutant]}")
    too_few = any(counts[True] < LEAST_KILLED * counts.total() for counts in by_module.values())
    if too_few or unexplained:
        raise SystemExit(f"Each module needs {LEAST_KILLED:.0%}, each survivor a reason in {EXPLAINED.name}.")


if __name__ == "__main__":
    main()
