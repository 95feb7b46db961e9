"""Manage the API keys of the service: the verb `mri-recon key`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mri_recon_service.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="API keys of the service.", no_args_is_help=True)

FileOption = Annotated[
    Path | None,
    typer.Option("--file", help="The keys file [MRI_RECON_KEYS_FILE, else in your configuration folder]"),
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the key's owner: letters, digits, '.', '_' and '-'")],
    file: FileOption = None,
) -> None:
    """Make a key and print it. It is shown only once: the file keeps its hash.

    Example: mri-recon key add reading-room
    """
    from mri_recon_service.http.keys import add_key

    path = _path(file)
    typer.echo(add_key(path, name))
    typer.echo(f"The key of {name} is on the line above. It is not shown again; {path} has its hash.", err=True)


@app.command("list")
def list_keys(file: FileOption = None) -> None:
    """List the names that have keys, and since when."""
    from mri_recon_service.http.keys import read_keys

    for one in read_keys(_path(file)):
        typer.echo(f"{one.name}\t{one.created:%Y-%m-%d %H:%M} UTC")


@app.command()
def remove(name: Annotated[str, typer.Argument(help="Name of the key's owner")], file: FileOption = None) -> None:
    """Remove a key. A running service refuses it from the next request on."""
    from mri_recon_service.http.keys import remove_key

    remove_key(_path(file), name)


def _path(file: Path | None) -> Path:
    from mri_recon_service.cli import read_settings

    settings: Settings = read_settings(keys_file=file)
    return settings.keys_path
