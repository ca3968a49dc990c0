"""Settings of the service: one table, read once from `DIGITSERVE_*` variables and validated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
SHIPPED_MODELS = Path(__file__).resolve().parent.parent / "models"


class Settings(BaseSettings):
    """Each field is the variable `DIGITSERVE_<FIELD>`; an unusable value stops the start with its name."""

    model_config = SettingsConfigDict(env_prefix="DIGITSERVE_", frozen=True, extra="forbid")

    models_dir: Path = Field(SHIPPED_MODELS, description="folder of the artifacts")
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="names of the models to serve, separated by commas; empty serves all in the folder"
    )
    default_model: str = Field("mnist-cnn", description="the model that answers when a request names none")
    model_control: bool = Field(
        default=False, description="whether callers may load and unload models at /v2, with one worker"
    )
    device: Device = Field(
        "auto", description="`cuda` and `tensorrt` refuse to start without a GPU, `auto` falls back"
    )
    gpu_memory_mb: int = Field(0, ge=0, description="most GPU memory of one model; 0 sets no limit")
    cuda_graphs: bool = Field(
        default=False, description="whether the GPU replays each batch size as one recorded launch"
    )
    workers: int = Field(1, ge=1, le=256, description="worker processes")
    threads: int = Field(0, ge=0, description="inference threads a worker; 0 shares the cores it may use")

    max_request_bytes: int = Field(32 * 2**20, ge=1, description="largest request body")
    max_pending_bytes: int = Field(
        256 * 2**20, ge=1, description="most bytes of large request bodies that one worker holds at once"
    )
    max_parts: int = Field(1_024, ge=1, description="most parts of a form, files or not")
    max_json_values: int = Field(1_000_000, ge=1, description="most values in the JSON of one request")
    max_header_bytes: int = Field(32 * 2**10, ge=1_000, description="largest head of a request")
    max_connections: int = Field(1_000, ge=1, description="most connections of one worker")
    transfer_ms: int = Field(
        8_000, ge=100, le=60_000, description="how long a request may take to arrive, an answer to be read"
    )
    max_pixels: int = Field(50_000_000, ge=784, description="most pixels of one uploaded image")
    max_images: int = Field(256, ge=1, description="most images in one request")
    max_batch: int = Field(64, ge=1, description="largest batch that is computed at once")
    max_queue: int = Field(1024, ge=1, description="most images that wait for one model")
    max_wait_ms: int = Field(
        100,
        ge=1,
        description="how long a queue may stand, with as much work again in it, before more is refused",
    )
    timeout_ms: int = Field(5_000, ge=1, le=9_000, description="deadline of a request, from its last byte")
    stuck_ms: int = Field(
        20_000, ge=100, description="how long one batch may be computed before `/livez` fails"
    )
    drain_ms: int = Field(500, ge=0, le=60_000, description="how long SIGTERM leaves open connections in use")

    api_keys_file: Path | None = Field(
        None, description="file of the hashes of API keys; without it everybody may ask"
    )
    open_metrics: bool = Field(
        default=True, description="whether `/metrics` answers without a key where keys are asked for"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins whose pages may ask, separated by commas; no other page may"
    )

    log_level: LogLevel = Field("info", description="least severe level that is logged")
    log_format: LogFormat = Field("text", description="`json` logs for programs, one object a line")
    tracing: bool = Field(
        default=False, description="whether OpenTelemetry traces every request; `OTEL_*` says where to"
    )

    @field_validator("models", "cors_origins", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return (
            tuple(name.strip() for name in value.split(",") if name.strip())
            if isinstance(value, str)
            else value
        )

    @model_validator(mode="after")
    def _a_full_request_fits_the_queue(self) -> Settings:
        if self.max_queue < self.max_images:
            raise ValueError(
                f"max_queue ({self.max_queue}) must hold one request of max_images ({self.max_images})"
            )
        return self

    @model_validator(mode="after")
    def _the_largest_body_may_be_held(self) -> Settings:
        if self.max_pending_bytes < self.max_request_bytes:
            held, largest = self.max_pending_bytes, self.max_request_bytes
            raise ValueError(
                f"max_pending_bytes ({held}) must hold one request of max_request_bytes ({largest})"
            )
        return self

    @model_validator(mode="after")
    def _who_loads_a_model_reaches_every_worker(self) -> Settings:
        if self.model_control and self.workers > 1:
            raise ValueError(f"model_control reaches one worker, and workers is {self.workers}")
        return self

    @model_validator(mode="after")
    def _closed_metrics_have_a_key(self) -> Settings:
        if not self.open_metrics and self.api_keys_file is None:
            raise ValueError("open_metrics=false asks for a key: api_keys_file must name the keys there are")
        return self

    def model_names(self) -> list[str]:
        """The models to serve: those named, or every artifact in the folder; the default, there or not."""
        named = self.models or sorted(path.stem for path in self.models_dir.glob("*.onnx"))
        return list(dict.fromkeys((*named, self.default_model)))

    def inference_threads(self) -> int:
        """Threads for one worker's sessions: its share of the cores this process may really use."""
        return self.threads or max(1, usable_cores() // self.workers)


def usable_cores() -> int:
    """Cores by CPU affinity and by the container's quota, which onnxruntime's own count does not see."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
