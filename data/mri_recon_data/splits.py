"""The splits a person can belong to, and what each may be used for."""

from __future__ import annotations

from typing import Literal, get_args

from mri_recon.errors import DataError

__all__ = ["SPLITS", "Split", "check_split"]

Split = Literal["train", "validation", "test", "sample"]
"""train: weights. validation: every choice. test: numbers that are reported. sample: the demo, never a result."""

SPLITS: tuple[Split, ...] = get_args(Split)


def check_split(name: str) -> Split:
    """The split of that name.

    Raises:
        DataError: an unknown name; the message lists the valid ones.
    """
    for split in SPLITS:
        if split == name:
            return split
    raise DataError(f"unknown split {name!r}: expected one of {', '.join(SPLITS)}")
