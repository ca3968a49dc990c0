"""Every benchmark in turn, at its default size; `python -m tests.benchmarks.NAME` runs one."""

from __future__ import annotations

import runpy
import sys

for name in ("inference", "canonical", "training", "serving"):
    print(f"\n== {name}\n", flush=True)
    sys.argv = [f"tests.benchmarks.{name}"]
    runpy.run_module(f"tests.benchmarks.{name}", run_name="__main__")
