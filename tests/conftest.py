"""What every test may ask for: the folder of the two datasets."""

from __future__ import annotations

import os
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
