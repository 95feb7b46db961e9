"""Limit processes that are forked after a computation to one thread.

The threads of OpenMP, on which torch computes, do not exist in a forked process, but OpenMP waits for them. The first
parallel computation of such a process would never return. A computation on one thread waits for no other. The data
loaders of PyTorch do the same. A process that is forked before the first computation, or spawned, keeps its threads.
"""

from __future__ import annotations

import os
import threading

__all__ = ["forked_with_threads"]


class _Forks:
    """Remember whether this process lost the threads of its parent."""

    def __init__(self) -> None:
        self.threads_are_lost = False
        self._has_threads = False

    def before(self) -> None:
        """Look for threads not started by Python in the process that is about to fork."""
        try:
            count = len(os.listdir("/proc/self/task"))  # noqa: PTH208  as light as it can be
        except OSError:
            count = 2  # unknown, so assume that there are some
        self._has_threads = count > threading.active_count()

    def after_in_child(self) -> None:
        """Limit the forked process to one thread if its parent had more."""
        if self._has_threads or self.threads_are_lost:
            import torch

            self.threads_are_lost = True
            torch.set_num_threads(1)


_forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.before, after_in_child=_forks.after_in_child)


def forked_with_threads() -> bool:
    """Tell whether this process was forked from one that had computed on several threads, so that it must use one."""
    return _forks.threads_are_lost
