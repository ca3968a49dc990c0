"""Many pictures in one request: the first are computed while the next are decoded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import numpy as np

from service.batching import Computed, Images
from service.errors import ImageRejected
from service.reading import readable

Submit = Callable[[Images], Coroutine[Any, Any, Computed]]

STEP_IMAGES = 64  # that are decoded before they are computed; fewer would make small batches


async def read_and_compute(
    steps: AsyncIterator[list[Images | ImageRejected]], submit: Submit
) -> tuple[list[Images | ImageRejected], Computed]:
    """What became of uploads that are read step by step, and what `submit` computed for the readable ones.

    The waiting and computing that goes on beside the reading does not count as such.

    Raises:
        DigitServeError: as reading or computing any part does; nothing more is then computed.
    """
    pictures: list[Images | ImageRejected] = []
    submitted: list[asyncio.Task[Computed]] = []
    try:
        async for step in steps:
            pictures += step
            images = [image for image in step if not isinstance(image, ImageRejected)]
            if images:
                submitted.append(asyncio.create_task(submit(np.array(images))))
        readable(pictures)
        read = time.monotonic()
        parts = await asyncio.gather(*submitted)
    except BaseException:
        for task in submitted:
            task.cancel()
        await asyncio.gather(*submitted, return_exceptions=True)
        raise
    return pictures, _joined(parts, time.monotonic() - read)


def _joined(parts: Sequence[Computed], since_read_s: float) -> Computed:
    outputs = tuple(np.concatenate(column) for column in zip(*(part.outputs for part in parts), strict=True))
    computed_s = min(since_read_s, sum(part.computed_s for part in parts))
    batch_images = max(part.batch_images for part in parts)
    return Computed(outputs, batch_images, since_read_s - computed_s, computed_s)
