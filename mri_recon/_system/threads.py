"""Compute independent parts of a task side by side, each on one thread.

torch divides every operation among its threads, which wait for each other at the end of each. They wait actively: a
thread that the system has taken off its core holds up the others, and on a busy machine two threads take ten times as
long as one. Parts that run side by side do not wait for each other. Each runs on one thread, so that the order of its
sums, and with it every bit of its result, is the same for any number of threads.

The limit is the caller's: no more than `torch.get_num_threads()` threads are at work. torch keeps this number for each
thread, and a default for threads that have not computed yet. Both are as before afterwards.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["num_side_by_side", "one_thread", "side_by_side"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

Tell = Callable[..., None]
"""Passes its arguments on to the caller of `side_by_side`; ends a part that is no longer wanted."""


class _Own(threading.local):
    """Hold how many threads parts may use that the current thread starts; None for torch's own number."""

    budget: int | None = None


class _Unwanted(BaseException):
    """Ends a part whose result nobody will see."""


_own = _Own()
_default = threading.Lock()


def num_side_by_side(num_parts: int) -> int:
    """Return how many of `num_parts` parts the current thread would compute at the same time."""
    return max(1, min(num_parts, _budget()))


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit the current thread to one thread of torch; `side_by_side` may still use as many as before."""
    import torch

    threads, budget = torch.get_num_threads(), _own.budget
    if threads > 1:
        _own.budget = threads
        with _default_kept():
            torch.set_num_threads(1)
    try:
        yield
    finally:
        if threads > 1:
            _own.budget = budget
            with _default_kept():
                torch.set_num_threads(threads)


def side_by_side(
    function: Callable[[_Item, Tell], _Result],
    items: Sequence[_Item],
    *,
    heard: Callable[..., None] | None = None,
    device: str = "cpu",
) -> list[_Result]:
    """Compute `[function(item, tell) for item in items]`, on a CPU several at the same time.

    A part tells of its progress by `tell(...)`. Its arguments are passed to `heard`, always in the thread of the caller
    and one after the other. If `heard` raises, or the caller is interrupted, all parts end at their next `tell`, and
    the exception reaches the caller. If parts raise, the exception of the first of them in the order of the items
    reaches the caller unchanged, as if they had run one after the other; parts behind it end at their next `tell`.

    Memory: the working memory of `num_side_by_side(len(items))` parts, and all results.

    Args:
        function: computes a part from its item. Parts must not change anything in common.
        items: one for each part.
        heard: takes what parts tell; None ignores it.
        device: type of the device. On others than a CPU, parts run one after the other in the thread of the caller.

    Returns:
        the results, in the order of the items.
    """
    workers = num_side_by_side(len(items)) if device == "cpu" else 1
    if workers > 1:
        return _Parts(function, items, heard).computed(workers)
    tell: Tell = (lambda *_: None) if heard is None else heard
    with one_thread():
        return [function(item, tell) for item in items]


class _Parts:
    """Hold the parts of a call, and what is known about them."""

    def __init__(
        self, function: Callable[[Any, Tell], Any], items: Sequence[Any], heard: Callable[..., None] | None
    ) -> None:
        self._function, self._items, self._heard = function, items, heard
        self._results: list[Any] = [None] * len(items)
        self._errors: dict[int, BaseException] = {}
        self._numbers = iter(range(len(items)))
        self._lock = threading.Lock()
        self._wanted = len(items)  # parts from this number on are not
        self._told: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()

    def computed(self, workers: int) -> list[Any]:
        """Compute the results."""
        import torch

        # torch keeps these modes for each thread.
        inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        ready = threading.Semaphore(0)
        budget = _budget() // workers

        def work() -> None:
            torch.get_num_threads()  # takes the default, which would replace the number below in the first computation
            torch.set_num_threads(1)
            ready.release()
            _own.budget = budget
            with torch.inference_mode(inference), torch.set_grad_enabled(grad):
                self._work()

        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(work,), name=f"mri-recon part {number}")
            for number in range(workers)
        ]
        started = []
        try:
            with _default_kept():
                for thread in threads:
                    thread.start()
                    started.append(thread)
                for _ in threads:
                    ready.acquire()
            self._listen(workers)
        except BaseException:
            self._wanted = 0
            raise
        finally:
            for thread in started:
                thread.join()
        if self._errors:
            raise self._errors[min(self._errors)]
        return self._results

    def _listen(self, workers: int) -> None:
        """Pass on what the parts tell, until every worker has ended."""
        while workers:
            told = self._told.get()
            if told is None:
                workers -= 1
            elif self._heard is not None:
                self._heard(*told)

    def _work(self) -> None:
        """Compute one part after the other, until there are no more."""
        try:
            while True:
                with self._lock:
                    number = next(self._numbers, None)
                if number is None or number >= self._wanted:
                    return
                self._compute(number)
        finally:
            self._told.put(None)

    def _compute(self, number: int) -> None:
        def tell(*told: Any) -> None:
            if number >= self._wanted:
                raise _Unwanted
            if self._heard is not None:
                self._told.put(told)

        try:
            self._results[number] = self._function(self._items[number], tell)
        except _Unwanted:
            pass
        except BaseException as error:
            with self._lock:
                self._errors[number] = error
                self._wanted = min(self._wanted, number)


def _budget() -> int:
    import torch

    return _own.budget or torch.get_num_threads()


@contextmanager
def _default_kept() -> Iterator[None]:
    """Keep torch's default for threads that have not computed yet, which `torch.set_num_threads` changes, too.

    A thread takes the default in its first computation, and sets it without changing the number of any other thread.
    """
    import torch

    with _default:
        before: list[int] = []
        _in_new_thread(lambda: before.append(torch.get_num_threads()))
        try:
            yield
        finally:
            _in_new_thread(lambda: torch.set_num_threads(before[0]))


def _in_new_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
