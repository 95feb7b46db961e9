"""Manage the API keys of the service: the verb `mri-recon key`."""

from __future__ import annotations

from datetime import timedelta
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


ExpiresOption = Annotated[
    str | None, typer.Option("--expires", metavar="TIME", help="Time until the key ends, e.g. 90d, 12h or 4w [never]")
]


@app.command()
@app.command("create", hidden=True)
def add(
    name: Annotated[str, typer.Argument(help="Name of the key's owner: letters, digits, '.', '_' and '-'")],
    expires: ExpiresOption = None,
    file: FileOption = None,
) -> None:
    """Make a key and print it. It is shown only once: the file keeps its hash.

    Example: mri-recon key add reading-room --expires 90d
    """
    from mri_recon_service.durations import duration
    from mri_recon_service.http.keys import add_key

    path = _path(file)
    _show(add_key(path, name, lifetime=None if expires is None else duration(expires)), name, path)


@app.command()
def rotate(
    name: Annotated[str, typer.Argument(help="Name of the key's owner")],
    overlap: Annotated[
        str, typer.Option(metavar="TIME", help="Time for which the former key stays valid, e.g. 7d; 0d ends it at once")
    ] = "7d",
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="Time until the new key ends [as long as the former one's]"),
    ] = None,
    file: FileOption = None,
) -> None:
    """Make a new key for a name and print it. The former key stays valid for some time.

    Example: mri-recon key rotate reading-room --overlap 7d
    """
    from mri_recon_service.durations import duration
    from mri_recon_service.http.keys import rotate_key

    path, lifetime = _path(file), None if expires is None else duration(expires)
    _show(rotate_key(path, name, overlap=duration(overlap, zero=True), lifetime=lifetime), name, path)


@app.command("list")
def list_keys(file: FileOption = None) -> None:
    """List the names that have keys: since when, until when, and the days that are left."""
    from mri_recon_service import clock
    from mri_recon_service.http.keys import read_keys

    for one in read_keys(_path(file)):
        until = "never" if one.expires is None else f"{one.expires:%Y-%m-%d %H:%M} UTC"
        typer.echo(f"{one.name}\t{one.created:%Y-%m-%d %H:%M} UTC\t{until}\t{_left(one.left(clock.now()))}")


@app.command()
def remove(name: Annotated[str, typer.Argument(help="Name of the key's owner")], file: FileOption = None) -> None:
    """Remove the keys of a name. A running service refuses it from the next request on."""
    from mri_recon_service.http.keys import remove_key

    remove_key(_path(file), name)


def _show(key: str, name: str, path: Path) -> None:
    typer.echo(key)
    typer.echo(f"The key of {name} is on the line above. It is not shown again; {path} has its hash.", err=True)


def _left(left: timedelta | None) -> str:
    if left is None:
        return "does not expire"
    if left <= timedelta(0):
        return "expired"
    return "last day" if left < timedelta(days=1) else f"{left.days} days left"


def _path(file: Path | None) -> Path:
    from mri_recon_service.cli import read_settings

    settings: Settings = read_settings(keys_file=file)
    return settings.keys_path
