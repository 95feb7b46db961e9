"""One slice of full k-space and the columns that were acquired of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

__all__ = ["RawSlice"]


@dataclass(frozen=True)
class RawSlice:
    """One slice of full k-space `(coil, readout, phase)` and its acquired columns."""

    kspace: Tensor
    support: npt.NDArray[np.bool_]
