"""NumPy `.npy` and `.npz`: headers and sizes are checked before memory is taken, pickles are never loaded."""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.axes import C_ORDER, arrange, parse_axes
from mri_recon.io.limits import DEFAULT_MAX_BYTES, check_compression, check_declared, show
from mri_recon.io.scan import RawScan
from mri_recon.io.variables import MASK_NAME, with_own_mask

__all__ = ["npy_array", "npz_arrays", "read_npy", "read_npz"]

_MAX_MEMBERS = 1024
_MAX_HEADER = 10_000  # characters, as NumPy has it; the longest header of a plain array has some hundred
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
    array = npy_array(path, max_bytes=max_bytes)
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

    def choose(names: Sequence[str]) -> list[str]:
        return with_own_mask(names, variable, where=path.name)

    arrays = npz_arrays(path, choose, max_bytes=max_bytes)
    name, array = next(iter(arrays.items()))
    mask = arrays.get(MASK_NAME) if name != MASK_NAME else None
    where = f"{show(name)} of {path.name}"
    return _scan(array, path, axes=axes, slices=slices, where=where, format="NumPy .npz", variable=name, mask=mask)


def npy_array(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> npt.NDArray[Any]:
    """The array of a `.npy` file.

    Raises:
        FormatError: damaged, too large, or not of numbers.
    """
    with path.open("rb") as stream:
        return _read_array(stream, where=path.name, size=os.fstat(stream.fileno()).st_size, max_bytes=max_bytes)


def npz_arrays(
    path: Path, choose: Callable[[Sequence[str]], Sequence[str]], *, max_bytes: int = DEFAULT_MAX_BYTES
) -> dict[str, npt.NDArray[Any]]:
    """Some arrays of a `.npz` file.

    Args:
        path: the file.
        choose: the names to read, in order, out of the sorted names that there are.
        max_bytes: largest array to take.

    Raises:
        FormatError: damaged, entries that share a name or bytes of the file, too large, or not of numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MAX_MEMBERS:
                raise FormatError(f"expected at most {_MAX_MEMBERS} arrays in {path.name}, got {len(members)}")
            _check_disjoint(members, path)
            found = {m.filename.removesuffix(".npy"): m for m in members if m.filename.endswith(".npy")}
            return {name: _read_member(archive, found[name], path, max_bytes) for name in choose(sorted(found))}
    except _ZIP_DAMAGE as error:
        raise FormatError(
            f"expected a NumPy archive, got {path.name}, which is damaged, encrypted or cut short"
        ) from error


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


def _check_disjoint(members: Sequence[zipfile.ZipInfo], path: Path) -> None:
    """Entries that overlap unpack the same bytes again and again; two of one name are two answers to one question."""
    if len({member.filename for member in members}) < len(members):
        raise FormatError(f"expected each array of {path.name} once, got two of one name: save it again")
    end = 0
    for member in sorted(members, key=lambda one: one.header_offset):
        if member.header_offset < end:
            raise FormatError(f"expected arrays beside each other in {path.name}, they overlap: it is a bomb")
        end = member.header_offset + member.compress_size


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
        first = version == (1, 0)
        length = stream.read(2 if first else 4)
        count = int.from_bytes(length, "little")
        if count > _MAX_HEADER:  # NumPy would read it all before it looks at the length
            raise ValueError(f"header of {count} bytes")
        header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(io.BytesIO(length + stream.read(count)))
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
