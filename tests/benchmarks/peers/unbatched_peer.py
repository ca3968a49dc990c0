"""Our service without its batcher: each request is computed by itself, on the event loop, at once."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from service import batching
from service.batching import Batcher, Computed, Images


async def compute_at_once(self: Batcher, images: Images, **_: Any) -> Computed:
    started = time.monotonic()
    outputs = self._compute(images)
    return Computed(outputs, len(images), 0.0, time.monotonic() - started)


if __name__ == "__main__":
    # Becomes BentoML's server, as `python -m service serve` does, of what stands below.
    arguments = ["serve", "tests.benchmarks.peers.unbatched_peer:DigitServe", "--host", "127.0.0.1"]
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**24)}
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", *arguments, "--port", sys.argv[1]])

batching.Batcher.submit = compute_at_once  # type: ignore[method-assign]

from service.app import DigitServe  # noqa: E402, F401 - with the batcher replaced
