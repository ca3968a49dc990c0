"""What tools that look for known weaknesses say of our code."""

from __future__ import annotations

import subprocess
import sys

import pytest
from real_server import ROOT


@pytest.mark.reliability
def test_bandit_finds_nothing_that_is_not_answered() -> None:
    command = [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-r", "service", "training"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
