"""Identify files and arrays by their SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError

__all__ = ["array_sha256", "file_sha256", "file_size"]


def file_size(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        FormatError: no such file.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise FormatError(f"expected a file, got {path} ({error.strerror}): check the path") from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of the content of a file, in hexadecimal digits.

    Raises:
        FormatError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise FormatError(f"cannot read {path} ({error.strerror}): check the file and its permissions") from error


def array_sha256(array: npt.NDArray[Any]) -> str:
    """Return the SHA-256 of the samples of an array, little-endian, the last axis fastest."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(little.tobytes()).hexdigest()
