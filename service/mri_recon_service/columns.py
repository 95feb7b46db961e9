"""Write columns as a text of ranges, such as `5-121`, and read it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["column_ranges", "columns_of"]


def column_ranges(columns: npt.NDArray[np.bool_]) -> str:
    """Write the true columns as ranges from 0, ends included, e.g. `0-3,5-121`; "" for none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], columns, [False]]).astype(np.int8)))
    return ",".join(f"{start}-{stop - 1}" for start, stop in edges.reshape(-1, 2))


def columns_of(text: str, width: int) -> npt.NDArray[np.bool_] | None:
    """Read a text of `column_ranges` for `width` columns; None if a range is empty or ends behind the last column."""
    columns = np.zeros(width, np.bool_)
    for one in text.split(","):
        first, last = (int(end) for end in one.split("-"))
        if not first <= last < width:
            return None
        columns[first : last + 1] = True
    return columns
