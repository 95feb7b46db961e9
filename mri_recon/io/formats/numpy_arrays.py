"""Read NumPy `.npy` and `.npz`; check headers and sizes before allocating memory, and never load pickles."""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.reading.axes import C_ORDER, Layout, find_layout
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES, check_compression, check_declared, show
from mri_recon.io.reading.pairs import pair_fields
from mri_recon.io.reading.slices import Slices, chosen_slices, slices_meta
from mri_recon.io.reading.variables import with_own_mask
from mri_recon.io.scan import RawScan

__all__ = ["npy_array", "npz_arrays", "read_npy", "read_npz"]

_MAX_MEMBERS = 1024
_MAX_HEADER = 10_000  # characters, the limit of NumPy; the header of a plain array has at most some hundred
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    UnicodeDecodeError,
    EOFError,
    OSError,
    zlib.error,
)


def read_npy(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read a `.npy` file, or only `slices` of it; see `mri_recon.io.load`."""
    if variable is not None:
        raise FormatError(
            f"expected no variable for {path.name}, got {variable!r}: a .npy file holds one array, leave it out",
            argument="variable",
        )
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        declared = _declared(stream, where=path.name, size=size, max_bytes=max_bytes)
        chosen = _choose(declared, axes, slices, path, path.name)
        array = _selected(stream, declared, chosen, where=path.name, max_bytes=max_bytes, mapped=path)
    return _scan(array, path, chosen, format="NumPy .npy")


def read_npz(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read a `.npz` file; an array `mask` beside the k-space becomes the mask of the scan. See `mri_recon.io.load`."""
    with _archive(path) as (archive, members):
        if not members:
            raise FormatError(
                f"expected arrays in {path.name}, a ZIP file, found none: give the k-space itself; DICOM images, for "
                "one, hold none"
            )
        name, *own = with_own_mask(sorted(members), variable, where=path.name)
        where = f"{show(name)} of {path.name}"
        with _member(archive, members[name], path) as (stream, size, inside):
            declared = _declared(stream, where=inside, size=size, max_bytes=max_bytes)
            chosen = _choose(declared, axes, slices, path, where)
            array = _selected(stream, declared, chosen, where=inside, max_bytes=max_bytes)
        masks = [_read_member(archive, members[other], path, max_bytes) for other in own]
    return _scan(array, path, chosen, format="NumPy .npz", variable=name, mask=masks[0] if masks else None)


def npy_array(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> npt.NDArray[Any]:
    """Read the array of a `.npy` file.

    Raises:
        FormatError: damaged, too large, or not numeric.
    """
    with path.open("rb") as stream:
        declared = _declared(stream, where=path.name, size=os.fstat(stream.fileno()).st_size, max_bytes=max_bytes)
        return _whole(stream, declared, where=path.name, max_bytes=max_bytes)


def npz_arrays(
    path: Path, choose: Callable[[Sequence[str]], Sequence[str]], *, max_bytes: int = DEFAULT_MAX_BYTES
) -> dict[str, npt.NDArray[Any]]:
    """Read some arrays of a `.npz` file.

    Args:
        path: the file.
        choose: returns the names to read, in order, given the sorted names of the file.
        max_bytes: largest array to read.

    Raises:
        FormatError: damaged, entries that share a name or bytes of the file, too large, or not numeric.
    """
    with _archive(path) as (archive, members):
        return {name: _read_member(archive, members[name], path, max_bytes) for name in choose(sorted(members))}


@dataclass(frozen=True)
class _Declared:
    """Read the header of an array, and find the beginning of its content."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int


@dataclass(frozen=True)
class _Chosen:
    """Find the layout of an array, and the slices to read from it; None for all."""

    layout: Layout
    count: int
    indices: list[int] | None


def _choose(declared: _Declared, axes: str | None, slices: Slices | None, path: Path, where: str) -> _Chosen:
    layout = find_layout(declared.shape, declared.dtype, axes, C_ORDER, where=where)
    count = layout.length("slice", declared.shape)
    return _Chosen(layout, count, chosen_slices(slices, count, where=path.name))


@contextmanager
def _archive(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open an archive and list its arrays by name; errors of zipfile about damage become a `FormatError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MAX_MEMBERS:
                raise FormatError(
                    f"expected at most {_MAX_MEMBERS} arrays in {path.name}, got {len(members)}: save fewer"
                )
            _check_disjoint(members, path)
            yield archive, {m.filename.removesuffix(".npy"): m for m in members if m.filename.endswith(".npy")}
    except _ZIP_DAMAGE as error:
        raise FormatError(
            f"expected a NumPy archive, got {path.name}, which is damaged, encrypted or cut short: save it again"
        ) from error


def _scan(
    array: npt.NDArray[Any],
    path: Path,
    chosen: _Chosen,
    *,
    format: str,
    variable: str | None = None,
    mask: npt.NDArray[Any] | None = None,
) -> RawScan:
    meta: dict[str, Any] = {"format": format, "file": path.name, **chosen.layout.meta()}
    if variable is not None:
        meta["variable"] = variable
    meta |= slices_meta(chosen.indices, chosen.count)
    return RawScan(chosen.layout.arrange(array), name=path.name, mask=mask, meta=meta)


def _check_disjoint(members: Sequence[zipfile.ZipInfo], path: Path) -> None:
    """Refuse overlapping entries, which unpack the same bytes repeatedly, and ambiguous entries of one name."""
    if len({member.filename for member in members}) < len(members):
        raise FormatError(f"expected each array of {path.name} once, got two of one name: save it again")
    end = 0
    for member in sorted(members, key=lambda one: one.header_offset):
        if member.header_offset < end:
            raise FormatError(f"expected arrays beside each other in {path.name}, they overlap: it is a bomb")
        end = member.header_offset + member.compress_size


@contextmanager
def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Iterator[tuple[IO[bytes], int, str]]:
    """Open the content of an archive's array; give its size and its name for messages."""
    where = f"{show(member.filename)} of {path.name}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FormatError(
            f"expected a stored or deflated array, {where} is packed otherwise: use numpy.savez_compressed"
        )
    check_compression(member.file_size, member.compress_size, where=where)
    with archive.open(member) as stream:
        yield stream, member.file_size, where


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, max_bytes: int) -> npt.NDArray[Any]:
    with _member(archive, member, path) as (stream, size, where):
        declared = _declared(stream, where=where, size=size, max_bytes=max_bytes)
        return _whole(stream, declared, where=where, max_bytes=max_bytes)


def _declared(stream: IO[bytes], *, where: str, size: int, max_bytes: int) -> _Declared:
    """Read the header of an array in NumPy's format from a stream of `size` bytes; check every size in it."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"version {version}")
        # Versions 2 and 3 differ only in the encoding of field names, which numeric arrays do not have.
        first = version == (1, 0)
        length = stream.read(2 if first else 4)
        count = int.from_bytes(length, "little")
        if count > _MAX_HEADER:  # NumPy would read the whole header before it checks the length
            raise ValueError(f"header of {count} bytes")
        header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(io.BytesIO(length + stream.read(count)))
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile):
        raise  # of the archive that contains the array
    except Exception as error:  # NumPy parses the header as Python, whose tokenizer and parser raise further errors
        raise FormatError(
            f"expected an array in NumPy's format in {where}, got something else: it is damaged"
        ) from error
    if dtype.hasobject:
        raise FormatError(
            f"expected numbers in {where}, got pickled objects, which are never loaded: save a plain array"
        )
    if dtype.kind not in "biufc" and pair_fields(dtype) is None:
        raise FormatError(
            f"expected numbers in {where}, got elements of another kind ({dtype.kind}): save a plain array"
        )
    if any(n < 0 for n in shape):
        raise FormatError(f"expected a shape, {where} declares {shape}: it is damaged")
    offset = len(np.lib.format.MAGIC_PREFIX) + 2 + len(length) + count
    needed = math.prod(shape) * dtype.itemsize
    if needed > size:
        # A shape that is far too large is refused by its size, whatever the file holds.
        check_declared(shape, dtype.itemsize, where=where, max_bytes=max_bytes)
        raise FormatError(f"expected {needed} bytes for shape {shape} in {where}, it holds {size}: it is cut short")
    return _Declared(tuple(shape), fortran, dtype, offset)


def _selected(
    stream: IO[bytes], declared: _Declared, chosen: _Chosen, *, where: str, max_bytes: int, mapped: Path | None = None
) -> npt.NDArray[Any]:
    """Read the array or the chosen slices of it; contiguous slices are read without the rest.

    Args:
        stream: positioned behind the header of the array.
        declared: type, shape and order from the header.
        chosen: which slices to read.
        where: the array and its file, for messages.
        max_bytes: limit for the data that are read.
        mapped: the `.npy` file; slices that are not contiguous are read from it through a memory map.
    """
    indices, axis, shape = chosen.indices, chosen.layout.slice_axis, declared.shape
    if indices is None:
        return _whole(stream, declared, where=where, max_bytes=max_bytes)
    if axis is None:
        array = _whole(stream, declared, where=where, max_bytes=max_bytes)
        if len(indices) > 1:
            raise FormatError(f"expected one slice of {where}, which has no others, got {indices}: leave slices out")
        return array
    wanted = (*shape[:axis], len(indices), *shape[axis + 1 :])
    if axis == (len(shape) - 1 if declared.fortran else 0):
        check_declared(wanted, declared.dtype.itemsize, where=where, max_bytes=max_bytes)
        row = math.prod(shape) // shape[axis]
        rows = np.empty((len(indices), row), dtype=declared.dtype)
        for place in sorted(range(len(indices)), key=indices.__getitem__):  # forwards, as in compressed data
            stream.seek(declared.offset + indices[place] * row * declared.dtype.itemsize)
            _fill(stream, rows[place], where)
        if declared.fortran:
            return rows.T.reshape(wanted, order="F")
        return rows.reshape(wanted)
    if mapped is not None:
        check_declared(wanted, declared.dtype.itemsize, where=where, max_bytes=max_bytes)
        if mapped.stat().st_size < declared.offset + math.prod(shape) * declared.dtype.itemsize:
            raise FormatError(f"expected an array of shape {shape} in {where}, the file is shorter: it is cut short")
        order: Literal["C", "F"] = "F" if declared.fortran else "C"
        content = np.memmap(mapped, declared.dtype, mode="r", offset=declared.offset, shape=shape, order=order)
        return np.take(content, indices, axis=axis)
    return np.take(_whole(stream, declared, where=where, max_bytes=max_bytes), indices, axis=axis)


def _whole(stream: IO[bytes], declared: _Declared, *, where: str, max_bytes: int) -> npt.NDArray[Any]:
    check_declared(declared.shape, declared.dtype.itemsize, where=where, max_bytes=max_bytes)
    flat = np.empty(math.prod(declared.shape), dtype=declared.dtype)
    _fill(stream, flat, where)
    return flat.reshape(declared.shape, order="F" if declared.fortran else "C")


def _fill(stream: IO[bytes], flat: npt.NDArray[Any], where: str) -> None:
    view = flat.view(np.uint8).data
    done = 0
    while done < len(view):
        block = stream.read(min(len(view) - done, 2**24))
        if not block:
            raise FormatError(f"expected {len(view)} bytes in {where}, got {done}: it is cut short")
        view[done : done + len(block)] = block
        done += len(block)
