"""The verb `mri-recon data`: list the open data sets, fetch them, and simulate scans from magnitude images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mri_recon.cli.outputs import claim, files_read, tell
from mri_recon.cli.progress import working

__all__ = ["app"]

_SHORT = {"validation": "val."}
"""Headings that are shorter than the name of their split."""

app = typer.Typer(
    help="Open data sets that this project trains and tests on, and simulated scans.", no_args_is_help=True
)


@app.command("list")
def list_sets() -> None:
    """List the registered sets: kind, files, persons by split, licence, source."""
    from rich.text import Text

    from mri_recon.cli.tables import make_console, make_table
    from mri_recon_data.registry import SPLITS, load_registry

    table = make_table(compact=True)
    for column in ("name", "kind", "files", *(_SHORT.get(split, split) for split in SPLITS), "licence"):
        right = column not in ("name", "kind", "licence")
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=column == "name")
    sets = load_registry().sets
    for data_set in sets:
        persons = (str(len(data_set.persons(split)) or "") for split in SPLITS)
        table.add_row(data_set.name, data_set.kind, str(len(data_set.files)), *persons, data_set.licence)
    console = make_console()
    console.print("Registered open data sets", style="bold")
    console.print(table)
    console.print("The columns of the splits count persons. kind image: k-space made from it is simulated.\n")
    for data_set in sets:
        console.print(Text(f"{data_set.name}: {data_set.source}"), soft_wrap=True)


@app.command()
def fetch(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a set, as `mri-recon data list` shows it.")],
) -> None:
    """Fetch a set and print the paths of its files; each is checked by its SHA-256.

    Files come from the folder that MRI_RECON_DATA names, else from the download cache, else from their public source.
    """
    from rich.console import Console

    from mri_recon_data.registry import load_registry

    data_set = load_registry().get(name)
    console = Console(stderr=True)
    console.print(f"{data_set.title}. Licence {data_set.licence}. Cite: {data_set.citation}", highlight=False)
    work = context.with_resource(working("fetching"))
    for number, file in enumerate(data_set.files):
        work.step(f"fetching {file.name}", number, len(data_set.files))
        typer.echo(str(file.path()))


@app.command()
def sample(
    files: Annotated[
        Path | None,
        typer.Option(
            help="Write it as two training files and split.json into this folder instead, to try a training with",
            metavar="FOLDER",
        ),
    ] = None,
) -> None:
    """Print the path of the embedded sample scan (simulated, not for clinical use).

    Example: mri-recon data sample --files my-scans
    """
    if files is not None:
        from mri_recon_data.examples.sample_files import write_sample_files

        for path in write_sample_files(files):
            tell(str(path))
        return
    from mri_recon.embedded_sample import sample_path

    typer.echo(str(sample_path()))


@app.command()
def simulate(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            help="Magnitude images: NIfTI (.nii, .nii.gz), a DICOM file, or a folder with a DICOM series.",
            metavar="IMAGES",
        ),
    ],
    output: Annotated[Path, typer.Argument(help="File to write, .h5 or .hdf5.", metavar="OUT")],
    num_coils: Annotated[int, typer.Option("--num-coils", help="Receive coils; 1 has no sensitivity.")] = 8,
    snr: Annotated[float, typer.Option(help="Bright signal over the noise of each of real and imaginary part.")] = 40.0,
    phase_strength: Annotated[
        float, typer.Option("--phase-strength", help="Standard deviation of the smooth phase, in radians.")
    ] = 0.6,
    matrix: Annotated[
        str | None,
        typer.Option(
            metavar="ROWSxCOLUMNS",
            help="Readout x phase samples, e.g. 192x160, fewer than the images have. Interpolated images need it.",
        ),
    ] = None,
    slices: Annotated[
        str | None, typer.Option(metavar="FIRST:END", help="Slices from FIRST to before END, e.g. 10:14, or one: 10")
    ] = None,
    volume: Annotated[int | None, typer.Option(help="Volume of a NIfTI file with several, from 0.")] = None,
    series: Annotated[str | None, typer.Option(help="Number of the series of a folder with several.")] = None,
    seed: Annotated[int, typer.Option(help="Of phase, coils and noise.")] = 0,
) -> None:
    """Simulate k-space from magnitude images, with their place in the patient. It is SIMULATED, and says so everywhere.

    Magnitude images hold no k-space: this one has modelled coils, a smooth phase and noise. It is for teaching and
    tests. Numbers from it are no measurement of a scanner.

    Example: mri-recon data simulate t1.nii.gz simulated.h5 --slices 80:84
    """
    work = context.with_resource(working(f"reading {source}"))
    from mri_recon.errors import ShapeError
    from mri_recon.io.save import SCAN_SUFFIXES
    from mri_recon_data.magnitudes.images import read_images
    from mri_recon_data.simulation.simulated_scan import ScanOptions, write_scan

    claim({"OUT": output}, files_read(source), suffixes={"OUT": SCAN_SUFFIXES})
    size = None
    if matrix is not None:
        found = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", matrix.lower(), re.ASCII)
        if found is None:
            raise ShapeError(f"--matrix: expected ROWSxCOLUMNS, such as 192x160, got {matrix}: correct it")
        size = int(found[1]), int(found[2])
    options = ScanOptions(num_coils, snr, phase_strength, size, seed)
    images = read_images(source, volume=volume, series=series)
    claim({"OUT": output}, [("a file of IMAGES", one) for one in images.files], suffixes={"OUT": SCAN_SUFFIXES})
    if slices is not None:
        images = images.of_slices(_range(slices, len(images.magnitude)))
    work.step("simulating")
    made = write_scan(output, images, options)
    work.end()
    num_slices, coils, readout, phase = made.kspace.shape
    tell(
        f"{output}: SIMULATED from {source}, {num_slices} slices x {coils} coils x {readout} readout x {phase} phase; "
        "no measurement"
    )
    for note in images.notes:
        tell(f"note: {note}")


def _range(text: str, count: int) -> range:
    """Read the slices of `--slices`: "10" or "10:14"."""
    from mri_recon.errors import ShapeError

    found = re.fullmatch(r"([0-9]{1,9})(:([0-9]{1,9}))?", text, re.ASCII)
    chosen = range(0)
    if found is not None:
        first = int(found[1])
        chosen = range(first, first + 1 if found[2] is None else int(found[3]))
    if not chosen or chosen[-1] >= count:
        raise ShapeError(f"--slices: expected slices from 0 to {count - 1}, as 10 or 10:14, got {text}: correct it")
    return chosen
