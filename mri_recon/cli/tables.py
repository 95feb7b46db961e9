"""Print tables on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mri_recon._system.text import printable

__all__ = ["number", "print_results"]

_FORMATS = {"nmse": ".4f", "psnr": ".2f", "ssim": ".4f"}


def print_results(
    rows: Sequence[dict[str, Any]],
    *,
    title: str,
    notes: Sequence[str],
    warnings: Sequence[str] = (),
    with_file: bool = False,
    err: bool = False,
) -> None:
    """Print rows of a comparison as a table, followed by warnings, convention and notes; with `err`, on stderr."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=err)
    if not console.is_terminal:
        console = Console(stderr=err, width=160)  # a file has no width; a narrow default would break the lines
    # Plain text: brackets and :names: in a file's name are not markup.
    console.print(Text(printable(title), style="bold"), soft_wrap=True)
    table = Table()
    for name in ["file", "R", "seed"] if with_file else []:
        table.add_column(name, overflow="fold")
    table.add_column("method", no_wrap=True)
    second = any("foreground" in row for row in rows)
    headings = ["NMSE", "PSNR / dB", "SSIM", *(["NMSE fg", "PSNR fg", "SSIM fg"] if second else []), "seconds"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        where = [str(row.get("file")), number(row.get("acceleration"), "g"), str(row.get("seed"))]
        measured = [number(row[name], form) for name, form in _FORMATS.items()]
        if second:
            measured += [number(row["foreground"][name], form) for name, form in _FORMATS.items()]
        cells = [*(where if with_file else []), str(row["method"]), *measured, number(row["seconds"], ".2f")]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)
    for warning in warnings:
        console.print(Text(printable(warning), style="yellow"), soft_wrap=True)
    for note in notes:
        console.print(Text(printable(note), style="dim"), soft_wrap=True)


def number(value: float | None, form: str) -> str:
    """Format a number for a table; a dash if there is none."""
    return "-" if value is None else format(value, form)
