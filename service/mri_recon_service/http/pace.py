"""Bound how slowly the other side of a connection may send or read."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """Time that may still be spent waiting for the other side.

    The time begins at `patience` seconds. Waiting uses it up; every `rate` bytes that pass give a second back, up to
    `patience`. A side that keeps the rate may go on for ever. One that stops, or trickles, has `patience` seconds.

    Args:
        patience: longest time without a byte, in seconds.
        rate: least average number of bytes a second.
    """

    def __init__(self, patience: float, rate: float) -> None:
        self._patience = patience
        self._rate = rate
        self._left = patience

    @property
    def left(self) -> float:
        """Seconds that may still be waited."""
        return max(0.0, self._left)

    def passed(self, num_bytes: int, *, waited: float) -> None:
        """Count bytes that passed after `waited` seconds."""
        self._left = min(self._patience, self._left - waited + num_bytes / self._rate)
