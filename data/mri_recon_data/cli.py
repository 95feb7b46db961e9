"""The verb `mri-recon data`: list the open data sets and fetch them."""

from __future__ import annotations

from typing import Annotated

import typer

from mri_recon.cli.progress import working

__all__ = ["app"]

app = typer.Typer(help="The open data sets that this project trains and tests on.", no_args_is_help=True)


@app.command("list")
def list_sets() -> None:
    """List the registered sets: kind, files, persons by split, licence, source."""
    from rich.console import Console
    from rich.table import Table

    from mri_recon_data.registry import SPLITS, load_registry

    table = Table(title="Registered open data sets")
    for column in ("name", "kind", "files", *SPLITS, "licence", "source"):
        table.add_column(column, justify="right" if column in ("files", *SPLITS) else "left", overflow="fold")
    for data_set in load_registry().sets:
        persons = (str(len(data_set.persons(split)) or "") for split in SPLITS)
        table.add_row(
            data_set.name, data_set.kind, str(len(data_set.files)), *persons, data_set.licence, data_set.source
        )
    console = Console()
    console.print(table)
    console.print("The columns of the splits count persons. kind image: k-space made from it is simulated.")


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
def sample() -> None:
    """Print the path of the embedded sample scan (simulated, not for clinical use)."""
    from mri_recon.embedded_sample import sample_path

    typer.echo(str(sample_path()))
