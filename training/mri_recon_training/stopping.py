"""Let a run end after a whole step when it is interrupted, so that no step is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

__all__ = ["Stop", "stop_after_step"]

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name))


@dataclass
class Stop:
    """Remember a signal that asks the run to end.

    Attributes:
        number: the signal; None: there was none.
    """

    number: int | None = None
    _previous: dict[int, Any] = field(default_factory=dict)
    _process: int = field(default_factory=os.getpid)

    @property
    def asked(self) -> bool:
        """Whether the run should end after this step."""
        return self.number is not None

    def finish(self) -> None:
        """Do what the signal does without this module: raise KeyboardInterrupt, or end the process."""
        previous: Any = self._previous.get(self.number or signal.SIGINT)
        if callable(previous):
            previous(self.number, None)
        raise KeyboardInterrupt

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first is remembered, a second acts at once, as any does in a process that loads data."""
        if self.asked or os.getpid() != self._process:
            signal.signal(number, self._previous[number])
            self._previous[number](number, frame)
        self.number = number
        with contextlib.suppress(OSError):  # not `print`: the signal may have come within one
            os.write(2, b"stopping after this step; again stops at once\n")


@contextlib.contextmanager
def stop_after_step() -> Iterator[Stop]:
    """Remember interrupts (Ctrl-C) and SIGTERM within a `with` block, where the loop looks at them between steps.

    A process that ignores a signal goes on ignoring it. Only the main thread can handle signals; in another one nothing
    is remembered.
    """
    stop = Stop()
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            previous: Callable[[int, FrameType | None], Any] | int | None = signal.getsignal(number)
            if callable(previous):  # neither ignored nor the end of the process at once
                stop._previous[number] = previous
                signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in stop._previous.items():
            if signal.getsignal(number) is stop:  # else the handler before has chosen what comes next
                signal.signal(number, handler)
