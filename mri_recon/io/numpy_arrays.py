"""NumPy `.npy` and `.npz`: headers and sizes are checked before memory is taken, pickles are never loaded."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.axes import C_ORDER, arrange, parse_axes
from mri_recon.io.limits import DEFAULT_MAX_BYTES, check_compression, check_declared, show
from mri_recon.io.scan import RawScan
from mri_recon.io.variables import MASK_NAME, pick_variable

__all__ = ["read_npy", "read_npz"]

_MAX_MEMBERS = 1024
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    zlib.error,
)


def read_npy(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: slice = slice(None),
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """What a `.npy` file holds; see `mri_recon.io.load`."""
    if variable is not None:
        raise FormatError(
            f"expected no variable for {path.name}, got {variable!r}: a .npy file holds one array, leave it out"
        )
    with path.open("rb") as stream:
        array = _read_array(stream, where=path.name, size=os.fstat(stream.fileno()).st_size, max_bytes=max_bytes)
    return _scan(array, path, axes=axes, slices=slices, where=path.name, format="NumPy .npy")


def read_npz(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: slice = slice(None),
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """What a `.npz` file holds; an array named `mask` beside the k-space is the scan's own. See `mri_recon.io.load`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MAX_MEMBERS:
                raise FormatError(f"expected at most {_MAX_MEMBERS} arrays in {path.name}, got {len(members)}")
            found = {m.filename.removesuffix(".npy"): m for m in members if m.filename.endswith(".npy")}
            name = pick_variable(sorted(found), variable, where=path.name)
            array = _read_member(archive, found[name], path, max_bytes)
            has_mask = MASK_NAME in found and name != MASK_NAME
            mask = _read_member(archive, found[MASK_NAME], path, max_bytes) if has_mask else None
    except _ZIP_DAMAGE as error:
        raise FormatError(
            f"expected a NumPy archive, got {path.name}, which is damaged, encrypted or cut short"
        ) from error
    where = f"{show(name)} of {path.name}"
    return _scan(array, path, axes=axes, slices=slices, where=where, format="NumPy .npz", variable=name, mask=mask)


def _scan(
    array: npt.NDArray[Any],
    path: Path,
    *,
    axes: str | None,
    slices: slice,
    where: str,
    format: str,
    variable: str | None = None,
    mask: npt.NDArray[Any] | None = None,
) -> RawScan:
    if array.dtype.kind != "c":
        raise FormatError(
            f"expected complex k-space in {where}, got {array.dtype} of shape {array.shape}: save complex64 "
            "(a last axis of real and imaginary part is not joined: that would be a guess)"
        )
    names = parse_axes(axes, array.shape, C_ORDER, where=where)
    meta: dict[str, Any] = {
        "format": format,
        "file": path.name,
        "axes": " ".join(names),
        "axes_assumed": axes is None,
    }
    if variable is not None:
        meta["variable"] = variable
    return RawScan(arrange(array, names)[slices], name=path.name, mask=mask, meta=meta)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, max_bytes: int) -> npt.NDArray[Any]:
    where = f"{show(member.filename)} of {path.name}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FormatError(
            f"expected a stored or deflated array, {where} is packed otherwise: use numpy.savez_compressed"
        )
    check_compression(member.file_size, member.compress_size, where=where)
    with archive.open(member) as stream:
        return _read_array(stream, where=where, size=member.file_size, max_bytes=max_bytes)


def _read_array(stream: IO[bytes], *, where: str, size: int, max_bytes: int) -> npt.NDArray[Any]:
    """One array in NumPy's format out of a stream that holds `size` bytes."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"version {version}")
        # Versions 2 and 3 differ in the encoding of field names, which numbers do not have.
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile):
        raise  # of the archive that the array lies in
    except Exception as error:  # NumPy parses the header as Python: tokenizer and parser have errors of their own
        raise FormatError(
            f"expected an array in NumPy's format in {where}, got something else: it is damaged"
        ) from error
    if dtype.hasobject:
        raise FormatError(
            f"expected numbers in {where}, got pickled objects, which are never loaded: save a plain array"
        )
    if dtype.kind not in "biufc":
        raise FormatError(
            f"expected numbers in {where}, got elements of another kind ({dtype.kind}): save a plain array"
        )
    if any(n < 0 for n in shape):
        raise FormatError(f"expected a shape, {where} declares {shape}: it is damaged")
    check_declared(shape, dtype.itemsize, where=where, max_bytes=max_bytes)
    count = math.prod(shape)
    if count * dtype.itemsize > size:
        raise FormatError(
            f"expected {count * dtype.itemsize} bytes for shape {shape} in {where}, it holds {size}: it is cut short"
        )
    flat = np.empty(count, dtype=dtype)
    _fill(stream, flat, where)
    return flat.reshape(shape, order="F" if fortran else "C")


def _fill(stream: IO[bytes], flat: npt.NDArray[Any], where: str) -> None:
    view = flat.view(np.uint8).data
    done = 0
    while done < len(view):
        block = stream.read(min(len(view) - done, 2**24))
        if not block:
            raise FormatError(f"expected {len(view)} bytes in {where}, got {done}: it is cut short")
        view[done : done + len(block)] = block
        done += len(block)
