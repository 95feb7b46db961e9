"""Choose the k-space among several arrays of a file."""

from __future__ import annotations

from collections.abc import Sequence

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import FormatError
from mri_recon.io.reading.limits import show

__all__ = ["MASK_NAME", "RESULT_NAME", "USUAL_NAMES", "pick_variable", "with_own_mask"]

USUAL_NAMES = ("kspace", "ksp", "data")
"""Usual names of the k-space: the first one found is read if the user names no array."""

MASK_NAME = "mask"

RESULT_NAME = "reconstruction"
"""Name of the image in MATLAB files that `save` writes; never read as k-space unless the user names it."""


def pick_variable(names: Sequence[str], variable: str | None, *, where: str) -> str:
    """Choose the requested name, else a usual one, else the only one.

    Raises:
        FormatError: no such array, no array at all, or several arrays without a usual name.
    """
    listed = ", ".join(show(name) for name in names[:20])
    if variable is not None:
        if variable not in names:
            raise FormatError(
                f"expected an array {show(variable)} in {where}, found: {listed or 'none'}"
                f"{did_you_mean(variable, names)}: choose one of these",
                argument="variable",
            )
        return variable
    candidates = [name for name in names if name not in (MASK_NAME, RESULT_NAME)]
    usual = [name for name in USUAL_NAMES if name in candidates]
    if usual:
        return usual[0]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates and RESULT_NAME in names:
        raise FormatError(
            f"expected an array of k-space in {where}, got a {RESULT_NAME}: load the scan itself, or "
            "say that it is k-space with variable"
        )
    if not candidates:
        raise FormatError(f"expected an array of k-space in {where}, found: {listed or 'none'}")
    raise FormatError(f"expected one array in {where}, found several: {listed}: name the k-space with variable")


def with_own_mask(names: Sequence[str], variable: str | None, *, where: str) -> list[str]:
    """Choose the name that `pick_variable` chooses, followed by the name of the scan's own mask if there is one.

    Raises:
        FormatError: as `pick_variable`.
    """
    name = pick_variable(names, variable, where=where)
    return [name, MASK_NAME] if MASK_NAME in names and name != MASK_NAME else [name]
