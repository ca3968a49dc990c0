"""Every benchmark in turn, at its default size; `python -m tests.benchmarks.NAME` runs one."""

from __future__ import annotations

import runpy
import sys

RUNS = (
    "inference",
    "canonical",
    "training",
    "serving",
    "serving --workers 2 --models mnist-mlp --connections 32",
    "large_requests",
    "batching",
    "overload",
    "growth",
    "memory",
    "start",
    "shares",
    "alternatives",
    "runtime_options",
    "plots",
)

for run in RUNS:
    print(f"\n== {run}\n", flush=True)
    name, *arguments = run.split()
    sys.argv = [f"tests.benchmarks.{name}", *arguments]
    runpy.run_module(f"tests.benchmarks.{name}", run_name="__main__")
