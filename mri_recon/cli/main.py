"""The entry point of the console script. It imports the command itself only when it is called."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command with the arguments of this process."""
    from mri_recon.cli.app import PROGRAM, build_app

    build_app()(prog_name=PROGRAM)
