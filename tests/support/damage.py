"""Damaged copies of a file: cut short, or with one bit flipped."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import numpy as np
import pytest

from mri_recon.errors import FormatError
from mri_recon.io import load


def assert_cuts_are_refused(path: Path, step: int) -> None:
    """Cut the file short at every `step` bytes: always an error that names it."""
    whole = path.read_bytes()
    for length in range(0, len(whole), step):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=re.escape(path.name)):
            load(path)
    path.write_bytes(whole)


def assert_flips_are_errors_or_harmless(path: Path, flips: int = 150) -> None:
    """Flip one bit of the file, in many places by turns: a scan, or the error of a damaged file."""
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.choice(len(whole), flips, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with contextlib.suppress(FormatError):
            load(path)
