"""Handle signals that end the process: half-written files are removed first.

An interrupt (Ctrl-C) may be lost. An extension module that is interrupted during its import may raise ImportError
instead of KeyboardInterrupt, or a library may continue without the part that it was importing. So the handler of the
process remembers interrupts.
"""

from __future__ import annotations

import signal
from types import FrameType

__all__ = ["Terminated", "handle_interrupts", "handle_termination", "raise_if_interrupted", "was_interrupted"]

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(BaseException):
    """A signal asked the process to end.

    Attributes:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Handler:
    """Raise KeyboardInterrupt, and remember it."""

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
    """Raise `Terminated` for signals that by default end the process at once and leave half-written files."""
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second signal ends a process that hangs
    raise Terminated(number)


def was_interrupted() -> bool:
    """Tell whether there was an interrupt since `handle_interrupts`."""
    handler = signal.getsignal(signal.SIGINT)
    return isinstance(handler, _Handler) and handler.interrupted


def raise_if_interrupted() -> None:
    """Raise an interrupt that a library has swallowed."""
    if was_interrupted():
        raise KeyboardInterrupt
