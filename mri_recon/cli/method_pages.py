"""Describe reconstruction methods on the screen and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mri_recon._system.text import printable
from mri_recon.cli.tables import make_console, make_table

__all__ = ["describe_method", "print_method"]

_WIDEST = 100
"""Columns beyond which lines of text are hard to read."""


def describe_method(name: str) -> dict[str, Any]:
    """Describe a method as JSON: `name`, `summary` and `options`, each with default, allowed values and meaning."""
    from mri_recon.methods.option_docs import option_docs
    from mri_recon.methods.table import method_summary

    return {"name": name, "summary": method_summary(name), "options": [asdict(one) for one in option_docs(name)]}


def print_method(described: dict[str, Any], *, first: bool) -> None:
    """Print a method: its summary, and a table of its options.

    Args:
        described: from `describe_method`.
        first: whether no other method was printed before.
    """
    from rich.text import Text

    console = make_console()
    width = min(console.width, _WIDEST)
    console.print(Text(f"{'' if first else chr(10)}{printable(described['name'])}", style="bold"))
    console.print(Text(printable(described["summary"])), width=width)
    if not described["options"]:
        return
    table = make_table(compact=True)
    table.add_column("option", no_wrap=True)
    table.add_column("default", overflow="fold", max_width=22)
    table.add_column("meaning", ratio=1)
    for option in described["options"]:
        meaning = Text(printable(option["meaning"]))
        if option["allowed"]:
            meaning.append(f"{' ' if option['meaning'] else ''}[{printable(option['allowed'])}]", style="dim")
        table.add_row(printable(option["name"]), Text(printable(option["default"])), meaning)
    console.print(table, width=width)
