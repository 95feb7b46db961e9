"""Signals that end the process: what is half written is removed first.

Interrupts (Ctrl-C) may arrive while code runs which takes them for something else.

An extension module that is interrupted while it is imported may raise ImportError in place of KeyboardInterrupt, or a
library may go on without the part that it was importing. So the handler of the process remembers that one came.
"""

from __future__ import annotations

import signal
from types import FrameType

__all__ = ["Terminated", "handle_interrupts", "handle_termination", "raise_if_interrupted", "was_interrupted"]

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(BaseException):
    """A signal asked the process to end.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Handler:
    """Raises KeyboardInterrupt, and remembers it."""

    def __init__(self) -> None:
        self.interrupted = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        raise KeyboardInterrupt


def handle_interrupts() -> None:
    """Remember interrupts from now on, unless the process ignores them, as under `nohup`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Handler())


def handle_termination() -> None:
    """Raise `Terminated` for a signal that by default ends the process at once, and leaves half of a file behind."""
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one ends a process that does not come to its end
    raise Terminated(number)


def was_interrupted() -> bool:
    """Whether an interrupt came since `handle_interrupts`."""
    handler = signal.getsignal(signal.SIGINT)
    return isinstance(handler, _Handler) and handler.interrupted


def raise_if_interrupted() -> None:
    """Raise the interrupt that some library took for something else."""
    if was_interrupted():
        raise KeyboardInterrupt
