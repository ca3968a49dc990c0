"""The micro-batcher: a bounded queue of images, greedy batches, deadlines; knows neither HTTP nor ONNX.

Nothing waits for a batch to fill. Whenever the computing thread is free it takes all that is queued, up to
the largest batch; what arrives meanwhile forms the next one. A lone image is computed at once, a crowd in
full batches.

    submit --> queue --> (free?) --> one batch --> here, or in a thread --> each caller's rows

A batch that will be ready within a millisecond is computed on the event loop: handing it to a thread and back
costs as much, because the two threads then contend for the interpreter. A longer one is computed in a thread,
so that requests go on being read meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import (
    CallerGone,
    DeadlineExceeded,
    DigitServeError,
    InferenceFailed,
    NotReady,
    Overloaded,
)

Images = NDArray[np.uint8]  # (n, 28, 28)
Outputs = tuple[NDArray[np.float32], ...]  # each (n, ...), row i belongs to image i
Compute = Callable[[Images], Outputs]
DropReason = Literal["shed", "expired", "caller_gone", "cancelled", "failed"]

INLINE_S = 0.001
REMEMBERED = 0.9  # of what is known of a model's pace, at each new batch: so the last ten or so count
FAILED = "The model failed on this request."

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Hears what happens in the queue; `metrics.py` has the one that Prometheus reads."""

    def queued(self, images: int) -> None:
        """So many more images wait, or fewer where the number is negative."""

    def batch_computed(self, images: int, answers: Outputs, waited_s: float, computed_s: float) -> None:
        """A batch of so many images is ready, and `answers` are those to images that callers sent.

        `waited_s` is how long the oldest of them waited.
        """

    def dropped(self, reason: DropReason, images: int) -> None:
        """So many images are not computed."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A caller's rows, and how they came about."""

    outputs: Outputs
    batch_images: int  # of the largest batch that some of its images rode in
    waited_s: float
    computed_s: float


@dataclass(eq=False, slots=True)
class _Submission:
    """Images of one caller; a large one may be computed over several batches."""

    images: Images
    arrived: float
    timeout_s: float
    answer: asyncio.Future[Computed]
    caller_left: Callable[[], bool]
    probing: bool
    parts: list[Outputs] = field(default_factory=list)
    taken: int = 0
    batch_images: int = 0
    computed_s: float = 0.0

    @property
    def waiting(self) -> int:
        """Images that are in no batch yet."""
        return len(self.images) - self.taken

    def add(self, part: Outputs, batch_images: int, computed_s: float) -> None:
        """Take the rows of one batch; the last of them completes the answer."""
        self.parts.append(part)
        self.batch_images = max(self.batch_images, batch_images)
        self.computed_s += computed_s
        if self.waiting or self.answer.done():
            return
        columns = zip(*self.parts, strict=True)
        outputs = part if len(self.parts) == 1 else tuple(np.concatenate(column) for column in columns)
        waited_s = time.monotonic() - self.arrived - self.computed_s
        self.answer.set_result(Computed(outputs, self.batch_images, waited_s, self.computed_s))


@dataclass(frozen=True, slots=True)
class _Share:
    """The rows of one submission that ride in one batch."""

    submission: _Submission
    images: Images


class Batcher:
    """Computes the images of many callers in shared batches, one batch at a time.

    Args:
        compute: maps images (n, 28, 28) to outputs with n rows each; is never called twice at once.
        max_batch: most images in one call of `compute`.
        max_queue: most images that wait; one more is refused at once with `Overloaded`.
        max_wait_s: so long the queue may stand. A burst is worked off; where the queue has not been empty for
            that long and holds as much work again, more comes than can be computed, and it is refused too.
        observer: hears of every batch, and of every submission that is refused or dropped.
    """

    def __init__(
        self,
        compute: Compute,
        *,
        max_batch: int,
        max_queue: int,
        max_wait_s: float = math.inf,
        observer: Observer,
    ) -> None:
        self._compute = compute
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._max_wait_s = max_wait_s
        self._observer = observer
        self._queue: deque[_Submission] = deque()
        self._queued_images = 0
        self._reserved_images = 0  # of requests under way, which have still to come
        self._standing_since = 0.0  # when the queue was last empty
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._computing_since: float | None = None
        self._recent_images = self._recent_s = 0.0  # computed lately, and how long that took

    @property
    def queued_images(self) -> int:
        """Images that wait and are in no batch yet."""
        return self._queued_images

    @property
    def computing_for_s(self) -> float:
        """Seconds that the present batch has been in `compute`; 0 when idle."""
        return time.monotonic() - self._computing_since if self._computing_since is not None else 0.0

    async def submit(
        self,
        images: Images,
        *,
        timeout_s: float,
        caller_left: Callable[[], bool] = lambda: False,
        probing: bool = False,
        alone: bool = False,
    ) -> Computed:
        """Outputs for `images` (n, 28, 28), row by row.

        `caller_left` is asked when their turn has come; where it is true they are not computed. `probing`
        says that no caller sent them, so that they are no evidence of what callers send. `alone` says that
        nobody else is asking, so that they need not wait for a turn.

        Raises:
            Overloaded: the queue has no room for them, or has been standing for too long.
            NotReady: the batcher is closed.
            DeadlineExceeded: `timeout_s` passed; what was still queued is not computed.
            CallerGone: as `caller_left` said.
            InferenceFailed: `compute` failed on these images even on their own.
        """
        self._admit(len(images))
        if alone and self._worker is None and self._is_quick(images):
            return self._compute_alone(images)
        return await self._enqueue(images, timeout_s, caller_left, probing=probing)

    @contextmanager
    def room_for(
        self, images: int, *, timeout_s: float, caller_left: Callable[[], bool]
    ) -> Iterator[Callable[[Images], Coroutine[Any, Any, Computed]]]:
        """Room in the queue for so many images that are still to come, and what submits some of them.

        A request that is submitted in parts is so refused at its beginning or not at all: if many such were
        let in and refused half way, none would ever be answered. Only other such requests are kept out by it:
        while its pictures are read, nothing of it waits.

        Raises:
            Overloaded, NotReady: as `submit` does; what is yielded raises the other errors of `submit`.
        """
        self._admit(images, self._reserved_images)
        self._reserved_images += images
        left = images

        ends = time.monotonic() + timeout_s

        async def submit(some: Images) -> Computed:
            nonlocal left
            left -= len(some)
            self._reserved_images -= len(some)
            return await self._enqueue(some, ends - time.monotonic(), caller_left, probing=False)

        try:
            yield submit
        finally:
            self._reserved_images -= left

    def _admit(self, images: int, reserved: int = 0) -> None:
        self._refuse_when_closed()
        if self._has_room(images + reserved):
            return
        self._first_waiting()  # those whose caller has left take nobody's place
        if not self._has_room(images + reserved):
            self._observer.dropped("shed", images)
            taken = self._queued_images + reserved
            raise Overloaded(f"{taken} images are waiting already; try again in a second.")

    def _has_room(self, images: int) -> bool:
        return self._queued_images + images <= self._max_queue and not self._is_behind(time.monotonic())

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise NotReady("This model is shutting down; try again.")

    async def _enqueue(
        self, images: Images, timeout_s: float, caller_left: Callable[[], bool], *, probing: bool
    ) -> Computed:
        self._refuse_when_closed()
        loop, now = asyncio.get_running_loop(), time.monotonic()
        answer: asyncio.Future[Computed] = loop.create_future()
        submission = _Submission(images, now, timeout_s, answer, caller_left, probing)
        if not self._queue:
            self._standing_since = now
        self._queue.append(submission)
        self._count_queued(len(images))
        if self._worker is None:
            self._worker = loop.create_task(self._compute_until_empty())
        deadline = loop.call_later(timeout_s, self._expire, submission)
        try:
            return await answer
        except asyncio.CancelledError:
            self._leave_queue(submission, "cancelled")
            raise
        finally:
            deadline.cancel()

    def _is_quick(self, batch: Images) -> bool:
        return self._expected_s(len(batch)) <= INLINE_S

    def _expected_s(self, images: int) -> float:
        """How long so many will take, going by the last batches; without end where none was computed yet."""
        return images * self._recent_s / self._recent_images if self._recent_images else math.inf

    def _computed(self, images: int, sent: Outputs, waited_s: float, computed_s: float) -> None:
        self._recent_images = REMEMBERED * self._recent_images + images
        self._recent_s = REMEMBERED * self._recent_s + computed_s
        self._observer.batch_computed(images, sent, waited_s, computed_s)

    def _compute_alone(self, images: Images) -> Computed:
        """Compute on the event loop what nobody waits beside."""
        started = time.monotonic()
        try:
            outputs = self._compute(images)
        except Exception as error:
            self._observer.dropped("failed", len(images))
            raise InferenceFailed(FAILED) from error
        computed_s = time.monotonic() - started
        self._computed(len(images), outputs, 0.0, computed_s)
        return Computed(outputs, len(images), 0.0, computed_s)

    def _is_behind(self, now: float) -> bool:
        """Whether the queue has been standing for `max_wait_s`, and will for as long again."""
        if not self._queue or now - self._standing_since <= self._max_wait_s:
            return False
        return self._max_wait_s < self._expected_s(self._queued_images) < math.inf

    async def close(self) -> None:
        """Refuse what comes, compute what waits, then stop the thread."""
        self._closed = True
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    def _expire(self, submission: _Submission) -> None:
        late = "There is no answer before the deadline; try again, or send fewer images."
        self._drop(submission, "expired", DeadlineExceeded(late))

    def _drop(self, submission: _Submission, reason: DropReason, error: DigitServeError) -> None:
        """Answer with `error`, and do not compute what still waits."""
        self._leave_queue(submission, reason)
        if not submission.answer.done():
            submission.answer.set_exception(error)

    def _leave_queue(self, submission: _Submission, reason: DropReason) -> None:
        if submission.waiting:
            self._observer.dropped(reason, submission.waiting)
            self._queue.remove(submission)
            self._count_queued(-submission.waiting)
            submission.taken = len(submission.images)

    def _count_queued(self, images: int) -> None:
        self._queued_images += images
        self._observer.queued(images)

    async def _compute_until_empty(self) -> None:
        try:
            while self._queue:
                if shares := self._take():
                    self._computing_since = time.monotonic()
                    await self._compute_shares(shares)
                    await asyncio.sleep(0)  # those who are answered, and those who arrive, come first
        finally:
            self._computing_since = None
            self._worker = None

    def _take(self) -> list[_Share]:
        """All that waits, up to the largest batch; oldest first."""
        shares: list[_Share] = []
        room = self._max_batch
        while room and (submission := self._first_waiting()) is not None:
            images = submission.images[submission.taken : submission.taken + room]
            shares.append(_Share(submission, images))
            submission.taken += len(images)
            room -= len(images)
            self._count_queued(-len(images))
            if not submission.waiting:
                self._queue.popleft()
        return shares

    def _first_waiting(self) -> _Submission | None:
        """The oldest submission, once those before it are dropped that are late or have lost their caller."""
        now = time.monotonic()
        while self._queue:
            submission = self._queue[0]
            if now >= submission.arrived + submission.timeout_s:  # its timer waits for a turn too
                self._expire(submission)
            elif submission.caller_left():
                self._drop(submission, "caller_gone", CallerGone("The connection closed before the answer."))
            else:
                return submission
        return None

    async def _compute_shares(self, shares: list[_Share]) -> None:
        """Compute one batch; when it fails, each share alone, so that only the culprit fails."""
        started = time.monotonic()
        batch = np.concatenate([share.images for share in shares]) if len(shares) > 1 else shares[0].images
        try:
            if self._is_quick(batch):
                outputs = self._compute(batch)
            else:
                outputs = await asyncio.get_running_loop().run_in_executor(self._thread, self._compute, batch)
        except Exception as error:  # noqa: BLE001 - whatever the runtime throws must not stop the queue
            if len(shares) == 1:
                failure = InferenceFailed(FAILED)
                failure.__cause__ = error
                self._observer.dropped("failed", len(batch))
                self._drop(shares[0].submission, "failed", failure)
                return
            log.warning("inference failed on a batch of %d images; computing each caller's alone", len(batch))
            for share in shares:
                await self._compute_shares([share])
            return
        computed_s = time.monotonic() - started
        oldest = min(share.submission.arrived for share in shares)
        self._computed(len(batch), _sent(shares, outputs), started - oldest, computed_s)
        first = 0
        for share in shares:
            last = first + len(share.images)
            rows = tuple(output[first:last] for output in outputs)
            share.submission.add(rows, len(batch), computed_s)
            first = last


def _sent(shares: list[_Share], outputs: Outputs) -> Outputs:
    """The rows of images that callers sent."""
    if not any(share.submission.probing for share in shares):
        return outputs
    sent = np.repeat([not share.submission.probing for share in shares], [len(s.images) for s in shares])
    return tuple(output[sent] for output in outputs)
