"""Read GE P-files (`P12345.7`) of raw k-space, revision 26: a header, then 16- or 32-bit integers.

The samples lie in the order (coil, slice, view, sample), little-endian, each as real and imaginary part. The first view
of every coil and slice, a baseline without excitation, is left out. The sign of the transmitted pulse alternates, so
views 1, 3, 5, ... of the remaining ones are multiplied by -1; otherwise the image would be shifted by half the field of
view.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.formats.pfile_geometry import MAX_HEADER, pfile_geometry
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES, check_declared
from mri_recon.io.reading.slices import Slices, chosen_slices, slices_meta
from mri_recon.io.scan import RawScan

__all__ = ["HEAD_SIZE", "is_pfile", "read_pfile"]

HEAD_SIZE = 272
"""Number of first bytes that identify the file."""

_REVISIONS = (26.0, 27.0)  # from the first to below the second; other revisions place the fields elsewhere
_ORDER = "the slices are in the order of the file, in which they were acquired: it may not be that of their places"
_LOGO, _LOGO_AT = b"GE_MED_NMR", 110


def is_pfile(head: bytes) -> bool:
    """Tell from the first bytes whether a file is a GE P-file with its logo at the position of revision 26."""
    return head[_LOGO_AT : _LOGO_AT + len(_LOGO)] == _LOGO


@dataclass(frozen=True)
class _Header:
    revision: float
    offset: int
    slices: int
    echoes: int
    averages: int
    frames: int
    baselines: int
    overscans: int
    samples: int
    point_size: int
    views: int
    coils: int


def read_pfile(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read the k-space of a GE P-file; see `mri_recon.io.load`. Neither `axes` nor `variable` may be given."""
    for name, value in (("axes", axes), ("variable", variable)):
        if value is not None:
            raise FormatError(
                f"expected no {name} for the P-file {path.name}, its header says it: leave {name} out", argument=name
            )
    size = path.stat().st_size
    with path.open("rb") as stream:
        header = _header(stream.read(HEAD_SIZE), path.name)
        stream.seek(0)
        head = stream.read(min(header.offset, MAX_HEADER))
    shape = (header.coils, header.slices, header.views, header.samples, 2)
    kind = np.dtype(np.int16 if header.point_size == 2 else np.int32).newbyteorder("<")
    check_declared(shape[:-1], 2 * header.point_size, where=path.name, max_bytes=max_bytes)
    expected = header.offset + int(np.prod(shape, dtype=np.int64)) * header.point_size
    if size != expected:
        raise FormatError(
            f"expected {expected} bytes for {header.coils} coils, {header.slices} slices, {header.views} views and "
            f"{header.samples} samples in the P-file {path.name}, got {size}: it is damaged, cut short, or of a kind "
            "that is not read (several echoes or passes)"
        )
    stored: npt.NDArray[Any] = np.memmap(path, dtype=kind, mode="r", offset=header.offset, shape=shape)
    numbers = chosen_slices(slices, header.slices, where=path.name)
    if numbers is not None:
        stored = stored[:, numbers]
    # (coil, slice, view, sample) to (slice, coil, sample, view): views are phase-encoding lines, columns here.
    kspace = np.empty((stored.shape[1], header.coils, header.samples, header.frames), dtype=np.complex64)
    lines = np.moveaxis(stored[:, :, 1:], (0, 1, 2, 3), (1, 0, 3, 2))
    kspace.real, kspace.imag = lines[..., 0], lines[..., 1]
    kspace[..., 1::2] *= -1
    geometry, doubt = pfile_geometry(head, header.slices, header.samples, header.frames)
    notes = [doubt] if doubt else []
    if header.slices > 1:
        notes.append(_ORDER)
    return RawScan(
        kspace,
        name=path.name,
        meta={
            "format": "GE P-file",
            "file": path.name,
            "axes": "coil slice phase readout",
            "axes_assumed": False,
            **slices_meta(numbers, header.slices),
            "revision": round(header.revision, 3),
            "done": ["sign of every other line inverted (alternating excitation)"],
            "left_out": ["one baseline view of each coil and slice"],
            **({} if geometry is None else {"geometry": geometry.of_slices(numbers).as_dict()}),
            **({"reader_notes": notes} if notes else {}),
        },
    )


def _header(head: bytes, name: str) -> _Header:
    if len(head) < HEAD_SIZE or not is_pfile(head):
        raise FormatError(f"expected a GE P-file, got {name}, which is damaged or cut short: copy or export it again")
    revision, offset = struct.unpack_from("<fi", head)
    if not _REVISIONS[0] <= revision < _REVISIONS[1]:
        raise FormatError(
            f"expected a GE P-file of revision 26, {name} has revision {revision:.3f}: convert it to ISMRMRD or NumPy "
            "with the vendor's tools"
        )
    slices, echoes, averages, frames, baselines, overscans, samples, point_size = struct.unpack_from("<8H", head, 144)
    (views,) = struct.unpack_from("<H", head, 180)
    first, last = struct.unpack_from("<hh", head, 264)
    found = _Header(
        revision, offset, slices, echoes, averages, frames, baselines, overscans, samples, point_size, views,
        last - first + 1,
    )  # fmt: skip
    if echoes != 1 or averages != 1 or overscans != 0:
        raise FormatError(
            f"expected one echo, one average and no partial Fourier in the P-file {name}, got {echoes} echoes, "
            f"{averages} averages and {overscans} overscan lines: these are not read"
        )
    if (
        offset < HEAD_SIZE
        or min(found.slices, found.frames, found.samples) < 1
        or not 1 <= found.coils <= 1024
        or found.views != found.frames + 1
        or found.point_size not in (2, 4)
    ):
        raise FormatError(
            f"expected a P-file of one baseline and {frames} views, 2 or 4 bytes a number, {name} declares {views} "
            f"views, {samples} samples, {slices} slices, {found.coils} coils, {point_size} bytes: it is damaged"
        )
    return found
