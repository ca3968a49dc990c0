"""Whether the workers of this server still compute: what `/livez` tells, so that a hung one is replaced.

Nothing can stop a call into ONNX Runtime or a driver that does not return; only the end of the process does.
"""

from __future__ import annotations

import asyncio
import logging

from service import marks
from service.repository import Repository

LOOK_INTERVAL_S = 1.0
STUCK = "stuck"

log = logging.getLogger(__name__)


def is_alive() -> bool:
    """Whether no worker is stuck, whichever is asked: they share one socket, and so their callers."""
    return not marks.count(STUCK)


async def watch(repository: Repository, limit_s: float) -> None:
    """Mark this worker, for ever, as long as a batch has been computed for longer than `limit_s`."""
    is_stuck = False
    while True:
        await asyncio.sleep(LOOK_INTERVAL_S)
        was_stuck, is_stuck = is_stuck, repository.computing_for_s() > limit_s
        if is_stuck and not was_stuck:
            log.error("a batch has been computed for more than %g s: this worker does not live", limit_s)
            marks.leave(STUCK)
        elif was_stuck and not is_stuck:
            log.warning("the batch is computed after all: this worker lives again")
            marks.remove(STUCK)
