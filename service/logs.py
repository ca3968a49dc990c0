"""What the service writes to stderr: a line for people or JSON for programs, and one line for each error.

A line names a request by its id, route, status and error code. It holds nothing that the caller sent: no
picture, no name of a file, and no message that may repeat either.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import logging.config
import warnings
from pathlib import Path

from service.errors import DigitServeError
from service.settings import LogFormat, LogLevel

log = logging.getLogger("service.access")


def configure(level: LogLevel, log_format: LogFormat) -> None:
    """Have every line of this process, BentoML's and uvicorn's too, written in one format."""
    _silence_decoders()
    formatters = {
        "text": {
            "format": "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s",
            "datefmt": "%Y-%m-%dT%H:%M:%S%z",
        },
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": ["levelname", "process", "name", "message"],
            "rename_fields": {"levelname": "level", "name": "logger"},
            "timestamp": True,
        },
    }
    theirs = {name: {"handlers": [], "propagate": True} for name in ("bentoml", "circus", "uvicorn.error")}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"chosen": formatters[log_format]},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "chosen"}},
            "root": {"level": "WARNING", "handlers": ["stderr"]},
            "loggers": {**theirs, "service": {"level": level.upper()}},
        }
    )


def _silence_decoders() -> None:
    """Callers could fill the log: Pillow and libtiff tell there what is odd in a picture, the latter in C."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    pillow = importlib.util.find_spec("PIL")
    assert pillow is not None
    assert pillow.origin is not None
    for library in Path(pillow.origin).parent.with_name("pillow.libs").glob("libtiff*"):
        libtiff = ctypes.CDLL(str(library))
        for set_handler in (libtiff.TIFFSetErrorHandler, libtiff.TIFFSetWarningHandler):
            set_handler.argtypes = [ctypes.c_void_p]
            set_handler(None)


def answered(
    route: str, status: int, request_id: str, seconds: float, error: Exception | None = None
) -> None:
    """Write the line of one answer: of a success at level debug alone, of an error always, once."""
    level = _level(status, error)
    if not log.isEnabledFor(level):
        return
    code = error.code if isinstance(error, DigitServeError) else "internal" if error else "ok"
    duration_ms = round(seconds * 1000, 2)
    log.log(
        level,
        "%s: %d %s after %s ms, request %s",
        *(route, status, code, duration_ms, request_id),
        extra={
            "route": route,
            "status": status,
            "code": code,
            "duration_ms": duration_ms,
            "request_id": request_id,
        },
        exc_info=error if level == logging.ERROR else None,
    )


def _level(status: int, error: Exception | None) -> int:
    """500 is ours to mend, 503 and 504 ours to watch, anything else the caller's."""
    if error is None:
        return logging.DEBUG
    if status == 500:
        return logging.ERROR
    return logging.WARNING if status > 500 else logging.INFO
