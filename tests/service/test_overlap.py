"""Many pictures in one request: decoded and computed side by side, and answered as if they were not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from service.batching import Computed, Images
from service.errors import AllImagesRejected, EmptyUpload, ImageRejected, InferenceFailed
from service.overlap import read_and_compute

Step = list[Images | ImageRejected]


def image(pixel: int) -> Images:
    return np.full((28, 28), pixel, np.uint8)


async def in_steps(steps: Sequence[Step]) -> AsyncIterator[Step]:
    for step in steps:
        await asyncio.sleep(0)
        yield step


async def first_pixels(images: Images) -> Computed:
    first = images[:, 0, 0].astype(np.float32)
    return Computed((first, np.stack([first, first], axis=1)), len(images), 0.25, 0.5)


def test_rows_are_in_the_order_of_the_readable_pictures() -> None:
    rejected = EmptyUpload("The file is empty.")
    steps: list[Step] = [[image(1), rejected, image(2)], [rejected], [image(3)]]
    pictures, computed = asyncio.run(read_and_compute(in_steps(steps), first_pixels))
    assert [p if isinstance(p, ImageRejected) else p[0, 0] for p in pictures] == [1, rejected, 2, rejected, 3]
    first, pairs = computed.outputs
    assert first.tolist() == [1, 2, 3]
    assert pairs.shape == (3, 2)
    assert computed.batch_images == 2


def test_the_first_are_computed_before_the_last_are_read() -> None:
    computing = asyncio.Event()

    async def steps() -> AsyncIterator[Step]:
        yield [image(1)]
        await asyncio.wait_for(computing.wait(), 20)
        yield [image(2)]

    async def submit(images: Images) -> Computed:
        computing.set()
        return await first_pixels(images)

    _, computed = asyncio.run(read_and_compute(steps(), submit))
    assert computed.outputs[0].tolist() == [1, 2]


def test_time_beside_the_reading_is_not_counted_twice() -> None:
    _, computed = asyncio.run(read_and_compute(in_steps([[image(1)], [image(2)]]), first_pixels))
    assert computed.waited_s + computed.computed_s < 0.25
    assert computed.waited_s >= 0


def test_where_nothing_is_readable_nothing_is_computed() -> None:
    async def submit(_: Images) -> Computed:
        raise AssertionError("nothing to compute")

    rejected: list[Step] = [[EmptyUpload("The file is empty.")], [EmptyUpload("The file is empty.")]]
    with pytest.raises(AllImagesRejected):
        asyncio.run(read_and_compute(in_steps(rejected), submit))


def test_when_one_part_fails_the_others_are_not_computed() -> None:
    cancelled = []

    async def submit(images: Images) -> Computed:
        if images[0, 0, 0] == 2:
            raise InferenceFailed("The model failed on this request.")
        try:
            return await asyncio.Future()
        except asyncio.CancelledError:
            cancelled.append(int(images[0, 0, 0]))
            raise

    with pytest.raises(InferenceFailed):
        asyncio.run(read_and_compute(in_steps([[image(1)], [image(2)], [image(3)]]), submit))
    assert cancelled == [1, 3]
