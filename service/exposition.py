"""What Prometheus is told: the series of metrics.py, over all workers.

Each worker keeps its series in files of a folder that all share, and whichever is asked reads them all.
BentoML gives every server of a user the same folder, and empties it when the next one starts, so each server
makes one of its own: its supervisor, before there are workers, and these turn to it when app.py is imported.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

# Four files of a megabyte: counters, histograms and two kinds of gauges.
BYTES_A_WORKER = 4 * 2**20


def make_folder() -> None:
    """In the supervisor: a folder for the series of this server's workers, for as long as it runs.

    Raises:
        OSError: there is no room for what a worker writes there.
    """
    folder = tempfile.mkdtemp(prefix="digitserve-metrics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, BYTES_A_WORKER)
    os.environ["DIGITSERVE_METRICS_DIR"] = folder  # for the workers; app.py reads it


def reserve_space() -> None:
    """Give this worker's files their blocks: without them, a disk that is full later is a fatal SIGBUS."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return
    for file in Path(folder).glob(f"*_{os.getpid()}.db"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)


def exposition() -> tuple[bytes, str]:
    """All series in Prometheus's text format, and its media type."""
    return generate_latest(_registry()), CONTENT_TYPE_LATEST


@dataclass(frozen=True)
class ModelTotals:
    """What one model has done since the start, in all workers."""

    images: int
    batches: int
    queue_s: float
    compute_s: float


def model_totals(model: str) -> ModelTotals:
    samples = (sample for metric in _registry().collect() for sample in metric.samples)
    total = {sample.name: sample.value for sample in samples if sample.labels == {"model": model}}
    return ModelTotals(
        images=int(total.get("digitserve_batch_images_sum", 0)),
        batches=int(total.get("digitserve_batch_images_count", 0)),
        queue_s=total.get("digitserve_queue_seconds_sum", 0),
        compute_s=total.get("digitserve_compute_seconds_sum", 0),
    )


def _registry() -> CollectorRegistry:
    """The series of this process, or of all workers where there are several."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return REGISTRY
    registry = CollectorRegistry()
    registry.register(AllWorkers(folder))
    return registry


class AllWorkers(MultiProcessCollector):
    """Counters and histograms of every worker there ever was, gauges of those that live."""

    def __init__(self, folder: str) -> None:
        super().__init__(None, folder)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        self._folder = Path(folder)

    def collect(self) -> Iterator[Metric]:
        self._forget_the_dead()
        for metric in super().collect():  # type: ignore[no-untyped-call]
            if metric.name == "digitserve_model_info":  # series cannot be removed from the files, only zeroed
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric

    def _forget_the_dead(self) -> None:
        """What a killed worker last said of its queue is no longer so; nobody else tells the files."""
        for file in self._folder.glob("gauge_live*_*.db"):
            pid = int(file.stem.rpartition("_")[2])
            if not psutil.pid_exists(pid):
                with contextlib.suppress(FileNotFoundError):  # another worker was faster
                    mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]
