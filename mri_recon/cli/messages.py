"""Lines on stderr, each beginning with the program's name."""

from __future__ import annotations

import typer

__all__ = ["PROGRAM", "warn"]

PROGRAM = "mri-recon"


def warn(message: str) -> None:
    """Print a warning as one line on stderr."""
    typer.echo(f"{PROGRAM}: warning: {' '.join(message.split())}", err=True)
