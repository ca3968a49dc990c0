"""What Prometheus reads: every series of the service, right over all workers."""

from __future__ import annotations

import os
from dataclasses import dataclass

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Counter("digitserve_requests", "Requests answered.", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "digitserve_request_seconds", "From the head of a request to its answer.", ["route"], buckets=SECONDS
)
BATCH_IMAGES = Histogram(
    "digitserve_batch_images",
    "Images computed together.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
QUEUE_SECONDS = Histogram(
    "digitserve_queue_seconds", "How long the oldest image of a batch waited.", ["model"], buckets=SECONDS
)
COMPUTE_SECONDS = Histogram(
    "digitserve_compute_seconds", "How long a batch was computed.", ["model"], buckets=SECONDS
)
DROPPED_IMAGES = Counter(
    "digitserve_dropped_images",
    "Images taken out of the queue before they were computed.",
    ["model", "reason"],
)


class BatchMetrics:
    """The batcher's observer for one model."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._images = BATCH_IMAGES.labels(model)
        self._queue_seconds = QUEUE_SECONDS.labels(model)
        self._compute_seconds = COMPUTE_SECONDS.labels(model)

    def batch_computed(self, images: int, waited_s: float, computed_s: float) -> None:
        self._images.observe(images)
        self._queue_seconds.observe(waited_s)
        self._compute_seconds.observe(computed_s)

    def dropped(self, reason: str, images: int) -> None:
        DROPPED_IMAGES.labels(self._model, reason).inc(images)


@dataclass(frozen=True)
class ModelTotals:
    """What one model has done since the start, in all workers."""

    images: int
    batches: int
    queue_s: float
    compute_s: float


def model_totals(model: str) -> ModelTotals:
    registry, of_model = _registry(), {"model": model}

    def total(name: str) -> float:
        return registry.get_sample_value(name, of_model) or 0.0

    return ModelTotals(
        images=int(total("digitserve_batch_images_sum")),
        batches=int(total("digitserve_batch_images_count")),
        queue_s=total("digitserve_queue_seconds_sum"),
        compute_s=total("digitserve_compute_seconds_sum"),
    )


def exposition() -> tuple[bytes, str]:
    """All series in Prometheus's text format, and its media type."""
    return generate_latest(_registry()), CONTENT_TYPE_LATEST


def _registry() -> CollectorRegistry:
    """The series of this process, or of all workers where there are several."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return registry
