"""Tell the time of jobs: seconds since the epoch that pass evenly while the process lives.

The machine's clock is read once, when the process starts. From then on the time that has passed is added, which nobody
can set: no job fails, and no result is deleted, because somebody corrects the clock. The times of a store outlive the
process. The next one compares them with the machine's clock at its own start.
"""

from __future__ import annotations

import time

__all__ = ["now"]

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while the machine sleeps, where it can
_AT_START = time.time() - time.clock_gettime(_CLOCK)


def now() -> float:
    """Return the seconds since the epoch."""
    return _AT_START + time.clock_gettime(_CLOCK)
