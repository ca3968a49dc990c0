"""The micro-batcher: greedy, bounded, fair to every caller, and nothing is computed for nobody."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import INLINE_S, Batcher, Computed, Images, Outputs
from service.errors import CallerGone, DeadlineExceeded, InferenceFailed, NotReady, Overloaded


class Recorder:
    """Hears what the batcher reports."""

    def __init__(self) -> None:
        self.waiting = 0
        self.batches: list[int] = []
        self.answers: list[int] = []
        self.drops: list[tuple[str, int]] = []

    def queued(self, images: int) -> None:
        self.waiting += images
        assert self.waiting >= 0

    def batch_computed(self, images: int, answers: Outputs, waited_s: float, computed_s: float) -> None:
        assert waited_s >= 0
        assert computed_s >= 0
        self.batches.append(images)
        self.answers += answers[0].tolist()

    def dropped(self, reason: str, images: int) -> None:
        self.drops.append((reason, images))


class Network:
    """Answers the first pixel of each image; holds its first batch until it is released."""

    def __init__(self, *, held: bool = False, poison: int | None = None) -> None:
        self.released = threading.Event()
        self.started = threading.Event()
        self.batches: list[list[int]] = []
        self._poison = poison
        if not held:
            self.released.set()

    def __call__(self, images: Images) -> Outputs:
        first = images[:, 0, 0]
        self.batches.append(first.tolist())
        self.started.set()
        assert self.released.wait(timeout=30)
        if self._poison is not None and self._poison in first:
            raise RuntimeError("poison")
        return first.astype(np.float32), np.stack([first, first], axis=1).astype(np.float32)

    async def until_started(self) -> None:
        await asyncio.to_thread(self.started.wait, 30)


def images(*pixels: int) -> Images:
    stack = np.zeros((len(pixels), 28, 28), np.uint8)
    stack[:, 0, 0] = pixels
    return stack


def batcher(network: Callable[[Images], Outputs], recorder: Recorder | None = None, **limits: int) -> Batcher:
    sizes = {"max_batch": 8, "max_queue": 64, **limits}
    return Batcher(network, observer=recorder or Recorder(), **sizes)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


async def turns(count: int = 5) -> None:
    """Let every task that can run do so."""
    for _ in range(count):
        await asyncio.sleep(0)


def answered(computed: Computed) -> list[int]:
    first, pairs = computed.outputs
    assert pairs.shape == (len(first), 2)
    assert computed.waited_s >= 0
    return [int(value) for value in first]


def test_what_arrives_while_a_batch_is_computed_forms_the_next_one() -> None:
    async def scenario() -> None:
        network, recorder = Network(held=True), Recorder()
        queue = batcher(network, recorder)
        first = asyncio.create_task(queue.submit(images(1), timeout_s=30))
        await network.until_started()
        rest = [asyncio.create_task(queue.submit(images(pixel), timeout_s=30)) for pixel in range(2, 8)]
        await turns()
        assert queue.queued_images == 6
        network.released.set()
        assert [answered(outputs) for outputs in await asyncio.gather(first, *rest)] == [
            [p] for p in range(1, 8)
        ]
        assert network.batches == [[1], [2, 3, 4, 5, 6, 7]]
        assert recorder.batches == [1, 6]
        assert queue.queued_images == 0
        await queue.close()

    run(scenario)


def test_images_that_no_caller_sent_are_computed_but_are_no_answers() -> None:
    async def scenario() -> None:
        network, recorder = Network(held=True), Recorder()
        queue = batcher(network, recorder)
        first = asyncio.create_task(queue.submit(images(1), timeout_s=30))
        await network.until_started()
        probes = asyncio.create_task(queue.submit(images(2, 3), timeout_s=30, probing=True))
        last = asyncio.create_task(queue.submit(images(4), timeout_s=30))
        await turns()
        assert queue.queued_images == 3
        network.released.set()
        assert [answered(outputs) for outputs in await asyncio.gather(first, probes, last)] == [
            [1],
            [2, 3],
            [4],
        ]
        assert recorder.batches == [1, 3]
        assert recorder.answers == [1, 4]
        await queue.close()

    run(scenario)


def test_a_batch_never_exceeds_the_largest_and_a_large_submission_spans_several() -> None:
    async def scenario() -> None:
        network = Network()
        queue = batcher(network, max_batch=8)
        computed = await queue.submit(images(*range(20)), timeout_s=30)
        assert answered(computed) == list(range(20))
        assert computed.batch_images == 8
        assert [len(batch) for batch in network.batches] == [8, 8, 4]
        await queue.close()

    run(scenario)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(1, 9))
def test_every_caller_gets_its_own_rows_whatever_the_sizes(sizes: list[int], max_batch: int) -> None:
    async def scenario() -> None:
        network = Network()
        queue = batcher(network, max_batch=max_batch, max_queue=sum(sizes))
        pixels = iter(range(sum(sizes)))
        wanted = [[next(pixels) for _ in range(size)] for size in sizes]
        submissions = [queue.submit(images(*own), timeout_s=30) for own in wanted]
        assert [answered(outputs) for outputs in await asyncio.gather(*submissions)] == wanted
        assert all(len(batch) <= max_batch for batch in network.batches)
        assert sum(len(batch) for batch in network.batches) == sum(sizes)
        await queue.close()

    run(scenario)


def test_a_full_queue_refuses_at_once_and_takes_again_when_it_has_room() -> None:
    async def scenario() -> None:
        network = Network(held=True)
        queue = batcher(network, max_queue=4)
        computing = asyncio.create_task(queue.submit(images(0), timeout_s=30))
        await network.until_started()
        waiting = asyncio.create_task(queue.submit(images(1, 2, 3), timeout_s=30))
        await turns()
        with pytest.raises(Overloaded):
            await queue.submit(images(4, 5), timeout_s=30)
        last = asyncio.create_task(queue.submit(images(6), timeout_s=30))
        await turns()
        network.released.set()
        assert answered(await last) == [6]
        await asyncio.gather(computing, waiting)
        assert answered(await queue.submit(images(7, 8), timeout_s=30)) == [7, 8]
        await queue.close()

    run(scenario)


def test_an_expired_submission_is_not_computed() -> None:
    async def scenario() -> None:
        network, recorder = Network(held=True), Recorder()
        queue = batcher(network, recorder)
        first = asyncio.create_task(queue.submit(images(1), timeout_s=30))
        await network.until_started()
        with pytest.raises(DeadlineExceeded):
            await queue.submit(images(2, 3), timeout_s=0.01)
        network.released.set()
        assert answered(await first) == [1]
        assert answered(await queue.submit(images(4), timeout_s=30)) == [4]
        assert network.batches == [[1], [4]]
        assert recorder.drops == [("expired", 2)]
        await queue.close()

    run(scenario)


def test_a_submission_whose_deadline_passes_while_it_is_computed_is_answered_with_the_deadline() -> None:
    async def scenario() -> None:
        network, recorder = Network(held=True), Recorder()
        queue = batcher(network, recorder)
        with pytest.raises(DeadlineExceeded):
            await queue.submit(images(1), timeout_s=0.05)
        assert recorder.drops == []
        assert queue.computing_for_s > 0
        network.released.set()
        assert answered(await queue.submit(images(2), timeout_s=30)) == [2]
        await queue.close()
        assert queue.computing_for_s == 0

    run(scenario)


def test_a_cancelled_submission_is_not_computed() -> None:
    async def scenario() -> None:
        network, recorder = Network(held=True), Recorder()
        queue = batcher(network, recorder)
        first = asyncio.create_task(queue.submit(images(1), timeout_s=30))
        await network.until_started()
        gone = asyncio.create_task(queue.submit(images(2), timeout_s=30))
        stays = asyncio.create_task(queue.submit(images(3), timeout_s=30))
        await turns()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        network.released.set()
        assert answered(await first) == [1]
        assert answered(await stays) == [3]
        assert network.batches == [[1], [3]]
        assert recorder.drops == [("cancelled", 1)]
        await queue.close()

    run(scenario)


def test_a_caller_that_has_left_when_its_turn_comes_is_not_computed() -> None:
    async def scenario() -> None:
        network, recorder = Network(held=True), Recorder()
        queue = batcher(network, recorder)
        first = asyncio.create_task(queue.submit(images(1), timeout_s=30))
        await network.until_started()
        gone = asyncio.create_task(queue.submit(images(2), timeout_s=30, caller_left=lambda: True))
        stays = asyncio.create_task(queue.submit(images(3), timeout_s=30, caller_left=lambda: False))
        await turns()
        network.released.set()
        assert answered(await first) == [1]
        assert answered(await stays) == [3]
        with pytest.raises(CallerGone):
            await gone
        assert network.batches == [[1], [3]]
        assert recorder.drops == [("caller_gone", 1)]
        with pytest.raises(CallerGone):
            await queue.submit(images(4), timeout_s=30, caller_left=lambda: True)
        await queue.close()

    run(scenario)


def test_the_rest_of_a_large_submission_is_dropped_with_its_caller() -> None:
    async def scenario() -> None:
        network, recorder = Network(held=True), Recorder()
        queue = batcher(network, recorder, max_batch=4)
        gone = asyncio.create_task(queue.submit(images(*range(10)), timeout_s=30))
        await network.until_started()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert recorder.drops == [("cancelled", 6)]
        assert queue.queued_images == 0
        network.released.set()
        assert answered(await queue.submit(images(42), timeout_s=30)) == [42]
        assert network.batches == [[0, 1, 2, 3], [42]]
        await queue.close()

    run(scenario)


def test_when_a_batch_fails_only_the_culprit_fails() -> None:
    async def scenario() -> None:
        network = Network(held=True, poison=3)
        queue = batcher(network)
        first = asyncio.create_task(queue.submit(images(0), timeout_s=30))
        await network.until_started()
        shared = [asyncio.create_task(queue.submit(images(pixel), timeout_s=30)) for pixel in (1, 2, 3, 4)]
        await turns()
        network.released.set()
        answers = await asyncio.gather(first, *shared, return_exceptions=True)
        assert isinstance(answers[3], InferenceFailed)
        assert isinstance(answers[3].__cause__, RuntimeError)
        others = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert [answered(outputs) for outputs in others] == [[0], [1], [2], [4]]
        await queue.close()

    run(scenario)


def test_a_large_submission_that_fails_leaves_nothing_in_the_queue() -> None:
    async def scenario() -> None:
        network = Network(poison=0)
        queue = batcher(network, max_batch=4)
        with pytest.raises(InferenceFailed):
            await queue.submit(images(*range(10)), timeout_s=30)
        assert queue.queued_images == 0
        assert answered(await queue.submit(images(11), timeout_s=30)) == [11]
        assert network.batches == [[0, 1, 2, 3], [11]]
        await queue.close()

    run(scenario)


def test_closing_answers_what_waits_and_refuses_what_comes() -> None:
    async def scenario() -> None:
        network = Network(held=True)
        queue = batcher(network)
        first = asyncio.create_task(queue.submit(images(1), timeout_s=30))
        await network.until_started()
        second = asyncio.create_task(queue.submit(images(2), timeout_s=30))
        await turns()
        closing: Awaitable[None] = asyncio.create_task(queue.close())
        await turns()
        with pytest.raises(NotReady):
            await queue.submit(images(3), timeout_s=30)
        network.released.set()
        await closing
        assert answered(await first) == [1]
        assert answered(await second) == [2]

    run(scenario)


def test_what_will_be_ready_at_once_is_computed_here_and_what_takes_longer_in_a_thread() -> None:
    """The first batch tells how long an image takes; a machine too busy for a quick one gets another try."""
    network = Network()
    threads: list[threading.Thread] = []

    def compute(images: Images) -> Outputs:
        threads.append(threading.current_thread())
        if images[0, 0, 0] == 9:  # slow
            until = time.monotonic() + 2 * INLINE_S
            while time.monotonic() < until:
                pass
        return network(images)

    async def scenario() -> None:
        queue = batcher(compute)
        here = threading.main_thread()
        for _ in range(50):
            await queue.submit(images(1), timeout_s=30)
            if threads[-1] is here:
                break
        assert threads[0] is not here, "nothing was known of the model yet"
        assert threads[-1] is here
        await queue.submit(images(9), timeout_s=30)
        await queue.submit(images(1), timeout_s=30)
        assert threads[-1] is not here, "the last image took too long"
        await queue.close()

    run(scenario)
