"""The micro-batcher: greedy, bounded, fair to every caller, and nothing is computed for nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import batching
from service.batching import Batcher, Computed, Images, Outputs
from service.errors import CallerGone, DeadlineExceeded, InferenceFailed, NotReady, Overloaded


class Recorder:
    """Hears what the batcher reports."""

    def __init__(self) -> None:
        self.waiting = 0
        self.batches: list[int] = []
        self.answers: list[int] = []
        self.drops: list[tuple[str, int]] = []
        self.durations: list[tuple[float, float]] = []  # waited, computed

    def queued(self, images: int) -> None:
        self.waiting += images
        assert self.waiting >= 0

    def batch_computed(self, images: int, answers: Outputs, waited_s: float, computed_s: float) -> None:
        assert waited_s >= 0
        assert computed_s >= 0
        self.batches.append(images)
        self.durations.append((waited_s, computed_s))
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
    """Run a scenario, which hangs where a rule is broken, for so long at most."""
    asyncio.run(asyncio.wait_for(work(), timeout=60))


class Clock:
    """A clock that stands still unless it is set, in the place of the batcher's."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr(batching, "time", self)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


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


@settings(max_examples=50)
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
        network, recorder = Network(held=True), Recorder()
        queue = batcher(network, recorder, max_queue=4)
        computing = asyncio.create_task(queue.submit(images(0), timeout_s=30))
        await network.until_started()
        waiting = asyncio.create_task(queue.submit(images(1, 2, 3), timeout_s=30))
        await turns()
        with pytest.raises(Overloaded, match=r"^3 images are waiting already; try again in a second\.$"):
            await queue.submit(images(4, 5), timeout_s=30)
        assert recorder.drops == [("shed", 2)]
        last = asyncio.create_task(queue.submit(images(6), timeout_s=30))
        await turns()
        network.released.set()
        assert answered(await last) == [6]
        await asyncio.gather(computing, waiting)
        assert answered(await queue.submit(images(7, 8), timeout_s=30)) == [7, 8]
        await queue.close()

    run(scenario)


@pytest.mark.parametrize(
    ("known", "standing_s", "waiting", "refused"),
    [(True, 0.5, 3, 0), (True, 0.75, 2, 0), (True, 0.75, 3, 1), (False, 0.75, 3, 0)],
)
def test_a_queue_that_stands_too_long_takes_no_more_while_a_burst_is_worked_off(
    clock: Clock, *, known: bool, standing_s: float, waiting: int, refused: int
) -> None:
    """Once it is known that an image takes a quarter of a second."""

    async def scenario() -> None:
        network, recorder = Network(), Recorder()

        def a_quarter_second_each(images: Images) -> Outputs:
            clock.now += len(images) / 4
            return network(images)

        queue = Batcher(a_quarter_second_each, max_batch=1, max_queue=64, max_wait_s=0.5, observer=recorder)
        if known:
            await queue.submit(images(0), timeout_s=1e9)
        network.released.clear()
        network.started.clear()
        submitted = [asyncio.create_task(queue.submit(images(1), timeout_s=1e9))]
        await turns()
        await network.until_started()
        submitted.append(asyncio.create_task(queue.submit(images(*range(waiting)), timeout_s=1e9)))
        await turns()
        clock.now += standing_s
        submitted.append(asyncio.create_task(queue.submit(images(3), timeout_s=1e9)))
        await turns()
        network.released.set()
        *_, outcome = await asyncio.gather(*submitted, return_exceptions=True)
        assert isinstance(outcome, Overloaded) == refused
        assert recorder.drops == [("shed", 1)] * refused
        await queue.close()

    run(scenario)


def test_one_batch_that_was_held_up_is_no_reason_to_refuse_callers(clock: Clock) -> None:
    """Twenty batches of a hundredth of a second, then one of two: who comes after it is still taken."""

    async def scenario() -> None:
        network, recorder = Network(), Recorder()

        def usually_quick(images: Images) -> Outputs:
            clock.now += 2 if 9 in images else 0.01
            return network(images)

        queue = Batcher(usually_quick, max_batch=1, max_queue=64, max_wait_s=1, observer=recorder)
        for pixel in [0] * 20 + [9]:
            await queue.submit(images(pixel), timeout_s=1e9)
        network.released.clear()
        network.started.clear()
        submitted = [asyncio.create_task(queue.submit(images(1), timeout_s=1e9))]
        await turns()
        await network.until_started()
        submitted.append(asyncio.create_task(queue.submit(images(2, 3, 4, 5), timeout_s=1e9)))
        await turns()
        clock.now += 1.5
        submitted.append(asyncio.create_task(queue.submit(images(6), timeout_s=1e9)))
        await turns()
        network.released.set()
        assert [len(each.outputs[0]) for each in await asyncio.gather(*submitted)] == [1, 4, 1]
        assert recorder.drops == []
        await queue.close()

    run(scenario)


def test_what_finds_the_queue_empty_is_taken_however_slow_the_model() -> None:
    async def scenario() -> None:
        network = Network()
        queue = Batcher(network, max_batch=1, max_queue=64, max_wait_s=0, observer=Recorder())
        for _ in range(3):
            await queue.submit(images(1), timeout_s=30)
        await queue.close()

    run(scenario)


def test_an_expired_submission_is_not_computed() -> None:
    async def scenario() -> None:
        network, recorder = Network(held=True), Recorder()
        queue = batcher(network, recorder)
        first = asyncio.create_task(queue.submit(images(1), timeout_s=30))
        await network.until_started()
        with pytest.raises(DeadlineExceeded, match=r"^There is no answer before the deadline; try again"):
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
        before = asyncio.create_task(queue.submit(images(2), timeout_s=30, caller_left=lambda: False))
        gone = asyncio.create_task(queue.submit(images(3), timeout_s=30, caller_left=lambda: True))
        after = asyncio.create_task(queue.submit(images(4), timeout_s=30, caller_left=lambda: False))
        await turns()
        network.released.set()
        assert answered(await first) == [1]
        assert answered(await before) == [2]
        assert answered(await after) == [4]
        with pytest.raises(CallerGone, match=r"^The connection closed before the answer\.$"):
            await gone
        assert network.batches == [[1], [2, 4]]
        assert recorder.drops == [("caller_gone", 1)]
        with pytest.raises(CallerGone):
            await queue.submit(images(4), timeout_s=30, caller_left=lambda: True)
        await queue.close()

    run(scenario)


def test_a_caller_that_has_left_takes_nobodys_place_in_a_full_queue() -> None:
    async def scenario() -> None:
        network, recorder = Network(held=True), Recorder()
        queue = batcher(network, recorder, max_queue=4)
        first = asyncio.create_task(queue.submit(images(1), timeout_s=30))
        await network.until_started()
        left = False
        leaving = queue.submit(images(2, 3, 4, 5), timeout_s=30, caller_left=lambda: left)
        gone = asyncio.create_task(leaving)
        await turns()
        with pytest.raises(Overloaded, match=r"^4 images are waiting already; "):
            await queue.submit(images(6), timeout_s=30)
        left = True
        other = asyncio.create_task(queue.submit(images(7), timeout_s=30))
        await turns()
        assert recorder.drops == [("shed", 1), ("caller_gone", 4)]
        assert queue.queued_images == 1
        network.released.set()
        assert [answered(each) for each in await asyncio.gather(first, other)] == [[1], [7]]
        with pytest.raises(CallerGone):
            await gone
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


def test_when_a_batch_fails_only_the_culprit_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        network, recorder = Network(held=True, poison=3), Recorder()
        queue = batcher(network, recorder)
        first = asyncio.create_task(queue.submit(images(0), timeout_s=30))
        await network.until_started()
        shared = [asyncio.create_task(queue.submit(images(pixel), timeout_s=30)) for pixel in (1, 2, 3, 4)]
        await turns()
        network.released.set()
        answers = await asyncio.gather(first, *shared, return_exceptions=True)
        assert isinstance(answers[3], InferenceFailed)
        assert answers[3].message == "The model failed on this request."
        assert isinstance(answers[3].__cause__, RuntimeError)
        assert recorder.drops == [("failed", 1)]
        assert caplog.messages == [
            "inference failed on a batch of 4 images; computing each caller's alone"
        ], "the log says it once"
        others = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert [answered(outputs) for outputs in others] == [[0], [1], [2], [4]]
        await queue.close()

    run(scenario)


def test_a_large_submission_that_fails_leaves_nothing_in_the_queue() -> None:
    async def scenario() -> None:
        network, recorder = Network(poison=0), Recorder()
        queue = batcher(network, recorder, max_batch=4)
        with pytest.raises(InferenceFailed):
            await queue.submit(images(*range(10)), timeout_s=30)
        assert recorder.drops == [("failed", 4), ("failed", 6)]
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
        with pytest.raises(NotReady, match=r"^This model is shutting down; try again\.$"):
            await queue.submit(images(3), timeout_s=30)
        network.released.set()
        await closing
        assert answered(await first) == [1]
        assert answered(await second) == [2]

    run(scenario)


def test_waiting_and_computing_are_timed_apart(clock: Clock) -> None:
    network, recorder = Network(held=True), Recorder()

    def compute(images: Images) -> Outputs:
        outputs = network(images)
        clock.now += 0.125
        return outputs

    async def scenario() -> None:
        queue = batcher(compute, recorder, max_batch=2)
        assert queue.computing_for_s == 0
        first = asyncio.create_task(queue.submit(images(1), timeout_s=30))
        await network.until_started()
        submitted = []
        for pixels in ((2,), (3, 4)):
            clock.now += 0.25
            submitted.append(asyncio.create_task(queue.submit(images(*pixels), timeout_s=30)))
            await turns()
        clock.now += 0.5
        assert queue.computing_for_s == 1
        network.released.set()
        timed = [
            (computed.waited_s, computed.computed_s) for computed in await asyncio.gather(first, *submitted)
        ]
        assert timed == [(0, 1.125), (0.875, 0.125), (0.625, 0.25)]
        assert recorder.durations == [(0, 1.125), (0.875, 0.125), (0.75, 0.125)]
        await queue.close()

    run(scenario)


@pytest.mark.parametrize("late_s", [0, 0.25])
def test_a_deadline_that_has_passed_when_its_turn_comes_counts_although_its_timer_is_late(
    clock: Clock, late_s: float
) -> None:
    async def scenario() -> None:
        network, recorder = Network(held=True), Recorder()
        queue = batcher(network, recorder)
        first = asyncio.create_task(queue.submit(images(1), timeout_s=60))
        await network.until_started()
        waiting = [
            asyncio.create_task(queue.submit(images(pixel), timeout_s=timeout_s))
            for pixel, timeout_s in ((2, 40.25), (3, 40), (4, 40.25))
        ]
        await turns()
        clock.now += 40 + late_s
        network.released.set()
        answers = await asyncio.gather(first, *waiting, return_exceptions=True)
        expired = {2, 3, 4} if late_s else {3}
        for pixel, answer in enumerate(answers, start=1):
            assert isinstance(answer, DeadlineExceeded if pixel in expired else Computed)
        assert network.batches == ([[1]] if late_s else [[1], [2, 4]])
        assert recorder.drops == [("expired", 1)] * len(expired)
        await queue.close()

    run(scenario)


def test_batches_follow_each_other_without_a_pause_but_answers_come_between_them(clock: Clock) -> None:
    async def scenario() -> None:
        network = Network()
        queue = batcher(network, max_batch=1)
        await queue.submit(images(0), timeout_s=30)
        seen: list[tuple[int, int]] = []

        async def ask(pixel: int) -> None:
            await queue.submit(images(pixel), timeout_s=30)
            seen.append((pixel, len(network.batches)))

        asked = [asyncio.create_task(ask(pixel)) for pixel in (1, 2, 3)]
        await turns(20)
        assert seen == [(1, 2), (2, 3), (3, 4)]
        await asyncio.gather(*asked)
        await queue.close()

    run(scenario)


def test_neither_the_images_of_a_lone_submission_nor_its_outputs_are_copied() -> None:
    async def scenario() -> None:
        computed: list[tuple[Images, Outputs]] = []
        network = Network()

        def compute(images: Images) -> Outputs:
            computed.append((images, network(images)))
            return computed[0][1]

        queue = batcher(compute)
        sent = images(1, 2)
        answer = await queue.submit(sent, timeout_s=30)
        [(received, outputs)] = computed
        assert np.shares_memory(received, sent)
        assert all(np.shares_memory(*pair) for pair in zip(answer.outputs, outputs, strict=True))
        await queue.close()

    run(scenario)


def test_what_will_be_ready_at_once_is_computed_here_and_what_takes_longer_in_a_thread(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last batches tell how long an image takes."""
    quick_s = 2.0**-12
    monkeypatch.setattr(batching, "INLINE_S", 4 * quick_s)
    threads: list[threading.Thread] = []
    network = Network()

    def compute(images: Images) -> Outputs:
        threads.append(threading.current_thread())
        clock.now += len(images) * (1 if 9 in images else quick_s)
        return network(images)

    async def scenario() -> None:
        queue = batcher(compute)
        for count in (1, 4, 5, 1, 4):
            await queue.submit(images(*range(count)), timeout_s=30)
        await queue.submit(images(9), timeout_s=30)
        await queue.submit(images(1), timeout_s=30)
        await queue.close()

    run(scenario)
    here = threading.main_thread()
    assert threads[0] is not here, "nothing was known of the model yet"
    assert [thread is here for thread in threads[1:6]] == [True, False, True, True, True]
    assert threads[6] is not here, "the last image took too long"
    assert threads[0].name.startswith("compute"), "the name that a profiler shows"


async def with_known_pace(
    network: Callable[[Images], Outputs], recorder: Recorder | None = None, **limits: int
) -> Batcher:
    """A batcher that knows from its first image how quick the network is."""
    queue = batcher(network, recorder, **limits)
    await queue.submit(images(0), timeout_s=30)
    await turns()
    return queue


@pytest.fixture
def everything_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "INLINE_S", 1e6)


@pytest.mark.usefixtures("everything_is_quick")
def test_a_lone_caller_is_answered_in_the_same_turn_of_the_loop(clock: Clock) -> None:
    network, recorder = Network(), Recorder()

    def compute(images: Images) -> Outputs:
        clock.now += 0.125
        return network(images)

    async def scenario() -> None:
        queue = await with_known_pace(compute, recorder)
        other = asyncio.create_task(asyncio.sleep(0))
        computed = await queue.submit(images(1, 2), timeout_s=30, alone=True)
        assert not other.done()
        assert answered(computed) == [1, 2]
        assert (computed.batch_images, computed.waited_s, computed.computed_s) == (2, 0, 0.125)
        assert recorder.batches == [1, 2]
        assert recorder.answers == [0, 1, 2]
        assert recorder.durations == [(0, 0.125)] * 2
        await other
        maybe_not_alone = asyncio.create_task(queue.submit(images(3), timeout_s=30))
        await turns(1)
        assert queue.queued_images == 1
        assert answered(await maybe_not_alone) == [3]
        await queue.close()

    run(scenario)


def test_a_lone_caller_waits_for_its_turn_behind_what_is_computed_or_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        network = Network(held=True)
        queue = batcher(network)
        first = asyncio.create_task(queue.submit(images(1), timeout_s=30, alone=True))
        await network.until_started()  # in the thread: how long it takes is not known
        second = asyncio.create_task(queue.submit(images(2), timeout_s=30, alone=True))
        await turns()
        assert queue.queued_images == 1
        network.released.set()
        assert [answered(each) for each in await asyncio.gather(first, second)] == [[1], [2]]
        monkeypatch.setattr(batching, "INLINE_S", 0)
        assert answered(await queue.submit(images(3), timeout_s=30, alone=True)) == [3]
        await queue.close()

    run(scenario)


@pytest.mark.usefixtures("everything_is_quick")
def test_a_lone_caller_hears_of_a_failure_and_of_the_end() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        queue = await with_known_pace(Network(poison=5), recorder)
        with pytest.raises(InferenceFailed, match=r"^The model failed on this request\.$"):
            await queue.submit(images(5), timeout_s=30, alone=True)
        assert recorder.drops == [("failed", 1)]
        assert recorder.batches == [1]
        await queue.close()
        with pytest.raises(NotReady):
            await queue.submit(images(1), timeout_s=30, alone=True)

    run(scenario)


def test_room_is_kept_from_others_that_are_still_to_come_and_no_longer() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        queue = await with_known_pace(Network(), recorder, max_queue=8)
        with queue.room_for(6, timeout_s=30, caller_left=lambda: False) as submit:
            assert answered(await queue.submit(images(*range(8)), timeout_s=30)) == list(range(8))
            with (
                pytest.raises(Overloaded, match=r"^6 images are waiting already"),
                queue.room_for(3, timeout_s=30, caller_left=lambda: False),
            ):
                pass
            assert recorder.drops == [("shed", 3)]
            assert answered(await submit(images(1, 2))) == [1, 2]
            with (
                pytest.raises(Overloaded, match=r"^4 images are waiting already"),
                queue.room_for(5, timeout_s=30, caller_left=lambda: False),
            ):
                pass
        assert answered(await queue.submit(images(*range(8)), timeout_s=30)) == list(range(8))
        await queue.close()

    run(scenario)


def test_a_request_in_parts_has_the_deadline_and_the_end_of_any_other() -> None:
    async def scenario() -> None:
        network = Network(held=True)
        queue = batcher(network)
        with queue.room_for(2, timeout_s=0.01, caller_left=lambda: False) as submit:
            with pytest.raises(DeadlineExceeded):
                await submit(images(1))
            network.released.set()
            await queue.close()
            with pytest.raises(NotReady):
                await submit(images(2))
        with pytest.raises(NotReady), queue.room_for(1, timeout_s=1, caller_left=lambda: False):
            pass

    run(scenario)
