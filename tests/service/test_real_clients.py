"""Triton's and KServe's own clients, unmodified, on a real server with the shipped models.

The rules themselves are in real_clients/, as tests that run where these clients are installed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from clients_environment import clients_python
from real_server import ROOT, Server, StartServer

RULES = Path(__file__).parent / "real_clients"


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Server:
    return start_server(model_control=True)


@pytest.mark.parametrize("client", ["tritonclient", "kserve"])
def test_every_call_of_a_real_client_is_answered(server: Server, client: str, tmp_path: Path) -> None:
    golden = ROOT / "models" / "mnist-cnn.golden.npz"
    # Not our own configuration: these tests know nothing of it, and their packages warn of each other.
    own = ["-c", os.devnull, "--rootdir", RULES, "--noconftest", "-p", "no:cacheprovider", "--tb=short", "-q"]
    done = subprocess.run(
        [clients_python(), "-m", "pytest", *own, RULES / f"calls_of_{client}.py"],
        cwd=tmp_path,
        env={**os.environ, "DIGITSERVE_TEST_URL": server.url, "DIGITSERVE_TEST_GOLDEN": str(golden)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{server.log.read_text()[-2000:]}"
