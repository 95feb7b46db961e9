"""Siemens raw data as pymapvbvd reads it; it shares no code with twixtools."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest


def read_by_mapvbvd(path: Path, part: str = "image") -> npt.NDArray[Any]:
    """Samples `(readout, coil, line, partition, slice, ...)` of the last measurement, in the units of the file."""
    with _opened(path) as measurement:
        lines = getattr(measurement, part)
        lines.flagRemoveOS = False
        samples = np.array(lines[""])
        shape = tuple(int(one) for one in lines.fullSize)
        del measurement, lines
    return samples.reshape(shape)


def places_by_mapvbvd(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Position (LPS, mm) and quaternion of each line, `(line, 7)`, and the protocol's slice normal, if it has one."""
    with _opened(path) as measurement:
        places = np.array(measurement.image.slicePos, dtype=np.float64)
        protocol = dict(measurement.hdr.get("MeasYaps", {}) if "MeasYaps" in measurement.hdr else {})
        del measurement
    keys = [("sSliceArray", "asSlice", "0", "sNormal", one) for one in ("dSag", "dCor", "dTra")]
    normal = np.asarray([float(protocol.get(key, 0.0)) for key in keys])
    return places, normal if normal.any() else None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The last measurement of a file. The library warns of the tests' short protocols, and leaves files open."""
    mapvbvd = pytest.importorskip("mapvbvd", reason="pymapvbvd is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = mapvbvd.mapVBVD(str(path), quiet=True)
        yield found[-1] if isinstance(found, list) else found
        del found
        gc.collect()
