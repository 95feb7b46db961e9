"""Prepare and close the standard streams: any may be closed, a full disk, a broken pipe or an ASCII terminal."""

from __future__ import annotations

import codecs
import io
import os
import sys

from mri_recon.cli.messages import say

__all__ = ["BROKEN_PIPE", "close_streams", "prepare_streams"]

BROKEN_PIPE = 141
"""Exit status if nobody reads standard output any more: 128 + SIGPIPE, as in shells."""

_ERRORS = "mri_recon.display"


def prepare_streams() -> None:
    """Open closed streams as the null device, and let every stream print any character.

    Otherwise the next opened file would get the number of a closed stream, and receive its output.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the smallest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    codecs.register_error(_ERRORS, _displayable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def close_streams(status: int) -> int:
    """Flush the streams and return the exit status: that of the work, unless its output was lost."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = status or BROKEN_PIPE
        _discard(1)
    except (OSError, ValueError) as error:
        if not status:  # else the error that ended the verb has been printed
            say(f"error: cannot write to standard output ({getattr(error, 'strerror', None) or error})")
        status = status or 2
        _discard(1)
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        _discard(2)
    return status


def _discard(number: int) -> None:
    """Send the buffer of a stream to the null device, so that the interpreter's own flush succeeds."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


def _displayable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode characters that the stream lacks: raw bytes of a file name unchanged, any other character as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    try:
        return part.encode("ascii", "surrogateescape"), error.end
    except UnicodeEncodeError:
        return part.encode("ascii", "backslashreplace"), error.end
