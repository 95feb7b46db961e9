"""Print tables on the screen, in the form that its width allows: 80 columns are enough for each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mri_recon._system.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["make_console", "make_table", "number", "print_markdown_table", "print_results"]

_FORMATS = {"nmse": ".4f", "psnr": ".2f", "ssim": ".4f"}
_HEADINGS = ("NMSE", "PSNR / dB", "SSIM")
_WIDE = 160
"""Width of a table in a file or a pipe, unless the environment says otherwise (`COLUMNS`)."""

_LEAST_FILE = 16
"""Columns that the name of a file gets at least before it is broken."""


def make_console(*, err: bool = False) -> Console:
    """Make the console for a table: as wide as the terminal or as `COLUMNS`; wide in a file, which has no width."""
    from rich.console import Console

    console = Console(stderr=err)
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return console
    return Console(stderr=err, width=_WIDE)


def make_table(*, compact: bool = False) -> Table:
    """Make an empty table; a compact one has no lines between its columns."""
    from rich import box
    from rich.table import Table

    if compact:
        return Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    return Table()


def print_results(
    rows: Sequence[dict[str, Any]],
    *,
    title: str,
    notes: Sequence[str],
    warnings: Sequence[str] = (),
    with_file: bool = False,
    err: bool = False,
) -> None:
    """Print rows of a comparison as a table, followed by warnings, convention and notes; with `err`, on stderr.

    The table has lines if the console is wide enough. In the narrowest form, the metrics of the foreground are in rows
    of their own.
    """
    from rich.text import Text

    console = make_console(err=err)
    # Plain text: brackets and :names: in a file's name are not markup.
    console.print(Text(printable(title), style="bold"), soft_wrap=True)
    second = any("foreground" in row for row in rows)
    forms = [(False, False), (True, False), (True, True)]
    tables = (_table(rows, compact, second, below, with_file) for compact, below in forms)
    room = console.width + max(0, _longest_file(rows) - _LEAST_FILE if with_file else 0)
    fitting = (table for table in tables if _width(table, console) <= room)
    console.print(next(fitting, _table(rows, True, second, True, with_file)))
    for warning in warnings:
        console.print(Text(printable(warning), style="yellow"), soft_wrap=True)
    for note in notes:
        console.print(Text(printable(note), style="dim"), soft_wrap=True)


def print_markdown_table(text: str) -> None:
    """Print a table that is written in Markdown, with its cells folded where the console is narrow."""
    from rich.text import Text

    header, _, *rows = ([cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines())
    table = make_table(compact=True)
    for heading in header:
        table.add_column(heading, overflow="fold", min_width=max(map(len, heading.split()), default=0))
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    make_console().print(table)


def number(value: float | None, form: str) -> str:
    """Format a number for a table; a dash if there is none."""
    return "-" if value is None else format(value, form)


def _table(rows: Sequence[dict[str, Any]], compact: bool, second: bool, below: bool, with_file: bool) -> Table:
    """Build the table of a comparison.

    Args:
        rows: the rows.
        compact: without lines between the columns.
        second: whether rows have the metrics of the foreground.
        below: these metrics are in rows of their own, not in columns.
        with_file: whether to name file, acceleration and seed.
    """
    from rich.text import Text

    table = make_table(compact=compact)
    if with_file:
        table.add_column("file", overflow="fold", min_width=min(_longest_file(rows), _LEAST_FILE))
        table.add_column("R", no_wrap=True)
        table.add_column("seed", no_wrap=True)
    table.add_column("method", no_wrap=True)
    headings = [*_HEADINGS, *(f"{name.split()[0]} fg" for name in _HEADINGS if second and not below), "seconds"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        where = [str(row.get("file")), number(row.get("acceleration"), "g"), str(row.get("seed"))] if with_file else []
        measured = _metrics(row)
        if second and not below:
            measured += _metrics(row["foreground"])
        cells = [*where, str(row["method"]), *measured, number(row["seconds"], ".2f")]
        table.add_row(*(Text(printable(cell)) for cell in cells))
        if second and below:
            table.add_row(*[""] * len(where), Text("  foreground"), *_metrics(row["foreground"]), "")
    return table


def _width(table: Table, console: Console) -> int:
    """Return the width of a table in which nothing is broken or cut."""
    from rich.measure import Measurement

    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum


def _longest_file(rows: Sequence[Mapping[str, Any]]) -> int:
    return max((len(printable(row.get("file"))) for row in rows), default=0)


def _metrics(row: Mapping[str, Any]) -> list[str]:
    return [number(row[name], form) for name, form in _FORMATS.items()]
