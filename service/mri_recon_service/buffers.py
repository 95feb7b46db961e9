"""Count the memory of everything beside running reconstructions: files being opened, opened scans, answers being made.

Running reconstructions have a bound of their own (`jobs.schedule`), so neither keeps the other from going on.
"""

from __future__ import annotations

import threading

__all__ = ["Buffers", "Held"]


class Buffers:
    """Bytes that may be held. Safe between threads.

    Args:
        most: bytes of all together. One piece larger than half of them may be held besides, so that neither it nor
            small ones wait for ever.

    Attributes:
        changed: notified whenever bytes are given back. Its lock guards all.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.changed = threading.Condition(threading.RLock())  # a scan may be freed in any thread, at any time
        self._used = 0
        self._large = 0  # bytes of the large piece

    @property
    def used(self) -> int:
        """Number of bytes that are held."""
        return self._used

    def has_room(self, size: int) -> bool:
        """Tell whether bytes could be held now."""
        with self.changed:
            return not self._large if self._is_large(size) else self._used - self._large + size <= self.most

    def take(self, size: int) -> Held | None:
        """Hold bytes. Returns None if there is no room now."""
        with self.changed:
            if not self.has_room(size):
                return None
            large = self._is_large(size)
            self._large += size * large
            self._used += size
        return Held(self, size, large=large)

    def wait(self, size: int, seconds: float) -> Held | None:
        """Hold bytes as soon as there is room. Returns None if there was none for some seconds."""
        with self.changed:
            held: list[Held] = []

            def taken() -> bool:
                one = self.take(size)
                held.extend([] if one is None else [one])
                return bool(held)

            self.changed.wait_for(taken, seconds)
            return held[0] if held else None

    def _is_large(self, size: int) -> bool:
        return 2 * size > self.most

    def change(self, size: int, to: int, *, large: bool) -> bool:
        """Let a piece have fewer bytes. Returns whether it is still a large one."""
        with self.changed:
            stays = large and self._is_large(to)
            self._large += (to * stays - size) * large
            self._used += to - size
            self.changed.notify_all()
            return stays


class Held:
    """Bytes of `Buffers`, given back once."""

    def __init__(self, buffers: Buffers, size: int, *, large: bool) -> None:
        self._buffers = buffers
        self._size = size
        self._large = large

    def shrink(self, size: int) -> None:
        """Give back all but some bytes."""
        with self._buffers.changed:
            if size < self._size:
                self._large = self._buffers.change(self._size, size, large=self._large)
                self._size = size

    def release(self) -> None:
        """Give all bytes back. A second call does nothing."""
        self.shrink(0)
