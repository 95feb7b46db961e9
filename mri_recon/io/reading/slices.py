"""Choose the slices of a volume that are read: a number, a range with a step, or a list."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from mri_recon.errors import FormatError

__all__ = ["Slices", "chosen_slices", "slices_meta"]

Slices = int | slice | Sequence[int]
"""Values of `slices=`: 3 (from 0; -1 is the last), `slice(2, 9, 3)`, or [5, 0, 7] in that order."""


def chosen_slices(slices: Slices | None, count: int, *, where: str) -> list[int] | None:
    """List the numbers of the slices to read, in the requested order; None for all of them.

    A number chooses one slice; the slice axis is kept.

    Args:
        slices: as `Slices`; None takes all.
        count: number of slices in the file.
        where: the file, for the message.

    Raises:
        FormatError: a slice that does not exist, no slice at all, or numbers that are not whole.
    """
    if slices is None or (isinstance(slices, slice) and slices == slice(None)):
        return None
    if isinstance(slices, slice):
        try:
            found = list(range(*slices.indices(count)))
        except (TypeError, ValueError) as error:
            raise _no_slices(slices, count, where) from error
    else:
        given = slices if isinstance(slices, Sequence) or hasattr(slices, "__iter__") else [slices]
        found = [_number(one, slices, count, where) for one in given]
    if not found:
        raise _no_slices(slices, count, where)
    return found


def slices_meta(indices: list[int] | None, count: int) -> dict[str, Any]:
    """Describe chosen slices for a scan's `meta`: `slices` and `num_slices_in_file`; nothing for all of them."""
    return {} if indices is None else {"slices": indices, "num_slices_in_file": count}


def _number(one: object, slices: object, count: int, where: str) -> int:
    try:
        if isinstance(one, bool) or type(one).__name__ == "bool":  # NumPy booleans are indices too
            raise TypeError("a truth value is no number of a slice")
        number = operator.index(one)  # type: ignore[arg-type]
    except TypeError as error:
        raise _no_slices(slices, count, where) from error
    if not -count <= number < count:
        raise _no_slices(slices, count, where)
    return number % count


def _no_slices(slices: object, count: int, where: str) -> FormatError:
    there = f"0 to {count - 1}" if count > 1 else "0 alone"
    return FormatError(
        f"expected slices of {where}, which has {there}, got {str(slices)[:80]}: "
        "choose a number, a list of numbers or a range among them"
    )
