"""What the service counts: every series that Prometheus reads.

Label sets are bounded: routes are templates, codes those of errors.py, labels a model's classes; models and
versions are what is put into the folder of artifacts.

A series is a value in a file, and an answer touches two dozen of them at a microsecond each. So what happens
is gathered, and counted ten times a second in bulk.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client import Counter, Gauge, Histogram

from service.artifacts import Classifier
from service.batching import DropReason, Outputs

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Finer towards 1, where the confidence of a good classifier lies.
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
COUNT_EVERY_S = 0.1


class Gathered:
    """What has happened and is not counted yet; belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: dict[Callable[[list[Any]], None], list[Any]] = {}

    def add(self, count: Callable[[list[Any]], None], event: object) -> None:
        """Have `count` called with this event and its like, soon."""
        loop = asyncio.get_running_loop()
        if not self._events or loop is not self._loop:  # an earlier loop may have ended before it counted
            self._loop = loop
            loop.call_later(COUNT_EVERY_S, self.count)
        self._events.setdefault(count, []).append(event)

    def count(self) -> None:
        """Count everything now."""
        events, self._events = self._events, {}
        for count, alike in events.items():
            count(alike)


GATHERED = Gathered()


class BulkHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def observe_many(self, observed: ArrayLike) -> None:
        """Observe each of these amounts (n,)."""
        amounts = np.asarray(observed)
        self._sum.inc(float(amounts.sum(dtype=np.float64)))
        places = np.searchsorted(self._upper_bounds, amounts)  # (n,), the first bound that is not below
        for bucket, count in zip(self._buckets, np.bincount(places).tolist(), strict=False):
            if count:
                bucket.inc(count)


REQUESTS = Counter("digitserve_requests", "Requests answered.", ["route", "status"])
REQUEST_SECONDS = BulkHistogram(
    "digitserve_request_seconds",
    "From the head of a request to its answer.",
    ["route", "status"],  # what is shed is answered at once, and would hide how long the others take
    buckets=SECONDS,
)
DECODE_SECONDS = BulkHistogram(
    "digitserve_decode_seconds",
    "Decoding the pictures of a request and bringing them into canonical form, with the wait for a thread.",
    ["form"],
    buckets=SECONDS,
)
REJECTED_IMAGES = Counter("digitserve_rejected_images", "Pictures that could not be read.", ["code"])
QUEUED_IMAGES = Gauge(
    "digitserve_queued_images",
    "Images that wait for their batch.",
    ["model"],
    multiprocess_mode="livesum",
)
QUEUE_CAPACITY_IMAGES = Gauge(
    "digitserve_queue_capacity_images", "Images that may wait.", ["model"], multiprocess_mode="livesum"
)
DROPPED_IMAGES = Counter(
    "digitserve_dropped_images",
    "Images not computed: shed by a full queue, past their deadline, without a caller, or past computing.",
    ["model", "reason"],
)
BATCH_IMAGES = BulkHistogram(
    "digitserve_batch_images",
    "Images computed together.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
QUEUE_SECONDS = BulkHistogram(
    "digitserve_queue_seconds", "How long the oldest image of a batch waited.", ["model"], buckets=SECONDS
)
COMPUTE_SECONDS = BulkHistogram(
    "digitserve_compute_seconds", "How long a batch was computed.", ["model"], buckets=SECONDS
)
MODEL_INFO = Gauge(
    "digitserve_model_info",
    "1 for each version of a model that some worker serves, and what runs it.",
    ["model", "version", "provider"],
    multiprocess_mode="livemax",
)
PREDICTIONS = Counter("digitserve_predictions", "Images by their likeliest class.", ["model", "label"])
CONFIDENCE = BulkHistogram(
    "digitserve_confidence", "Probability of the likeliest class.", ["model"], buckets=SHARES
)
DOUBTED_IMAGES = Counter("digitserve_doubted_images", "Images that look unlike the training data.", ["model"])
PREDICTION_SET_LABELS = BulkHistogram(
    "digitserve_prediction_set_labels",
    "Labels that cannot be ruled out for an image.",
    ["model"],
    buckets=(1, 2, 3, 5, 10),
)


def request_answered(route: str, status: int, seconds: float) -> None:
    """Count one answer under its route's template."""
    GATHERED.add(_count_requests, (route, status, seconds))


def _count_requests(answered: list[tuple[str, int, float]]) -> None:
    alike: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for route, status, seconds in answered:
        alike[route, status].append(seconds)
    for labels, amounts in alike.items():
        REQUESTS.labels(*labels).inc(len(amounts))
        REQUEST_SECONDS.labels(*labels).observe_many(amounts)


def pictures_decoded(form: str, seconds: float) -> None:
    GATHERED.add(_count_decoded, (form, seconds))


def _count_decoded(decoded: list[tuple[str, float]]) -> None:
    for form in {form for form, _ in decoded}:
        DECODE_SECONDS.labels(form).observe_many([seconds for name, seconds in decoded if name == form])


def picture_rejected(code: str) -> None:
    REJECTED_IMAGES.labels(code).inc()


class ModelMetrics:
    """The observer of one served model's batcher."""

    def __init__(self, classifier: Classifier, *, max_queue: int) -> None:
        """Every series of the model begins here, at zero, so that its first event is seen as a change."""
        name, card = classifier.name, classifier.card
        self._set_quantile, self._doubt_below = card.conformal_quantile, card.in_distribution_threshold
        self._queued = QUEUED_IMAGES.labels(name)
        self._dropped = {reason: DROPPED_IMAGES.labels(name, reason) for reason in get_args(DropReason)}
        self._batch_images = BATCH_IMAGES.labels(name)
        self._queue_seconds = QUEUE_SECONDS.labels(name)
        self._compute_seconds = COMPUTE_SECONDS.labels(name)
        self._predictions = [PREDICTIONS.labels(name, label) for label in card.labels]
        self._confidence = CONFIDENCE.labels(name)
        if card.calibrated:
            self._set_labels = PREDICTION_SET_LABELS.labels(name)
            self._doubted = DOUBTED_IMAGES.labels(name)
        self._capacity = QUEUE_CAPACITY_IMAGES.labels(name)
        self._capacity.set(max_queue)
        self._info = MODEL_INFO.labels(name, classifier.version, classifier.provider)
        self._info.set(1)

    def retire(self) -> None:
        """The model is no longer served, or not in this version."""
        self._info.set(0)
        self._capacity.set(0)

    def queued(self, images: int) -> None:
        GATHERED.add(self._count_queued, images)

    def _count_queued(self, changes: list[int]) -> None:
        self._queued.inc(sum(changes))

    def dropped(self, reason: DropReason, images: int) -> None:
        self._dropped[reason].inc(images)

    def batch_computed(self, images: int, answers: Outputs, waited_s: float, computed_s: float) -> None:
        GATHERED.add(self._count_batches, (images, answers, waited_s, computed_s))

    def _count_batches(self, batches: list[tuple[int, Outputs, float, float]]) -> None:
        images, answers, waited_s, computed_s = zip(*batches, strict=True)
        self._batch_images.observe_many(images)
        self._queue_seconds.observe_many(waited_s)
        self._compute_seconds.observe_many(computed_s)
        self._count_answers(answers)

    def _count_answers(self, answers: Sequence[Outputs]) -> None:
        """Count what answers.py says of each image; its rules, for many at once."""
        probabilities, typicality = map(np.concatenate, zip(*answers, strict=True))  # (n, 10), (n,)
        likeliest = np.bincount(probabilities.argmax(axis=1), minlength=len(self._predictions))
        for predictions, count in zip(self._predictions, likeliest.tolist(), strict=True):
            if count:
                predictions.inc(count)
        self._confidence.observe_many(probabilities.max(axis=1))
        if self._set_quantile is not None:
            included = 1 - probabilities.astype(np.float64) <= self._set_quantile  # (n, 10)
            self._set_labels.observe_many(np.maximum(included.sum(axis=1), 1))
        if self._doubt_below is not None:
            self._doubted.inc(len(typicality) - int(np.count_nonzero(typicality >= self._doubt_below)))
