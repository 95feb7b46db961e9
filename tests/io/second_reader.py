"""Siemens raw data as pymapvbvd reads it; it shares no code with twixtools."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest


def read_by_mapvbvd(path: Path, part: str = "image") -> npt.NDArray[Any]:
    """Samples `(readout, coil, line, partition, slice, ...)` of the last measurement, in the units of the file."""
    mapvbvd = pytest.importorskip("mapvbvd", reason="pymapvbvd is not installed")
    with warnings.catch_warnings():
        # It warns of the short protocols of the tests' files, and leaves files open.
        warnings.simplefilter("ignore")
        found = mapvbvd.mapVBVD(str(path), quiet=True)
        lines = getattr(found[-1] if isinstance(found, list) else found, part)
        lines.flagRemoveOS = False
        samples = np.array(lines[""])
        shape = tuple(int(one) for one in lines.fullSize)
        del found, lines
        gc.collect()
    return samples.reshape(shape)
