"""A short run of the coverage-guided fuzzer; fuzz.py itself runs as long as one likes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from real_server import ROOT

SECONDS = 20


@pytest.mark.reliability
@pytest.mark.parametrize("target", ["pictures", "uploads", "tensors"])
def test_whatever_the_fuzzer_finds_is_a_value_or_an_error_of_ours(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no package for this machine")
    script = ROOT / "tests" / "reliability" / "fuzz.py"
    limits = [
        f"-max_total_time={SECONDS}",
        "-timeout=10",
        "-rss_limit_mb=4096",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(
        [sys.executable, str(script), target, *limits],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
        check=False,
    )
    found = [path.read_bytes()[:200] for path in tmp_path.iterdir()]
    assert done.returncode == 0, f"{found}\n{done.stderr[-3000:]}"
    runs = re.findall(r"Done (\d+) runs", done.stderr)
    print(f"{target}: {runs[0]} runs")
    assert int(runs[0]) > 200
