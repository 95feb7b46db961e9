"""Lines on stderr, each beginning with the program's name."""

from __future__ import annotations

import contextlib
import sys

from mri_recon._text import printable

__all__ = ["PROGRAM", "say", "warn"]

PROGRAM = "mri-recon"


def say(message: str) -> None:
    """Print one line on stderr; nothing where stderr cannot be written to."""
    with contextlib.suppress(OSError, ValueError):
        print(f"{PROGRAM}: {printable(' '.join(message.split()))}", file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Print a warning as one line on stderr."""
    say(f"warning: {message}")
