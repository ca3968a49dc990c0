"""The environment of the protocol's real clients, whose pins conflict with ours; made once and then kept."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).parent / "service" / "real_clients" / "requirements.txt"
FOLDER = ROOT / ".venv-clients"


@functools.cache
def clients_python() -> Path:
    """The environment's Python.

    Where it cannot be made, for want of an index, the test that asks is skipped; with CI=true it fails.
    """
    python, made_from = FOLDER / "bin" / "python", FOLDER / "made-from.txt"
    wanted = REQUIREMENTS.read_text(encoding="ascii")
    if not made_from.exists() or made_from.read_text(encoding="ascii") != wanted:
        shutil.rmtree(FOLDER, ignore_errors=True)
        venv.create(FOLDER, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--retries", "2", "--requirement", REQUIREMENTS]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            give_up(
                f"the real clients cannot be installed, so this rule stays untested: {done.stderr[-500:]}"
            )
        made_from.write_text(wanted, encoding="ascii")
    return python
