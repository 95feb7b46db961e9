"""Choose the next work of a worker thread within the available memory.

Direct work and jobs take turns if both wait. Direct work with equal keys is handed out together. Work does not begin
while the work in progress leaves too little memory for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

__all__ = ["Piece", "Schedule", "Turn"]


class Piece(Protocol):
    """One piece of direct work."""

    @property
    def key(self) -> str | None:
        """Key of the piece. Pieces with equal keys can share one run of a network. None: the piece runs alone."""
        ...

    @property
    def memory(self) -> int:
        """Estimated bytes. Pieces with equal keys take equal memory."""
        ...


P = TypeVar("P", bound=Piece)


@dataclass(frozen=True)
class Turn(Generic[P]):
    """The next work of one thread.

    Attributes:
        direct: pieces of direct work to run together. Empty: the thread claims jobs instead.
        memory: bytes reserved for this turn. For jobs: all free bytes, until the claimed jobs are known.
    """

    direct: Sequence[P]
    memory: int


class Schedule(Generic[P]):
    """Direct work that waits, and the memory of the work in progress. Safe between threads.

    Args:
        most_memory: bytes that all work in progress may take together.
        max_batch: pieces of direct work in one turn.
    """

    def __init__(self, *, most_memory: int, max_batch: int) -> None:
        self.most_memory = most_memory
        self._max_batch = max_batch
        self._condition = threading.Condition()
        self._waiting: deque[P] = deque()
        self._in_use = 0
        self._jobs_wait = True
        self._direct_next = True
        self._job_needs_room = False
        self._closed = False

    @property
    def waiting(self) -> int:
        """Number of pieces of direct work that wait."""
        return len(self._waiting)

    @property
    def in_use(self) -> int:
        """Bytes reserved for the work in progress."""
        return self._in_use

    @property
    def job_needs_room(self) -> bool:
        """Whether a job waits for memory. Direct work does not begin before that job."""
        return self._job_needs_room

    def add(self, piece: P) -> bool:
        """Queue direct work. Returns False, and queues nothing, once the schedule is closed."""
        with self._condition:
            if not self._closed:
                self._waiting.append(piece)
                self._condition.notify()
            return not self._closed

    def withdraw(self, piece: P) -> bool:
        """Remove direct work from the queue. Returns False if the work has begun."""
        with self._condition:
            try:
                self._waiting.remove(piece)
            except ValueError:
                return False
            return True

    def look_for_jobs(self) -> None:
        """Wake a thread to look for jobs in the store."""
        with self._condition:
            self._jobs_wait = True
            self._condition.notify()

    def next(self) -> Turn[P] | None:
        """Wait for work and reserve its memory. Returns None once the schedule is closed. `give_back` ends the turn."""
        with self._condition:
            while not (self._closed or self._direct_fits() or (self._jobs_wait and self._room > 0)):
                self._condition.wait()
            if self._closed:
                return None
            jobs_next = self._jobs_wait and self._room > 0
            take_direct = self._direct_fits() and (self._direct_next or not jobs_next)
            self._direct_next = not take_direct  # in turns, if both wait
            if take_direct:
                pieces = self._next_direct()
                turn = Turn(pieces, sum(piece.memory for piece in pieces))
            else:
                self._jobs_wait = False
                turn = Turn([], self._room)
            self._in_use += turn.memory
            return turn

    def claimed(self, needed: int, *, of: int, job_waits: bool) -> None:
        """Keep the memory that the claimed jobs need, and free the rest of their turn.

        Args:
            needed: bytes of the claimed jobs.
            of: bytes that the turn reserved.
            job_waits: whether a job waits but none was claimed. That job gets the memory that other work frees.
        """
        with self._condition:
            others = self._in_use > of
            self._job_needs_room = job_waits and others
            self._give_back(of - needed, look_for_jobs=job_waits and not others)

    def give_back(self, memory: int, *, look_for_jobs: bool = True) -> None:
        """Free memory at the end of a turn. A job that found no room before may fit now."""
        with self._condition:
            self._give_back(memory, look_for_jobs=look_for_jobs)

    def close(self) -> list[P]:
        """Hand out no more turns. Returns the direct work that still waited."""
        with self._condition:
            self._closed = True
            left, self._waiting = list(self._waiting), deque()
            self._condition.notify_all()
        return left

    # Under the lock.

    @property
    def _room(self) -> int:
        return self.most_memory - self._in_use

    def _direct_fits(self) -> bool:
        """Tell whether the oldest direct work may begin. A job that waits for memory goes first."""
        if not self._waiting or self._job_needs_room:
            return False
        return self._in_use == 0 or self._waiting[0].memory <= self._room

    def _next_direct(self) -> list[P]:
        """Take the oldest piece, and the pieces with an equal key that fit beside it."""
        first = self._waiting.popleft()
        alike = [] if first.key is None else [piece for piece in self._waiting if piece.key == first.key]
        fitting = self._room // max(1, first.memory) - 1
        for piece in (taken := alike[: max(0, min(self._max_batch - 1, fitting))]):
            self._waiting.remove(piece)
        return [first, *taken]

    def _give_back(self, memory: int, *, look_for_jobs: bool) -> None:
        self._in_use -= memory
        self._jobs_wait = self._jobs_wait or look_for_jobs
        self._condition.notify_all()
