"""Print lines on stderr, each beginning with the name of the program."""

from __future__ import annotations

import contextlib
import sys

from mri_recon._system.text import printable

__all__ = ["PROGRAM", "say", "warn"]

PROGRAM = "mri-recon"


def say(message: str) -> None:
    """Print one line on stderr, or nothing if stderr cannot be written to.

    File names in the line are escaped, so that they cannot control the terminal.
    """
    with contextlib.suppress(OSError, ValueError):
        line = " ".join(part.strip() for part in message.splitlines())
        print(f"{PROGRAM}: {printable(line)}", file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Print a warning as one line on stderr."""
    say(f"warning: {message}")
