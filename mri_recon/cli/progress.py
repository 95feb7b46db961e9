"""Show the progress of a verb on stderr: a bar on a terminal, occasional lines in a pipe or a file."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from mri_recon._system.text import printable
from mri_recon.cli.interrupts import raise_if_interrupted
from mri_recon.cli.messages import say

if TYPE_CHECKING:
    from rich.console import Console

    from mri_recon.progress import Progress

__all__ = ["FIRST_LINE", "LINE_EVERY", "Working", "working"]

FIRST_LINE = 5.0
"""Seconds before the first line without a terminal; shorter work prints no line."""
LINE_EVERY = 10.0
"""Seconds between such lines."""

_STAGES = {
    "prepare": "preparing",
    "maps": "coil maps",
    "iterate": "iteration",
    "adapt": "step",
    "network": "slice",
    "check": "hold-out check",
    "candidates": "run",
}

Show = Callable[[str, str, float | None], None]
"""Function of the current task, the finished amount in words ("" if there is none), and its share (None if unknown)."""


class Working:
    """Show the steps of a verb.

    Args:
        show: function that prints a step.
        methods: names of the methods that will run, in order, if there are several.
        end: function that removes the output of `show`.
    """

    def __init__(self, show: Show, methods: Sequence[str] = (), end: Callable[[], None] = lambda: None) -> None:
        self._show = show
        self._methods = list(methods)
        self.end = end

    def step(self, text: str, done: int = 0, total: int | None = None) -> None:
        """Show a step of a known number, or one without parts, for example reading a file."""
        raise_if_interrupted()
        self._show(text, _count(done, total), done / total if total else None)

    def on_progress(self, progress: Progress) -> None:
        """Show the progress of a reconstruction; passed to `reconstruct` as `on_progress`."""
        raise_if_interrupted()
        text = progress.method
        if len(self._methods) > 1 and text in self._methods:
            text += f" ({self._methods.index(text) + 1} of {len(self._methods)})"
        text += f": {_STAGES.get(progress.stage, progress.stage)}"
        if progress.fraction is None:
            self.step(text, progress.iteration, progress.total)
        else:
            self._show(text, f"{progress.iteration} ({100 * progress.fraction:.0f} %)", progress.fraction)


@contextlib.contextmanager
def working(text: str, methods: Sequence[str] = ()) -> Iterator[Working]:
    """Show the progress of a `with` block, until `end` is called or the block ends in any way.

    A verb enters the block by `context.with_resource`, so that the bar is gone before an error is printed.

    Args:
        text: the first step.
        methods: as for `Working`.
    """
    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal and not console.is_dumb_terminal:
            with _bar(console, text) as (show, end):
                yield Working(show, methods, end)
            return
    yield Working(lines(), methods)


def lines(clock: Callable[[], float] = time.monotonic) -> Show:
    """Print lines at a low rate: the first after `FIRST_LINE` seconds, then one every `LINE_EVERY` seconds.

    Args:
        clock: function that returns seconds.
    """
    start = clock()
    due = start + FIRST_LINE

    def show(text: str, count: str, share: float | None) -> None:
        nonlocal due
        now = clock()
        if now < due:
            return
        due = now + LINE_EVERY
        say(f"{text}{count and f' {count}'}, after {now - start:.0f} s")

    return show


@contextlib.contextmanager
def _bar(console: Console, text: str) -> Iterator[tuple[Show, Callable[[], None]]]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(printable(text), total=None, count="")

        def show(text: str, count: str, share: float | None) -> None:
            total = None if share is None else 1.0
            bar.update(task, description=printable(text), completed=share or 0.0, total=total, count=count)

        yield show, bar.stop


def _count(done: int, total: int | None) -> str:
    if total is None:
        return str(done) if done else ""
    return f"{done} of {total}"
