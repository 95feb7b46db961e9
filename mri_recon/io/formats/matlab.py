"""Read MATLAB v5 `.mat`: only numeric arrays, whose sizes are checked before SciPy reads the chosen one.

A v5 file consists of a header of 128 bytes and one element (type, length, content) for each variable; since version 7
each element is deflated. The first bytes of an element hold name, class and size, and are read with bounds. Only the
chosen element is unpacked, no further than its declared length, and SciPy decodes it.
"""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.reading.axes import MATLAB_ORDER, find_layout
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES, check_compression, check_declared, show
from mri_recon.io.reading.slices import Slices, chosen_slices, slices_meta
from mri_recon.io.reading.variables import MASK_NAME, with_own_mask
from mri_recon.io.scan import RawScan

__all__ = ["mat_arrays", "read_mat", "refuse_other"]

_HEADER_SIZE = 128
_MATRIX, _COMPRESSED = 14, 15  # types of an element at the top level
_INT8, _INT32, _UINT32 = 1, 5, 6  # types of its parts
_CLASSES = {1: "cell", 2: "struct", 3: "object", 4: "text", 5: "sparse", 16: "function", 17: "opaque"}
_ITEMSIZE = {6: 8, 7: 4, 8: 1, 9: 1, 10: 2, 11: 2, 12: 4, 13: 4, 14: 8, 15: 8}  # double, single, int8 ... uint64
_STORED = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # bytes of a number by the type of its part
_COMPLEX_FLAG = 0x0800
_MAX_VARIABLES = 4096
_HEAD = 4096
_Bytes = TypeVar("_Bytes", bytes, memoryview)
_DAMAGED = "is damaged or cut short: copy or export it again"


@dataclass(frozen=True)
class _Variable:
    name: str
    kind: str
    """Kind of the variable: "numeric" or another class."""
    shape: tuple[int, ...]
    itemsize: int
    offset: int
    """Position of the element's content in the file."""
    stored: int
    """Length of the content in the file, in bytes."""
    compressed: bool


def read_mat(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read a MATLAB v5 file; an array `mask` beside the k-space becomes the mask of the scan. See `mri_recon.io.load`.

    Real and imaginary parts of an array are stored separately and compressed as a whole. The whole array is therefore
    read, and then reduced to `slices`.
    """

    def choose(names: Sequence[str], other: dict[str, str]) -> list[str]:
        refuse_other(variable, names, other, path)
        return with_own_mask(names, variable, where=path.name)

    arrays = mat_arrays(path, choose, max_bytes=max_bytes)
    name, array = next(iter(arrays.items()))
    mask = arrays.get(MASK_NAME) if name != MASK_NAME else None
    layout = find_layout(array.shape, array.dtype, axes, MATLAB_ORDER, where=f"{show(name)} of {path.name}")
    count = layout.length("slice", array.shape)
    indices = chosen_slices(slices, count, where=path.name)
    kspace = layout.arrange(array)
    meta: dict[str, Any] = {"format": "MATLAB v5", "file": path.name, "variable": name, **layout.meta()}
    if indices is not None:
        kspace = kspace[indices]
    meta |= slices_meta(indices, count)
    return RawScan(kspace, name=path.name, mask=mask, meta=meta)


def refuse_other(variable: str | None, numeric: Sequence[str], other: Mapping[str, str], path: Path) -> None:
    """Refuse a variable that exists but is not numeric, and a file without numeric variables.

    Raises:
        FormatError: `variable` is in `other`, which names its class; or `variable` is None and `numeric` is empty.
    """
    if variable is None and other and not set(numeric) - {MASK_NAME}:
        found = ", ".join(f"{show(name)} ({kind})" for name, kind in list(other.items())[:20])
        raise FormatError(
            f"expected an array of k-space in {path.name}, found {found}: take the array out of it and save it alone, "
            "e.g. in MATLAB kspace = data.kspace; save('kspace.mat', 'kspace')"
        )
    if variable is not None and variable in other:
        raise FormatError(
            f"expected numbers in {show(variable)} of {path.name}, got {other[variable]}: save an array",
            argument="variable",
        )


def mat_arrays(
    path: Path, choose: Callable[[Sequence[str], dict[str, str]], Sequence[str]], *, max_bytes: int = DEFAULT_MAX_BYTES
) -> dict[str, npt.NDArray[Any]]:
    """Read some numeric arrays of a MATLAB v5 file.

    Args:
        path: the file.
        choose: returns the names to read, in order, given the names of numeric arrays, and the other names with their
            class.
        max_bytes: largest array to read.

    Raises:
        FormatError: damaged, another version, too large, or not numeric.
    """
    with path.open("rb") as stream:
        order = _byte_order(stream.read(_HEADER_SIZE), path)
        found = {one.name: one for one in _scan_variables(stream, order, path)}
        numeric = [name for name, one in found.items() if one.kind == "numeric"]
        other = {name: one.kind for name, one in found.items() if one.kind != "numeric"}
        return {name: _read(stream, found[name], order, path, max_bytes) for name in choose(numeric, other)}


def _byte_order(header: bytes, path: Path) -> str:
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
    if len(header) < _HEADER_SIZE or order is None:
        raise FormatError(f"expected a MATLAB v5 file, got {path.name}, which {_DAMAGED}")
    if struct.unpack(f"{order}H", header[124:126])[0] != 0x0100:
        raise FormatError(f"expected a MATLAB v5 file, {path.name} has another version: save it with -v7 or as .npy")
    return order


def _scan_variables(stream: IO[bytes], order: str, path: Path) -> list[_Variable]:
    """List every variable of the file, from the first bytes of each element."""
    end = os.fstat(stream.fileno()).st_size
    found: list[_Variable] = []
    offset = _HEADER_SIZE
    while offset < end:
        if len(found) >= _MAX_VARIABLES:
            raise FormatError(
                f"expected at most {_MAX_VARIABLES} variables in {path.name}, found more: save the k-space alone"
            )
        stream.seek(offset)
        tag = stream.read(8)
        if len(tag) < 8:
            raise FormatError(f"expected a MATLAB v5 file, got {path.name}, which {_DAMAGED}")
        kind, length = struct.unpack(f"{order}II", tag)
        if kind not in (_MATRIX, _COMPRESSED) or length > end - offset - 8:
            raise FormatError(f"expected a MATLAB v5 file, got {path.name}, which {_DAMAGED}")
        content = stream.read(min(length, _HEAD))
        compressed = kind == _COMPRESSED
        head = _inflate(content, _HEAD, path)[8:] if compressed else content
        found.append(_describe(head, order, path, offset + 8, length, compressed))
        offset += 8 + length
    return found


def _describe(head: bytes, order: str, path: Path, offset: int, stored: int, compressed: bool) -> _Variable:
    """Read class, shape and name from the first parts of a matrix element: flags, dimensions, name."""
    flags, rest = _part(head, order, _UINT32, path)
    if len(flags) < 8:
        raise FormatError(f"expected a MATLAB v5 file, got {path.name}, which {_DAMAGED}")
    word = struct.unpack(f"{order}I", flags[:4])[0]
    code, is_complex = word & 0xFF, bool(word & _COMPLEX_FLAG)
    kind = "numeric" if code in _ITEMSIZE else _CLASSES.get(code, "an unknown class")
    if code == 17:  # an opaque object has no dimensions, and its name comes next
        return _Variable("", kind, (), 0, offset, stored, compressed)
    dimensions, rest = _part(rest, order, _INT32, path)
    name, _ = _part(rest, order, _INT8, path)
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions[: len(dimensions) // 4 * 4])
    if not shape or min(shape) < 0:
        raise FormatError(f"expected a MATLAB v5 file, {path.name} declares shape {shape}: it is damaged")
    itemsize = _ITEMSIZE.get(code, 0) * (2 if is_complex else 1)
    return _Variable(name.decode("latin-1"), kind, shape, itemsize, offset, stored, compressed)


def _part(data: _Bytes, order: str, expected: int, path: Path) -> tuple[_Bytes, _Bytes]:
    """Split one part of an element from the rest; short parts share eight bytes with their tag."""
    if len(data) >= 8:
        (word,) = struct.unpack(f"{order}I", data[:4])
        if word >> 16:
            kind, length, start, stop = word & 0xFFFF, word >> 16, 4, 8
        else:
            (length,) = struct.unpack(f"{order}I", data[4:8])
            kind, start, stop = word, 8, 8 + -(-length // 8) * 8
        if kind == expected and start + length <= min(stop, len(data)):
            return data[start : start + length], data[stop:]
    raise FormatError(f"expected a MATLAB v5 file, got {path.name}, which {_DAMAGED}")


def _read(stream: IO[bytes], one: _Variable, order: str, path: Path, max_bytes: int) -> npt.NDArray[Any]:
    where = f"{show(one.name)} of {path.name}"
    size = check_declared(one.shape, one.itemsize, where=where, max_bytes=max_bytes)
    if one.compressed:
        check_compression(math.prod(one.shape), one.stored, where=where)  # numbers may be stored in one byte each
    elif one.stored > size + _HEAD:
        raise FormatError(f"expected {size} bytes in {where}, it holds {one.stored}: it is damaged")
    stream.seek(one.offset)
    content = stream.read(one.stored)
    if one.compressed:
        # The element holds numbers, a name, tags and padding; anything that unpacks to more is not this array.
        element = _inflate(content, size + 2 * _HEAD, path)
        if len(element) > size + _HEAD:
            raise FormatError(
                f"expected {size} bytes in {where}, it unpacks to more: it is damaged or a decompression bomb"
            )
        (declared,) = struct.unpack(f"{order}I", element[4:8])
        if declared != len(element) - 8:
            raise FormatError(f"expected {declared} bytes in {where}, got {len(element) - 8}: it {_DAMAGED}")
    else:
        element = struct.pack(f"{order}II", _MATRIX, one.stored) + content
    _check_numbers(memoryview(element), one, order, path)
    return _decode(element, one, order, where)


def _check_numbers(element: memoryview, one: _Variable, order: str, path: Path) -> None:
    """Refuse numbers of a type that does not exist, for which SciPy would read outside its memory."""
    flags, rest = _part(element[8:], order, _UINT32, path)
    for expected in (_INT32, _INT8):  # dimensions and name
        _, rest = _part(rest, order, expected, path)
    is_complex = bool(struct.unpack(f"{order}I", flags[:4])[0] & _COMPLEX_FLAG)
    for _ in range(2 if is_complex else 1):
        word, length = struct.unpack(f"{order}II", rest[:8]) if len(rest) >= 8 else (0, 0)
        kind, step = word, 8 + -(-length // 8) * 8
        if word >> 16:  # up to four bytes share eight with their tag
            kind, length, step = word & 0xFFFF, word >> 16, 8
        if kind not in _STORED or length != math.prod(one.shape) * _STORED[kind]:
            raise FormatError(f"expected numbers in {show(one.name)} of {path.name}, which {_DAMAGED}")
        rest = rest[step:]


def _decode(element: bytes, one: _Variable, order: str, where: str) -> npt.NDArray[Any]:
    import scipy.io  # imported here, because only this format needs it and its import is slow

    # Our own header, because the file's header may point SciPy to further content.
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = scipy.io.loadmat(cast(Any, io.BytesIO(header + element)))[one.name]  # the stubs allow paths only
    except Exception as error:  # for damaged files, SciPy raises anything from struct.error to MemoryError
        raise FormatError(f"expected numbers in {where}, which {_DAMAGED}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufc" or array.shape != one.shape:
        raise FormatError(f"expected numbers of shape {one.shape} in {where}, got something else: it is damaged")
    return array


def _inflate(data: bytes, limit: int, path: Path) -> bytes:
    """Unpack deflated data to at most `limit` bytes."""
    try:
        return zlib.decompressobj().decompress(data, limit)
    except zlib.error as error:
        raise FormatError(f"expected a MATLAB v5 file, got {path.name}, which {_DAMAGED}") from error
