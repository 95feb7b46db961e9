"""List the formats of k-space, each with a test of a file's first bytes and a reader."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from mri_recon.errors import FormatError
from mri_recon.io.formats.agilent import is_fid, read_fid
from mri_recon.io.formats.bart import is_bart, is_bart_header, read_bart
from mri_recon.io.formats.hdf5_kinds import read_hdf5
from mri_recon.io.formats.matlab import read_mat
from mri_recon.io.formats.matlab_hdf5 import read_mat_hdf5
from mri_recon.io.formats.mrd import is_mrd_session, is_mrd_stream, read_mrd
from mri_recon.io.formats.numpy_arrays import read_npy, read_npz
from mri_recon.io.formats.pfile import is_pfile, read_pfile
from mri_recon.io.formats.twix import is_twix, read_twix
from mri_recon.io.reading.access import cannot_read, check_regular
from mri_recon.io.reading.slices import Slices
from mri_recon.io.scan import RawScan

__all__ = ["FORMATS", "HEAD", "TABLE", "Format", "Reader", "format_of", "has_dicom", "image_without_kspace"]

FORMATS = (
    "fastMRI HDF5 (.h5), ISMRMRD and MRD raw data (.h5, .mrd), NumPy (.npy, .npz), MATLAB (.mat), "
    "Siemens raw data (.dat), GE P-files (.7), BART arrays (.cfl with .hdr) and Agilent fid with procpar"
)
"""The formats in words, for messages."""

HEAD = 520
"""Number of first bytes of a file that identify its format."""

_LOOKED_AT = 20  # files of a folder
_HDF5 = b"\x89HDF\r\n\x1a\n"


class Reader(Protocol):
    """Read one file; the arguments are those of `mri_recon.io.load`.

    Raises:
        FormatError: damaged, unsafe, or not k-space.
    """

    def __call__(
        self,
        path: Path,
        *,
        axes: str | None = None,
        variable: str | None = None,
        slices: Slices | None = None,
        max_bytes: int = ...,
    ) -> RawScan:
        """Read a file."""
        ...


class Format(NamedTuple):
    """Describe a format that `load` reads.

    Attributes:
        name: short name.
        recognises: function that tells, from the first `HEAD` bytes and the size of a file, whether it has this format.
        read: function that reads the file.
    """

    name: str
    recognises: Callable[[bytes, int], bool]
    read: Reader


TABLE = (
    Format("mat-hdf5", lambda head, _: head.startswith(b"MATLAB 7.3"), read_mat_hdf5),
    Format("hdf5", lambda head, _: head.startswith(_HDF5) or head[512:520] == _HDF5, read_hdf5),
    Format("mrd2", lambda head, _: is_mrd_stream(head), read_mrd),
    Format("npy", lambda head, _: head.startswith(b"\x93NUMPY"), read_npy),
    Format("npz", lambda head, _: head.startswith(b"PK\x03\x04"), read_npz),
    Format("bart", lambda head, _: is_bart_header(head), read_bart),
    Format("mat", lambda head, _: head.startswith(b"MATLAB 5.0"), read_mat),
    # Formats without a magic number come last; for these, the first bytes must be consistent with the rest.
    Format("mrd-session", lambda head, _: is_mrd_session(head), read_mrd),
    Format("pfile", lambda head, _: is_pfile(head), read_pfile),
    Format("fid", is_fid, read_fid),
    Format("twix", lambda head, _: is_twix(head), read_twix),
)
"""All formats, in the order in which a file is tested."""


def image_without_kspace(what: str) -> FormatError:
    """Make the error of magnitude images, which hold no k-space, with the command that simulates some."""
    return FormatError(
        f"expected k-space, {what}, which holds no k-space: give the scanner's raw data; for teaching and tests "
        "`mri-recon data simulate IMAGES OUT.h5` makes k-space from images, marked as simulated"
    )


def _image_of(path: Path, head: bytes) -> str | None:
    """Name the format of a magnitude image; None for any other file."""
    if head[128:132] == b"DICM":
        return "a DICOM image"
    if head.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path, "rb") as stream:
                head = stream.read(HEAD)
        except (OSError, EOFError, zlib.error):
            return None
    magics = (b"n+1\0", b"ni1\0"), (b"n+2\0", b"ni2\0")
    return "a NIfTI image" if head[344:348] in magics[0] or head[4:8] in magics[1] else None


def has_dicom(folder: Path) -> bool:
    """Tell whether one of the first files of a folder is a DICOM image."""
    try:
        for path in islice((one for one in folder.iterdir() if one.is_file()), _LOOKED_AT):
            with path.open("rb") as stream:
                if stream.read(132)[128:] == b"DICM":
                    return True
    except (OSError, ValueError):  # no folder, or one that cannot be read: the next check says why
        pass
    return False


def format_of(path: Path) -> Format:
    """Find the format of a file by its first bytes; its name does not matter.

    Raises:
        FormatError: no such file, or an unknown format.
    """
    if has_dicom(path):
        raise image_without_kspace(f"{path.name or path} is a folder of DICOM images")
    check_regular(path, "a k-space file")
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
        size = path.stat().st_size
    except OSError as error:
        raise cannot_read(path, error) from error
    for one in TABLE:
        if one.recognises(head, size) or (one.name == "bart" and is_bart(path)):
            return one
    if (image := _image_of(path, head)) is not None:
        raise image_without_kspace(f"{path.name} is {image}")
    what = "an empty file" if not head else "another"
    if path.suffix.lower() == ".mat" and head:
        what = "not MATLAB's of version 5 and later (-v4 and text are not read: save it with -v7)"
    raise FormatError(f"expected {FORMATS}, {path.name} is {what}: convert the k-space to one of these")
