"""The verb `mri-recon demo`: the methods side by side on the embedded sample, and what to do next."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from mri_recon._system.outputs import FIGURE_SUFFIXES, make_folder
from mri_recon.cli.messages import warn
from mri_recon.cli.outputs import JSON_SUFFIXES, claim, tell
from mri_recon.cli.progress import working
from mri_recon.cli.reports import tell_comparison, write_comparison

__all__ = ["demo"]

_METHODS = ("zero-filled", "cs-wavelet", "unet", "unrolled")
_ACCELERATION = 4.0
_NEXT = """
Next, with a scan of yours (fully sampled; `mri-recon info SCAN` describes it):
  mri-recon compare SCAN --acceleration 4 --figure out.png
  mri-recon reconstruct SCAN --method auto --acceleration 4 -o out.h5
  mri-recon serve        then open http://127.0.0.1:8000 in a browser"""


def demo(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Option(help="Folder for compare.json and compare.png; it is made", metavar="FOLDER")
    ] = Path("demo"),
) -> None:
    """Compare four methods on the embedded sample: a table, a picture, next steps. Needs no network, opens nothing.

    Example: mri-recon demo
    """
    work = context.with_resource(working("starting", list(_METHODS)))
    from mri_recon.embedded_sample import sample_path
    from mri_recon.results.comparison import compare_recipes
    from mri_recon.results.recipe import MaskChoice, Recipe, load_scan, source_record

    json = folder / "compare.json"
    figure = folder / "compare.png" if importlib.util.find_spec("matplotlib") else None
    make_folder(folder, option="--folder")
    claim(
        {"--folder (its JSON)": json, "--folder (its picture)": figure},
        (),
        suffixes={"--folder (its JSON)": JSON_SUFFIXES, "--folder (its picture)": FIGURE_SUFFIXES},
    )
    recipes = [Recipe(name, {}, MaskChoice(acceleration=_ACCELERATION)) for name in _METHODS]
    scan = load_scan(sample_path(), recipes[0])
    source = source_record(sample_path(), recipes[0], scan)
    comparison = compare_recipes(scan, recipes, source=source, on_progress=work.on_progress)
    written = write_comparison(comparison, json, figure, None)
    work.end()
    tell_comparison(comparison, written, foreground=False, piped=False)
    if figure is None:
        warn("no picture is drawn without Matplotlib: pip install matplotlib")
    tell("One simulated scan and one mask: a demonstration, not a result.")
    typer.echo(_NEXT)
