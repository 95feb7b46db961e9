"""Print the tables of several files: each file, failed ones included, and the means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mri_recon._system.text import plural, printable
from mri_recon.cli.outputs import tell
from mri_recon.cli.tables import make_console, make_table, number, print_results

if TYPE_CHECKING:
    from mri_recon.batch.jobs import Outcome
    from mri_recon.batch.persons import Persons

__all__ = ["print_comparisons", "print_reconstructions"]

_MOST_ROWS = 60
"""Rows of the table of single files; more are in the files alone."""


def print_reconstructions(outcomes: Sequence[Outcome], *, err: bool = False) -> None:
    """Print a table of reconstructed files, failed ones included."""
    from rich.text import Text

    table = make_table(compact=True)
    table.add_column("file", overflow="fold")
    table.add_column("result", overflow="fold")
    for heading in ("slices", "h x w", "R", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = _shown(outcomes)
    for one in shown:
        if one.failed:
            cells = [one.name, "failed", "", "", "", ""]
        else:
            slices, height, width = one.result["shape"]
            realised = number(one.result["mask"]["realised_acceleration"], ".2f")
            size, seconds = f"{height} x {width}", number(one.result["seconds"], ".2f")
            cells = [one.name, Path(one.result["output"]).name, str(slices), size, realised, seconds]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console = make_console(err=err)
    console.print(table)
    _tell_hidden(len(outcomes) - len(shown), err=err)


def print_comparisons(outcomes: Sequence[Outcome], persons: Persons, *, foreground: bool, err: bool = False) -> None:
    """Print a table of single files, failed ones included, and the table of means, with their conventions."""
    _print_each(outcomes, foreground=foreground, err=err)
    _print_means([one for one in outcomes if not one.failed], persons, foreground=foreground, err=err)


def _print_each(outcomes: Sequence[Outcome], *, foreground: bool, err: bool) -> None:
    from mri_recon.results.comparison import METRICS

    rows: list[dict[str, Any]] = []
    shown = _shown(outcomes)
    for one in shown:
        if one.failed:
            blank = dict.fromkeys(METRICS)
            rows.append({"file": one.name, "seed": "-", "method": "failed", "seconds": None, **blank})
            if foreground:
                rows[-1]["foreground"] = blank
        else:
            # The name stands once: long ones take several lines.
            rows += [{**row, "file": "" if index else one.name} for index, row in enumerate(_over_masks(one))]
    print_results(rows, title="Each file", notes=[], with_file=True, err=err)
    _tell_hidden(len(outcomes) - len(shown), err=err)


def _print_means(done: Sequence[Outcome], persons: Persons, *, foreground: bool, err: bool) -> None:
    from mri_recon.batch.documents import means, shared_convention
    from mri_recon.results.averages import MEANS_CONVENTION
    from mri_recon.results.comparison import warning_lines

    warnings = warning_lines([row for one in done for row in one.result["rows"]])
    unknown = sum(one.result["target_source"] == "none" for one in done)
    table = [
        {
            "file": f"{plural(mean['scans'], 'file')}, {plural(mean['persons'], 'person')}",
            "seed": "mean",
            **mean,
        }
        for mean in means(done, persons)
    ]
    notes = [
        f"{MEANS_CONVENTION} A file without the name of a person counts as one.",
        shared_convention(done, foreground=foreground),
    ]
    if foreground:
        notes.append("Means are over the whole images; the foreground of each file is in JSON and CSV.")
    if unknown:
        notes.insert(0, f"Without a reference, and so in no mean: {unknown} of {len(done)} files.")
    if table:
        print_results(table, title="Means", notes=notes, warnings=warnings, with_file=True, err=err)
    else:
        print_results([], title="Means: no file has a reference", notes=[], warnings=warnings, err=err)


def _over_masks(outcome: Outcome) -> list[dict[str, Any]]:
    """Average the rows of a file over its masks, if there are several at an acceleration."""
    from mri_recon.results.averages import average

    rows = outcome.result["rows"]
    seeds = dict.fromkeys(row["seed"] for row in rows)
    if len(seeds) < 2:
        return list(rows)
    averaged = average(rows, {outcome.name: outcome.name})
    return [{**row, "file": outcome.name, "seed": "mean"} for row in averaged]


def _shown(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Select the files of the printed table: the first ones, and of the others those that failed."""
    found: list[Outcome] = []
    count = 0
    for one in outcomes:
        count += len({(row["acceleration"], row["method"]) for row in one.result.get("rows", ())}) or 1
        if count <= _MOST_ROWS or one.failed:
            found.append(one)
    return found


def _tell_hidden(count: int, *, err: bool) -> None:
    if count:
        tell(f"... and {count} more files: --csv and --json have them all", err=err)
