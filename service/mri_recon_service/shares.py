"""Share bounded places between clients, so that no one of them keeps the others out.

A client may take places as long as it then holds at most twice as many as are left free (a "dynamic threshold", as
switches share their memory: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6, 1998). One client alone gets
two thirds of the places, two get two fifths each. Nobody has to say how many clients there are.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

__all__ = ["Place", "Shares", "admits"]

_TIMES_THE_FREE = 2


def admits(most: int, used: int, mine: int, wanted: int = 1, *, shared: bool = True) -> bool:
    """Tell whether a client may take more of something bounded. Its first share it may always take, if there is room.

    Args:
        most: bound of all clients together.
        used: amount that all clients hold.
        mine: amount that the client holds.
        wanted: further amount.
        shared: whether there may be other clients. If not, one may take everything.
    """
    free = most - used - wanted
    return free >= 0 and (not shared or mine == 0 or mine + wanted <= _TIMES_THE_FREE * free)


class Place:
    """A share of a bounded resource, given back once."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release
        self._lock = threading.Lock()

    def release(self) -> None:
        """Give the place back. A second call does nothing."""
        with self._lock:
            release, self._release = self._release, None
        if release is not None:
            release()


class Shares:
    """A bounded number of places, shared between clients. Safe between threads.

    Args:
        most: number of places.
        shared: whether there may be several clients.
    """

    def __init__(self, most: int, *, shared: bool) -> None:
        self.most = most
        self._shared = shared
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    @property
    def used(self) -> int:
        """Number of places that are held."""
        with self._lock:
            return self._held.total()

    def free_for(self, client: str) -> bool:
        """Tell whether a client would get a place now."""
        with self._lock:
            return self._admits(client)

    def take(self, client: str) -> Place | None:
        """Take a place for a client. Returns None if all places are held, or the client has its share."""
        with self._lock:
            if not self._admits(client):
                return None
            self._held[client] += 1
        return Place(lambda: self._give_back(client))

    def _admits(self, client: str) -> bool:
        return admits(self.most, self._held.total(), self._held[client], shared=self._shared)

    def _give_back(self, client: str) -> None:
        with self._lock:
            self._held[client] -= 1
            self._held += Counter()  # forgets clients that hold none
