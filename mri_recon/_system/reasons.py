"""Explain an error of the work in one line, for a person."""

from __future__ import annotations

from mri_recon.errors import MriReconError

__all__ = ["DEBUG", "explain"]

DEBUG = "MRI_RECON_DEBUG"
"""Environment variable: with any value, errors are printed with their traceback."""


def explain(error: BaseException) -> str:
    """Explain an error in one line: expected ones by their message, any other as a fault of the program."""
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
