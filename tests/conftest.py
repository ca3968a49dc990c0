"""What every test may ask for: the folder of the two datasets, and programs outside Python."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder in torchvision's layout that holds MNIST and Fashion-MNIST."""
    candidates = [os.environ.get("DIGITSERVE_DATA"), ROOT / "data", ROOT.parent / "shared" / "data"]
    for candidate in candidates:
        if candidate and (Path(candidate) / "MNIST" / "raw").is_dir():
            return Path(candidate)
    pytest.skip("MNIST and Fashion-MNIST are not here: set DIGITSERVE_DATA to their folder")


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], Path]:
    """Finds a program; for want of it the test is skipped, but fails where CI=true promises everything."""

    def require(name: str) -> Path:
        found = shutil.which(name)
        if found is None:
            give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            give_up(f"{name} is not installed, so this rule stays untested")
        return Path(found)

    return require
