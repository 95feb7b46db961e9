"""One door for every format: what a file is, is decided by its first bytes, not by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mri_recon.errors import FormatError
from mri_recon.io.access import cannot_read, check_regular
from mri_recon.io.agilent import is_fid, read_fid
from mri_recon.io.fastmri import read_fastmri
from mri_recon.io.limits import DEFAULT_MAX_BYTES
from mri_recon.io.matlab import read_mat
from mri_recon.io.matlab_hdf5 import read_mat_hdf5
from mri_recon.io.numpy_arrays import read_npy, read_npz
from mri_recon.io.pfile import is_pfile, read_pfile
from mri_recon.io.scan import RawScan, Scan
from mri_recon.io.slices import Slices
from mri_recon.io.twix import is_twix, read_twix

__all__ = ["FORMATS", "kind_of", "load", "read"]

FORMATS = (
    "fastMRI HDF5 (.h5), NumPy (.npy, .npz), MATLAB (.mat), Siemens raw data (.dat), GE P-files (.7) and Agilent fid "
    "with procpar"
)
"""What `load` reads, in words."""

_HDF5 = b"\x89HDF\r\n\x1a\n"

_READERS: dict[str, Callable[..., RawScan]] = {
    "hdf5": read_fastmri,
    "npy": read_npy,
    "npz": read_npz,
    "mat": read_mat,
    "mat-hdf5": read_mat_hdf5,
    "twix": read_twix,
    "pfile": read_pfile,
    "fid": read_fid,
}
"""A reader a format; all take `axes`, `variable`, `slices` (`mri_recon.io.slices.Slices` or None) and `max_bytes`."""


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
        axes: what the array's axes are, e.g. "coil readout phase". By default NumPy and HDF5 arrays are
            "readout phase", "slice readout phase" or "slice coil readout phase" by their rank, MATLAB's
            "readout phase", "readout phase slice" or "readout phase coil slice"; `meta["axes_assumed"]` says so. An
            axis of 2 that holds real and imaginary part is named "complex".
        variable: name of the array; needed where several could be meant. Of a scanner's file with several k-spaces
            which one, e.g. "echo=1, repetition=0", see `mri_recon.io.twix` and `mri_recon.io.agilent`.
        slices: read these slices only: a number (-1 is the last), a `slice` with any step, or a list of numbers in any
            order; the axis stays. What the data show (support, dead columns, whether it is fully sampled) is then found
            in these slices alone.
        max_bytes: largest array to take, checked against what the file declares before any memory is.

    Returns:
        Scan: `kspace` `(slice, coil, readout, phase)`, its `target`, `mask`, `support`, `recon_size` and `meta`.

    Raises:
        FormatError: no such file, an unknown format, damaged, unsafe (links, pickles, sizes), or not k-space
            (real, empty, all zero, not finite), or slices that are not there.
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
    """What `load` reads, before the numbers are looked at: for a process that only opens files.

    Args and Raises: as `load`, except for what only the numbers show.
    """
    path = Path(path)
    kind = kind_of(path)
    try:
        return _READERS[kind](path, axes=axes, variable=variable, slices=slices, max_bytes=max_bytes)
    except OSError as error:
        raise cannot_read(path, error) from error


def kind_of(path: Path) -> str:
    """Find the format of a file by its first bytes.

    Raises:
        FormatError: no such file, or none of the formats.
    """
    check_regular(path, "a k-space file")
    try:
        with path.open("rb") as stream:
            head = stream.read(520)
    except OSError as error:
        raise cannot_read(path, error) from error
    if head.startswith(b"MATLAB 7.3"):
        return "mat-hdf5"
    if head.startswith(_HDF5) or head[512:520] == _HDF5:
        return "hdf5"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"PK\x03\x04"):
        return "npz"
    if head.startswith(b"MATLAB 5.0"):
        return "mat"
    # Formats without a magic number come last: what their first bytes say of the rest has to fit.
    if is_pfile(head):
        return "pfile"
    if is_fid(head, path.stat().st_size):
        return "fid"
    if is_twix(head):
        return "twix"
    what = (
        "an empty file"
        if not head
        else "a DICOM image, which holds no k-space"
        if head[128:132] == b"DICM"
        else "another"
    )
    if path.suffix.lower() == ".mat" and head:
        what = "not MATLAB's of version 5 and later (-v4 and text are not read: save it with -v7)"
    raise FormatError(f"expected {FORMATS}, {path.name} is {what}: convert the k-space to one of these")
