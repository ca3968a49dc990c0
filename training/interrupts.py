"""Ctrl-C and SIGTERM as a question that can be asked between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def deferred_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a question that can be asked between two steps.

    A signal that broke into the middle of a step would leave half of the weights moved. The second one acts
    as it always did, for who cannot wait.
    """
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received.is_set
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(_number: int, _frame: object) -> None:
        received.set()
        restore()

    for number in previous:
        signal.signal(number, note)
    try:
        yield received.is_set
    finally:
        restore()
