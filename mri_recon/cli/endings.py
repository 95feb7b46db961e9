"""End a verb that fails: one line on stderr, and the exit status."""

from __future__ import annotations

import os
import traceback
from typing import NoReturn

from mri_recon.cli.interrupts import was_interrupted
from mri_recon.cli.messages import say
from mri_recon.cli.streams import BROKEN_PIPE
from mri_recon.errors import MriReconError

__all__ = ["Told", "end"]

DEBUG = "MRI_RECON_DEBUG"
"""Environment variable: with any value, errors are printed with their traceback."""


class Told(SystemExit):
    """End the process, after the message on stderr."""

    told = True


def end(error: BaseException) -> NoReturn:
    """End the process for an error of a verb.

    Raises:
        Told: always. Status 2: the work cannot be done, due to an `MriReconError`, the disk, the memory or a fault of
            the program; 130: interrupted; 141: nobody reads standard output.
    """
    if isinstance(error, BrokenPipeError):
        raise Told(BROKEN_PIPE) from None
    if isinstance(error, KeyboardInterrupt) or was_interrupted():
        hint = f": {error}" if isinstance(error, KeyboardInterrupt) and str(error) else ""
        say(f"interrupted{hint}")
        raise Told(130) from None
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    say(f"error: {_reason(error)}")
    raise Told(2) from None


def _reason(error: BaseException) -> str:
    if isinstance(error, MriReconError):
        return str(error)
    if _out_of_memory(error):
        return (
            "expected enough memory for this reconstruction, the machine has not: take fewer slices (--slice), "
            "compress the coils (--num-virtual-coils), or another method"
        )
    if isinstance(error, OSError):  # a full disk, a folder that may not be read
        return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"unexpected {said[:500]}: a fault of the program, please report it with the output of {DEBUG}=1"


def _out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of Python, NumPy, torch or CUDA means that memory is exhausted."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text))
    )
