"""What every test may ask for, the datasets and programs outside Python; and that none leaves a process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

# The same examples each time and no clock: a verdict must depend on neither luck nor a busy machine.
settings.load_profile("ci")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left_behind() -> Iterator[None]:
    """Whatever tests start has ended when they have: it would keep a port and memory from the next run."""
    mark = f"STARTED_BY_THE_TESTS_OF_{os.getpid()}"
    os.environ[mark] = "1"  # every process that comes of this one, however late, has it
    yield
    started = [process for process in psutil.process_iter() if has(process, mark)]
    _, left = psutil.wait_procs(started, timeout=10)
    commands = [" ".join(process.cmdline()) for process in left]
    for process in left:
        process.kill()
    assert commands == []


def has(process: psutil.Process, mark: str) -> bool:
    try:
        # Python's own tracker of shared memory lives as long as the tests do.
        return mark in process.environ() and "multiprocessing.resource_tracker" not in str(process.cmdline())
    except psutil.Error:
        return False


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
