"""Give freed memory back to the machine.

The C library keeps freed blocks of up to 32 MiB for later use: after a burst of work the process would stay large.
"""

from __future__ import annotations

import ctypes
import threading
import time
from contextlib import suppress

__all__ = ["Heap"]


class Heap:
    """The C library's heap of this process.

    Args:
        period: least time between two calls of the C library, in seconds.
    """

    def __init__(self, period: float = 1.0) -> None:
        self._period = period
        self._lock = threading.Lock()
        self._next = 0.0

    def trim(self) -> None:
        """Give freed memory back, unless that was done just now. Without such a call in the C library, do nothing."""
        with self._lock:
            time_now = time.monotonic()
            if time_now < self._next:
                return
            self._next = time_now + self._period
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
