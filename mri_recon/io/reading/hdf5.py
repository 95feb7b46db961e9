"""Open untrusted HDF5 files without following their references.

HDF5 can name other files in four ways: external links, external storage, virtual datasets and object references. A
reader that follows them reveals files of its own machine. This module first walks the whole tree, through interfaces
that describe a link without following it, and refuses a file with anything but plain content.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.reading.access import cannot_open_hdf5, cannot_read, check_regular
from mri_recon.io.reading.heaps import check_heaps
from mri_recon.io.reading.limits import (
    DEFAULT_MAX_BYTES,
    TooLargeError,
    check_compression,
    check_declared,
    show,
)
from mri_recon.io.reading.pairs import copy_as_complex, pair_fields
from mri_recon.io.reading.stored import check_chunks, check_text, has_odd_numbers

__all__ = [
    "MAX_OBJECTS",
    "check_elements",
    "get_dataset",
    "hdf5_errors",
    "open_hdf5",
    "read_array",
    "read_attribute",
    "read_text",
]

MAX_OBJECTS = 4096
"""Maximum number of objects and links in a file; fastMRI files hold five."""

_ALLOWED_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
    h5py.h5z.FILTER_SZIP,  # if the library was built with it
}
# Errors that h5py raises for damaged files; the kind of error is of no use to the user.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, SystemError)
_MAX_TEXT = 2**20
_MAX_ATTRIBUTE = 2**16
_MIN_CHUNK_LIMIT = 2**26
_SLACK = 4096
# Text never counts as an object: read_text reads one text at a time.
_PLAIN_CLASSES = {h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM, h5py.h5t.STRING}
_NATIVE_COMPLEX = getattr(h5py.h5t, "COMPLEX", None)  # a type of its own since HDF5 2.0


@contextmanager
def open_hdf5(path: str | Path, *, scan: bool = True, foreign: bool = False) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, after checking that it holds only plain arrays and groups.

    Files are refused that have links (soft, external, user-defined), external storage, virtual datasets, filters other
    than gzip, lzf, szip, shuffle and fletcher32, the same filter twice, elements other than numbers, booleans, complex
    pairs and text, chunks far larger than their array, or more than `MAX_OBJECTS` objects.

    Args:
        path: the file.
        scan: also read the whole file once for damage that makes the HDF5 library hang (`check_heaps`). False for many
            large trusted files, of which little is read.
        foreign: accept datasets with other elements (text, references, records), as in MATLAB files, instead of
            refusing the file; `read_array` reads none of them.

    Raises:
        FormatError: no such file, not HDF5, in use by another program, damaged, or any of the above.
    """
    path = Path(path)
    check_regular(path, "an HDF5 file")
    with hdf5_errors(path):
        if scan:
            try:
                check_heaps(path)
            except OSError as error:
                raise cannot_read(path, error) from error
        file = h5py.File(path, "r")
    try:
        with hdf5_errors(path):
            _check_tree(file, path, foreign=foreign)
        yield file
    finally:
        file.close()


@contextmanager
def hdf5_errors(path: Path) -> Iterator[None]:
    """Turn errors of the HDF5 library about a damaged file into a `FormatError`; wraps every read."""
    try:
        yield
    except FormatError:
        raise
    except MemoryError as error:
        raise FormatError(f"expected enough memory for {path.name}, got too little: read some slices only") from error
    except _DAMAGE as error:
        told = cannot_open_hdf5(path, error) if isinstance(error, OSError) else None
        if told is not None:
            raise told from error
        # The library's own message may quote the file, so it stays in the exception chain.
        raise FormatError(
            f"expected a readable HDF5 file, got {path.name}, which is damaged or cut short: copy or export it again"
        ) from error


def get_dataset(file: h5py.Group, name: str) -> h5py.Dataset | None:
    """Get a dataset by its path; None if there is none. Every component of the path must be a hard link.

    Raises:
        FormatError: a link, or a group of that name.
    """
    where = Path(file.file.filename)
    group = file
    parts = [part for part in name.split("/") if part]
    with hdf5_errors(where):
        for number, part in enumerate(parts):
            if not group.id.links.exists(part.encode()):
                return None
            _check_link(group.id, part.encode(), where)
            found = group[part]
            if number == len(parts) - 1 and isinstance(found, h5py.Dataset):
                return found
            if not isinstance(found, h5py.Group):
                return None
            group = found
    raise FormatError(f"expected an array {show(name)} in {where.name}, found a group: this is not a k-space file")


def read_array(
    dataset: h5py.Dataset,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    indices: Sequence[int] | None = None,
    axis: int = 0,
) -> npt.NDArray[Any]:
    """Read a numeric dataset or a part of it, after checking its size. Complex data becomes complex64.

    Args:
        dataset: from a file that `open_hdf5` opened.
        max_bytes: limit for the selected part.
        indices: which entries along `axis` to read, in this order; None for all. Other entries are unpacked only if
            they share a chunk with these.
        axis: axis of `indices`.

    Raises:
        FormatError: too large, not numeric, or damaged.
    """
    path = Path(dataset.file.filename)
    where = f"{show(dataset.name)} of {path.name}"
    with hdf5_errors(path):
        check_elements(dataset)
        kind = dataset.dtype
        is_complex = kind.kind == "c" or pair_fields(kind) is not None
        shape = [int(n) for n in dataset.shape]
        if indices is not None:
            shape[axis] = len(indices)
        check_declared(shape, kind.itemsize, where=where, max_bytes=max_bytes)
        _check_stored(dataset, path, where, max_bytes)
        plain = _as_doubles(kind) or kind.newbyteorder("=")
        out = np.empty(shape, dtype=np.complex64 if is_complex else plain)
        if out.size == 0:
            return out
        if not dataset.shape:
            blocks: Iterator[tuple[Any, Any, Any]] = iter([((), (), ())])
        else:
            blocks = _blocks(dataset, range(dataset.shape[axis]) if indices is None else indices, axis, max_bytes)
        # The HDF5 library distinguishes the many formats of long doubles, NumPy does not; doubles are precise enough.
        wide = _as_doubles(kind)
        readable = dataset if wide is None else dataset.astype(wide)
        for target, source, rows in blocks:
            # Converted block by block, to avoid a whole complex128 array beside its complex64 copy.
            block = np.asarray(readable[source])[rows]
            if is_complex:
                copy_as_complex(out[target], block)
            else:
                out[target] = block
        return out


def _check_stored(dataset: h5py.Dataset, path: Path, where: str, max_bytes: int) -> None:
    """Refuse an array whose stored bytes or chunks do not match its declared size."""
    check_chunks(dataset)
    itemsize = dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    check_compression(math.prod(dataset.shape) * itemsize, stored, where=where)
    if stored > _most_stored(dataset):  # an array of a few bytes, followed by an endless stream
        raise FormatError(
            f"expected at most {_most_stored(dataset)} stored bytes in {where}, got {stored}: it is damaged or a "
            "decompression bomb"
        )
    if stored > path.stat().st_size:
        raise FormatError(f"expected {stored} stored bytes in {where}, the file is shorter: it is cut short")
    chunk = math.prod(dataset.chunks or (0,)) * itemsize
    if chunk > max(_MIN_CHUNK_LIMIT, max_bytes):
        raise TooLargeError(
            f"expected chunks of at most {max_bytes} bytes in {where}, got {chunk}: raise max_bytes", chunk
        )


def _as_doubles(kind: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the type with doubles instead of long doubles; None for a type without long doubles."""
    fields = pair_fields(kind)
    if fields is not None:
        part = _as_doubles(kind[fields[0]])
        return None if part is None else np.dtype([(name, part) for name in kind.names or ()])
    if kind.kind == "f" and kind.itemsize > 8:
        return np.dtype(np.float64)
    return np.dtype(np.complex128) if kind.kind == "c" and kind.itemsize > 16 else None


def check_elements(dataset: h5py.Dataset) -> None:
    """Refuse a dataset whose elements are neither numbers nor records of a real and an imaginary part.

    Raises:
        FormatError: text, references, other records or objects.
    """
    path = Path(dataset.file.filename)
    with hdf5_errors(path):
        sound = _is_plain(dataset.id.get_type())
        kind = dataset.dtype if sound else None
    if kind is None or (kind.kind not in "biufc" and pair_fields(kind) is None):
        got = "records, references or objects" if kind is None else str(kind)
        raise FormatError(
            f"expected numbers in {show(dataset.name)} of {path.name}, got {got}: this is not a k-space file"
        )


def read_text(dataset: h5py.Dataset) -> str:
    """Read a dataset that holds one text.

    Raises:
        FormatError: not one text, longer than a mebibyte, or not UTF-8.
    """
    path = Path(dataset.file.filename)
    where = f"{show(dataset.name)} of {path.name}"
    with hdf5_errors(path):
        if h5py.check_string_dtype(dataset.dtype) is None or math.prod(dataset.shape or ()) != 1:
            raise FormatError(
                f"expected one text in {where}, got {dataset.dtype} of shape {dataset.shape}: store one text"
            )
        if dataset.dtype.itemsize > _MAX_TEXT:
            raise FormatError(
                f"expected at most {_MAX_TEXT} characters in {where}, got {dataset.dtype.itemsize}: shorten it"
            )
        check_chunks(dataset)
        check_text(dataset)
        value = np.asarray(dataset[()]).reshape(-1)[0]
    data = value.encode() if isinstance(value, str) else bytes(value)
    if len(data) > _MAX_TEXT:
        raise FormatError(f"expected at most {_MAX_TEXT} characters in {where}, got {len(data)}: shorten it")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"expected UTF-8 text in {where}, got other bytes: store it as UTF-8") from error


def read_attribute(item: h5py.Group | h5py.Dataset, name: str) -> str | float | int | bool | None:
    """Read an attribute of one number or one short text; None if there is none.

    Raises:
        FormatError: anything else under that name.
    """
    path = Path(item.file.filename)
    with hdf5_errors(path):
        if name not in item.attrs:
            return None
        attribute = item.attrs.get_id(name)
        plain = attribute.get_type().get_class() in _PLAIN_CLASSES
        if not plain or attribute.get_space().get_simple_extent_npoints() != 1:
            raise FormatError(
                f"expected the attribute {show(name)} of {path.name} to be one number or text: "
                "store it so, or delete it"
            )
        if attribute.get_storage_size() > _MAX_ATTRIBUTE:
            raise FormatError(
                f"expected a short attribute {show(name)} in {path.name}, got a very long one: shorten or delete it"
            )
        value = np.asarray(item.attrs[name]).reshape(-1)[0]
    if isinstance(value, bytes | str):
        return _plain_text(value)
    number: float | int | bool = value.item()
    return number


def _plain_text(value: bytes | str) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return "".join(character for character in text[:_MAX_ATTRIBUTE] if character.isprintable())


def _most_stored(dataset: h5py.Dataset) -> int:
    """Bound the stored size of an array's chunks, in full size at the border too, under any of the allowed filters."""
    shape, itemsize = [int(n) for n in dataset.shape], int(dataset.dtype.itemsize)
    chunks = [int(n) for n in dataset.chunks or ()]
    if not chunks:
        return math.prod(shape) * itemsize + _SLACK
    count = math.prod(-(-n // c) for n, c in zip(shape, chunks, strict=True))
    return count * (math.prod(chunks) * itemsize * 2 + _SLACK)


def _blocks(
    dataset: h5py.Dataset, indices: Sequence[int], axis: int, max_bytes: int
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]]:
    """Yield (target, source, selection in the source) along an axis, without unpacking a chunk twice for neighbours."""
    length = max(1, dataset.chunks[axis] if dataset.chunks else 1)
    row = math.prod(dataset.shape) // dataset.shape[axis] * dataset.dtype.itemsize
    if length * row > max_bytes:
        length = 1
    before = (slice(None),) * axis
    start = 0
    while start < len(indices):
        stop = start + 1
        while stop < len(indices) and indices[stop] // length == indices[start] // length:
            stop += 1
        part = np.asarray(indices[start:stop])
        first, last = int(part.min()), int(part.max())
        together = last - first + 1 == len(part) and bool((np.diff(part) == 1).all())
        rows = slice(None) if together else part - first
        yield (*before, slice(start, stop)), (*before, slice(first, last + 1)), (*before, rows)
        start = stop


# ---------------------------------------------------------------------------------------------- the walk


def _check_tree(file: h5py.File, path: Path, *, foreign: bool) -> None:
    pending: list[Any] = [file.id]
    seen: set[int] = set()
    links = 0
    while pending:
        group = pending.pop()
        links += group.get_num_objs()
        if links > MAX_OBJECTS:
            raise FormatError(
                f"expected at most {MAX_OBJECTS} objects in {path.name}, found more: this is not a k-space file"
            )
        names: list[bytes] = []
        group.links.iterate(names.append)
        for name in names:
            _check_link(group, name, path)
            item = h5py.h5o.open(group, name)  # a hard link, whose object lies in this file
            address = h5py.h5o.get_info(item).addr
            if address in seen:
                continue  # hard links may form cycles
            seen.add(address)
            if isinstance(item, h5py.h5d.DatasetID):
                _check_dataset(item, name, path, foreign=foreign)
            elif isinstance(item, h5py.h5g.GroupID):
                pending.append(item)


def _check_link(group: Any, name: bytes, path: Path) -> None:
    if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise FormatError(
            f"expected plain arrays in {path.name}, got the link {show(name)}: links are not followed, copy the data in"
        )


def _check_dataset(dataset: Any, name: bytes, path: Path, *, foreign: bool) -> None:
    where = f"{show(name)} of {path.name}"
    plist = dataset.get_create_plist()
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        raise FormatError(f"expected an array stored in the file, {where} is a virtual dataset: copy the data in")
    if plist.get_external_count() > 0:
        raise FormatError(f"expected an array stored in the file, {where} has external storage: copy the data in")
    codes = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
    for code in codes:
        if code not in _ALLOWED_FILTERS or not h5py.h5z.filter_avail(code):
            raise FormatError(
                f"expected gzip, lzf, szip or no compression, {where} uses the HDF5 filter {code}: "
                "store it again with h5repack -f GZIP=4"
            )
    if len(set(codes)) < len(codes):  # gzip in gzip unpacks to a million times its size
        raise FormatError(f"expected each filter once, {where} has one twice: store it again with h5repack -f GZIP=4")
    kind = dataset.get_type()
    if has_odd_numbers(kind):
        raise FormatError(
            f"expected integers and IEEE floats, {where} has numbers in another binary format: it is damaged, or store "
            "it again as float32"
        )
    if not foreign and not _is_plain(kind):
        raise FormatError(
            f"expected arrays of numbers or text, {where} has records, references or objects: "
            "convert it to arrays of numbers first"
        )
    if plist.get_layout() == h5py.h5d.CHUNKED:
        chunk = math.prod(plist.get_chunk()) * kind.get_size()
        if chunk > max(_MIN_CHUNK_LIMIT, math.prod(dataset.shape) * kind.get_size()):
            raise FormatError(
                f"expected chunks no larger than the array, {where} has chunks of {chunk} bytes: it is damaged"
            )


def _is_plain(kind: Any) -> bool:
    code = kind.get_class()
    if code in _PLAIN_CLASSES or (_NATIVE_COMPLEX is not None and code == _NATIVE_COMPLEX):
        return True
    # Complex numbers are records of two numbers of one type; h5py reads floats named r and i as complex.
    if code != h5py.h5t.COMPOUND or kind.get_nmembers() != 2:
        return False
    if {kind.get_member_class(index) for index in range(2)} - {h5py.h5t.INTEGER, h5py.h5t.FLOAT}:
        return False
    return bool(kind.dtype.kind == "c") or pair_fields(kind.dtype) is not None
