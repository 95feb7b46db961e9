"""Load k-space of every format, which the first bytes of a file decide, not its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mri_recon.io.formats.table import format_of
from mri_recon.io.reading.access import cannot_read
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES
from mri_recon.io.reading.slices import Slices
from mri_recon.io.scan import RawScan, Scan

__all__ = ["load", "read"]


def load(
    path: str | Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Scan:
    """Read k-space from a file of fastMRI (HDF5), NumPy, MATLAB (v5, v7, v7.3), Siemens, GE or Agilent.

    Args:
        path: the file; its content decides the format.
        axes: names of the array's axes, e.g. "coil readout phase". By default NumPy and HDF5 arrays are "readout
            phase", "slice readout phase" or "slice coil readout phase" by their rank, MATLAB arrays "readout phase",
            "readout phase slice" or "readout phase coil slice"; `meta["axes_assumed"]` marks such defaults. The name of
            an axis of 2 that holds real and imaginary part is "complex".
        variable: name of the array, if several are possible. For a scanner's file with several k-spaces, the choice,
            e.g. "echo=1, repetition=0", see `mri_recon.io.formats.twix` and `mri_recon.io.formats.agilent`.
        slices: read these slices only: a number (-1 is the last), a `slice` with any step, or a list of numbers in any
            order; the slice axis is kept. Support, dead columns and full sampling are then determined from these slices
            only.
        max_bytes: largest array to read, checked against the declared size before memory is allocated.

    Returns:
        Scan: `kspace` `(slice, coil, readout, phase)`, its `target`, `mask`, `support`, `recon_size` and `meta`.

    Raises:
        FormatError: no such file, an unknown format, damaged, unsafe (links, pickles, sizes), or not k-space
            (real, empty, all zero, not finite), or slices that do not exist.
    """
    scan = read(path, axes=axes, variable=variable, slices=slices, max_bytes=max_bytes).scan()
    return replace(scan, source=Path(path).absolute())


def read(
    path: str | Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read a file as `load` does, without examining the numbers: for a process that only opens files.

    Args and Raises: as `load`, except for errors that depend on the numbers.
    """
    path = Path(path)
    reader = format_of(path).read
    try:
        return reader(path, axes=axes, variable=variable, slices=slices, max_bytes=max_bytes)
    except OSError as error:
        raise cannot_read(path, error) from error
