"""Choose which of the waiting files is parsed next, and by which process.

The client that has used the least processor time goes first. One process is kept for small files, so that a few large
ones, or ones made to take long, do not keep everybody waiting.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from mri_recon_service.buffers import Buffers, Held

__all__ = ["Turns"]

P = TypeVar("P")


@dataclass(eq=False)
class _Waiting:
    """A file that waits for a process and for memory."""

    client: str
    memory: int
    large: bool


class Turns(Generic[P]):
    """Turns at a few processes. Safe between threads.

    Args:
        processes: the processes.
        buffers: memory of opened files.
    """

    def __init__(self, processes: Sequence[P], buffers: Buffers) -> None:
        self._idle = list(processes)
        self._most_large = max(1, len(processes) - 1)
        self._buffers = buffers
        self._waiting: list[_Waiting] = []  # in the order of their arrival
        self._large = 0
        self._running: Counter[str] = Counter()
        self._spent: Counter[str] = Counter()  # milliseconds, since nobody waited

    @contextmanager
    def turn(self, client: str, *, memory: int, large: bool, seconds: float) -> Iterator[tuple[P, Held]]:
        """Wait for a process and for memory, for the block. The memory is released by its holder.

        Raises:
            TimeoutError: neither was free for `seconds`.
        """
        process, held = self._wait(_Waiting(client, memory, large), seconds)
        begun = time.monotonic()
        try:
            yield process, held
        finally:
            with self._buffers.changed:
                self._idle.append(process)
                self._large -= large
                self._running[client] -= 1
                self._spent[client] += round(1000 * (time.monotonic() - begun)) + 1
                if not self._waiting:
                    self._spent.clear()
                self._buffers.changed.notify_all()

    def _wait(self, mine: _Waiting, seconds: float) -> tuple[P, Held]:
        deadline = time.monotonic() + seconds
        with self._buffers.changed:
            self._waiting.append(mine)
            try:
                while True:
                    if self._idle and next(iter(self._in_order()), None) is mine:
                        held = self._buffers.take(mine.memory)
                        if held is not None:
                            break
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    self._buffers.changed.wait(left)
            finally:
                self._waiting.remove(mine)
                self._buffers.changed.notify_all()  # another may be the next now
            self._large += mine.large
            self._running[mine.client] += 1
            return self._idle.pop(), held

    def _in_order(self) -> list[_Waiting]:
        """List those who may go now, the next one first. Large files without room let small ones pass."""
        able = [
            one
            for one in self._waiting
            if (not one.large or self._large < self._most_large) and self._buffers.has_room(one.memory)
        ]
        return sorted(able, key=lambda one: (self._running[one.client], self._spent[one.client]))
