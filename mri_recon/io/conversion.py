"""Convert files: k-space between the formats that can hold it, and results in HDF5 to every format of images."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mri_recon._system.files import unwritable
from mri_recon.errors import OutputError
from mri_recon.io.loading import load
from mri_recon.io.pictures import NO_PICTURES
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES
from mri_recon.io.reading.slices import Slices
from mri_recon.io.save import (
    RESULT_SUFFIXES,
    SCAN_SUFFIXES,
    check_holds,
    check_path,
    encode_saved,
    files_beside,
    save_scan,
    write_encoded,
)
from mri_recon.io.saved import identified, is_result, read_saved
from mri_recon.io.scan import Scan
from mri_recon.io.writers.bart import cfl_content
from mri_recon.io.writers.dicom_like import read_tags
from mri_recon.io.writers.mrd_raw import encode_raw
from mri_recon.io.writers.result import Encoded, notice_of

__all__ = ["CONVERT_SUFFIXES", "KSPACE_SUFFIXES", "convert"]

_MAX_MAT = 2**31 - 1
_KEPT = ("simulated", NO_PICTURES, "notice", "copyright")


def convert(
    source: str | Path,
    output: str | Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    like: str | Path | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> str:
    """Write the content of a file in the format of another suffix, in one step.

    A result in HDF5 becomes an image in any format of `save`. Any other file is read as k-space and becomes fastMRI's
    HDF5, NumPy, MATLAB, BART or ISMRMRD raw data (`KSPACE_SUFFIXES`).

    Args:
        source: file to read.
        output: file to write or replace; never the source.
        axes, variable, slices, max_bytes: as in `load`.
        like: as in `save`.

    Returns:
        Sentences about data that the format cannot hold, and about axes that were assumed; "" if there is nothing to
        say.

    Raises:
        FormatError: as `load`.
        OutputError: as `save`, or k-space for a format of images.
    """
    source, output = Path(source), Path(output)
    check_path(output, CONVERT_SUFFIXES, source)
    for one in files_beside(output).values():
        check_path(one, (), source)
    if is_result(source):
        return _convert_result(source, output, like, max_bytes)
    if not output.name.lower().endswith(KSPACE_SUFFIXES):
        raise OutputError(
            f"expected a format of k-space, {', '.join(KSPACE_SUFFIXES)}, for {source.name}, got {output.name}, which "
            "holds images: reconstruct the scan first"
        )
    scan = load(source, axes=axes, variable=variable, slices=slices, max_bytes=max_bytes)
    doubt = scan.axes_warning or ""
    encode = next((function for suffix, function in _ENCODERS.items() if output.name.lower().endswith(suffix)), None)
    if encode is None:
        return " ".join(part for part in (_write_hdf5(output, scan), doubt) if part)
    try:
        encoded = encode(scan)
    except OSError as error:
        raise unwritable(output, error) from error
    # The written file names its axes, so that nobody is asked about them again.
    return ". ".join(part for part in (write_encoded(output, encoded), doubt) if part)


def _convert_result(source: Path, output: Path, like: str | Path | None, max_bytes: int) -> str:
    result = read_saved(source, max_bytes=max_bytes)
    check_holds(output, result.image.shape, {**result.metadata, "file": source.name})
    if like is not None:
        result = replace(result, tags=read_tags(like))
    noted = replace(result, metadata=_with_notice(result.metadata))
    return write_encoded(output, encode_saved(output, identified(noted, source)))


def _with_notice(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {**metadata, "notice": notice_of(metadata)}


def _write_hdf5(output: Path, scan: Scan) -> str:
    padding = scan.meta.get("padding")
    attributes = {key: scan.meta[key] for key in _KEPT if isinstance(scan.meta.get(key), str | bool | int | float)}
    save_scan(
        output,
        scan.samples,
        target=scan.reference,
        mask=scan.mask,
        recon_size=scan.recon_size,
        padding=None if padding is None else (int(padding[0]), int(padding[1])),
        acquisition=scan.meta.get("acquisition"),
        patient_id=scan.meta.get("patient_id"),
        geometry=scan.geometry,
        attributes=attributes,
    )
    return ""


def _to_npy(scan: Scan) -> Encoded:
    buffer = io.BytesIO()
    np.save(buffer, scan.samples, allow_pickle=False)
    return Encoded(buffer.getbuffer(), _left_out(scan, ".npy", mask=False))


def _to_npz(scan: Scan) -> Encoded:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, kspace=scan.samples, **_mask(scan))
    return Encoded(buffer.getbuffer(), _left_out(scan, ".npz", mask=True))


def _to_mat(scan: Scan) -> Encoded:
    from scipy.io import savemat

    if scan.samples.nbytes > _MAX_MAT:
        raise OutputError(
            f"cannot write .mat: it holds at most {_MAX_MAT} bytes an array, the k-space takes {scan.samples.nbytes}: "
            "choose .h5"
        )
    buffer: Any = io.BytesIO()  # the types of SciPy allow file names only
    savemat(buffer, {"kspace": scan.samples.transpose(2, 3, 1, 0), **_mask(scan)}, format="5", oned_as="row")
    return Encoded(buffer.getbuffer(), _left_out(scan, ".mat", mask=True))


def _to_bart(scan: Scan) -> Encoded:
    comment = f"mri-recon: {scan.meta.get('format', 'array')}. {notice_of(scan.meta)}"
    content, beside = cfl_content(scan.samples, comment)
    return Encoded(content, _left_out(scan, ".cfl", mask=False), beside)


def _mask(scan: Scan) -> dict[str, Any]:
    return {} if scan.mask is None else {"mask": scan.mask.array.astype(np.uint8)}


def _left_out(scan: Scan, suffix: str, *, mask: bool) -> str:
    """Name what the scan has and a format of arrays alone does not hold."""
    parts = [
        ("the mask", scan.mask is not None and not mask),
        ("the geometry", scan.geometry is not None),
        ("the reference", scan.reference is not None),
        ("the reconstruction size", scan.recon_size != scan.samples.shape[-2:]),
        ("the name of the sequence", bool(scan.meta.get("acquisition"))),
        ("that it is SIMULATED", bool(scan.meta.get("simulated"))),
        ("that no picture of it may be drawn", bool(scan.meta.get(NO_PICTURES))),
    ]
    missing = [name for name, there in parts if there]
    return f"{suffix} leaves out {', '.join(missing)}: .h5 holds everything" if missing else ""


_ENCODERS: dict[str, Callable[[Scan], Encoded]] = {
    ".npy": _to_npy,
    ".npz": _to_npz,
    ".mat": _to_mat,
    ".cfl": _to_bart,
    ".mrd": encode_raw,
}

KSPACE_SUFFIXES = (*SCAN_SUFFIXES, *_ENCODERS)
"""Suffixes of the formats that hold k-space."""

CONVERT_SUFFIXES = RESULT_SUFFIXES
"""Suffixes that `convert` accepts: those of images, which include those of k-space."""
