"""Write and print the results of the verbs `reconstruct` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mri_recon.cli.messages import warn
from mri_recon.cli.outputs import tell
from mri_recon.cli.tables import print_results

if TYPE_CHECKING:
    from mri_recon.results.comparison import Comparison
    from mri_recon.results.recipe import SavedRun

__all__ = ["tell_comparison", "tell_run", "write_comparison"]


def tell_run(run: SavedRun, output: Path) -> None:
    """Print one line about a saved reconstruction, followed by its notes and warnings."""
    from mri_recon.results.comparison import preparation_caption
    from mri_recon.results.trust import auto_caption, holdout_caption

    result, meta = run.reconstruction, run.scan.meta
    shape = " x ".join(str(n) for n in result.image.shape)
    tell(f"{output}: {result.method}, {shape} (slice x h x w), {result.info['seconds']:.2f} s")
    if run.left_out:
        tell(run.left_out)
    if "slices" in meta:
        (number,) = meta["slices"]
        count = meta["num_slices_in_file"]
        typer.echo(f"Slice {number} (from 0) of {count} alone: support, noise and a drawn mask are found in it.")
    if done := preparation_caption(result.info):
        typer.echo(done)
    for caption in (auto_caption(result.info), holdout_caption(result.info)):
        if caption:
            typer.echo(caption)
    for warning in result.warnings:
        warn(warning)


def write_comparison(
    comparison: Comparison,
    json: Path | None,
    figure: Path | None,
    slice_index: int | None,
    *,
    csv: Path | None = None,
) -> dict[str, Path]:
    """Write the results and draw the picture of a comparison, if requested.

    Returns:
        the files, by their kind.

    Raises:
        OutputError: a file cannot be written.
    """
    written = {}
    if json is not None:
        comparison.write_json(json)
        written["results"] = json
    if csv is not None:
        from mri_recon.batch.documents import comparison_table
        from mri_recon.batch.jobs import Outcome
        from mri_recon.batch.persons import Persons
        from mri_recon.cli.batches import write_csv

        result = {
            "rows": comparison.rows,
            "receipts": [comparison.receipt],
            "target_source": comparison.target_source,
        }
        write_csv(csv, comparison_table([Outcome(comparison.file, result=result)], Persons(None, [])))
        written["table"] = csv
    if figure is not None:
        from mri_recon.results.figure import comparison_figure

        comparison_figure(comparison, figure, slice_index=slice_index)
        written["picture"] = figure
    return written


def tell_comparison(comparison: Comparison, written: dict[str, Path], *, foreground: bool, piped: bool) -> None:
    """Print a comparison as a table, then name the files.

    Args:
        comparison: the comparison.
        written: files from `write_comparison`, written earlier so that none is lost if the reader of standard output
            goes away.
        foreground: whether the rows have the metrics of the foreground.
        piped: print the JSON document on standard output, everything else on standard error.
    """
    from mri_recon._system.jsonable import json_text
    from mri_recon.masks.caption import mask_caption
    from mri_recon.results.comparison import convention, preparation_caption
    from mri_recon.results.trust import trust_lines

    done = preparation_caption(comparison.rows[0]["info"])
    print_results(
        comparison.rows,
        title=f"{comparison.file}{' (simulated)' if comparison.simulated else ''}: {mask_caption(comparison.receipt)}",
        notes=[
            convention(comparison.target_source, foreground=foreground),
            *([done] if done else []),
            *trust_lines(comparison.rows),
        ],
        warnings=comparison.warnings,
        err=piped,
    )
    if piped:
        typer.echo(json_text(comparison.document()), nl=False)
    for what, path in written.items():
        tell(f"{what}: {path}", err=piped)
