"""Check where the parts of an HDF5 array are stored, before the library reads them.

The library believes what the index of an array says. A chunk of fewer bytes than its filter needs ends the process, and
so may a list of variable length whose declared length is not that of the stored object: memory for the declared one is
taken, and converted, before the two are compared. So may records of numbers in a format that no machine has.
"""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.reading.limits import show

__all__ = ["Records", "check_chunks", "check_text", "has_odd_numbers", "open_records"]

_NEEDS = {h5py.h5z.FILTER_FLETCHER32: 4, h5py.h5z.FILTER_SZIP: 4}  # bytes that a filter reads of any chunk
_UNPACKED = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
_HEAP, _HEAP_HEAD = b"GCOL\x01\x00\x00\x00", 16
_REFERENCE = np.dtype([("length", "<u4"), ("place", "<u8"), ("number", "<u4")])  # place of the heap, number in it
_MAX_CHUNK = 2**28
_FLOATS = (
    (2, (15, 10, 5, 0, 10), 15),
    (2, (15, 7, 8, 0, 7), 127),  # bfloat16
    (4, (31, 23, 8, 0, 23), 127),
    (8, (63, 52, 11, 0, 52), 1023),
)
"""Size, fields (positions and sizes of sign, exponent and mantissa) and bias of the exponent, of each kind of float."""


def check_chunks(dataset: h5py.Dataset) -> None:
    """Refuse an array with chunks outside the file, at impossible places, or smaller than their filters need.

    Raises:
        FormatError: as above.
    """
    if dataset.chunks is None or 0 in dataset.shape:
        return
    path = Path(dataset.file.filename)
    end = path.stat().st_size
    plist = dataset.id.get_create_plist()
    codes = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
    kind = dataset.id.get_type()
    whole = math.prod(dataset.chunks) * (_REFERENCE.itemsize if _is_text(kind) else kind.get_size())
    shape, chunks = dataset.shape, dataset.chunks

    def is_wrong(info: Any) -> bool | None:
        used = [code for bit, code in enumerate(codes) if not info.filter_mask >> bit & 1]
        least = max([1, *(_NEEDS.get(code, 1) for code in used)])
        sound = (
            (info.size == whole if not used else info.size >= least)
            and info.byte_offset is not None
            and 0 <= info.byte_offset <= end - info.size
            and all(
                0 <= at < size and at % step == 0
                for at, size, step in zip(info.chunk_offset, shape, chunks, strict=True)
            )
        )
        return None if sound else True  # None goes on to the next chunk

    if dataset.id.chunk_iter(is_wrong):
        raise _damaged(dataset, path)


def has_odd_numbers(kind: Any) -> bool:
    """Tell whether a type has numbers in a binary format that no machine has, as a damaged description makes them.

    Those of 9 bytes and more, long doubles, have many formats.
    """
    code = kind.get_class()
    if code == h5py.h5t.FLOAT:
        layout = (int(kind.get_size()), tuple(kind.get_fields()), int(kind.get_ebias()))
        return layout[0] <= 8 and layout not in _FLOATS
    if code == h5py.h5t.INTEGER:
        return bool(kind.get_precision() != 8 * kind.get_size() or kind.get_offset() != 0)
    if code == h5py.h5t.COMPOUND:
        return any(has_odd_numbers(kind.get_member_type(index)) for index in range(kind.get_nmembers()))
    if code in (h5py.h5t.ARRAY, h5py.h5t.VLEN, h5py.h5t.ENUM):
        return has_odd_numbers(kind.get_super())
    return False


def check_text(dataset: h5py.Dataset) -> None:
    """Refuse a text of variable length whose length differs from what is stored.

    Raises:
        FormatError: as above, or packed by another filter than gzip, shuffle and fletcher32.
    """
    if not _is_text(dataset.id.get_type()):
        return
    path = Path(dataset.file.filename)
    with _mapped(path) as content:
        heaps = _Heaps(content, dataset.file.userblock_size)
        for rows in _stored_rows(dataset, _REFERENCE.itemsize, content, path):
            for reference in rows.view(_REFERENCE).reshape(-1):
                if heaps.find(reference, 1) is None:
                    raise _damaged(dataset, path)


@dataclass(frozen=True)
class Records:
    """Hold records `(record,)` as they are stored, and the lists of numbers that they refer to."""

    dataset: h5py.Dataset
    path: Path
    rows: npt.NDArray[np.uint8]
    heaps: _Heaps

    def field(self, name: str) -> npt.NDArray[Any]:
        """Return a field of numbers, or a record of such, of every record.

        Raises:
            FormatError: a field of something else.
        """
        offset, kind = self._member(name)
        if any(True for _ in _lists_in(kind)):
            raise _damaged(self.dataset, self.path)
        return self._strided(offset, kind.dtype).copy()

    def lists(self, name: str, first: int, last: int) -> list[npt.NDArray[Any]]:
        """Return the lists of numbers of a field, of the records from `first` to before `last`.

        Raises:
            FormatError: a list whose length differs from what is stored, or a field of something else.
        """
        offset, kind = self._member(name)
        if kind.get_class() != h5py.h5t.VLEN:
            raise _damaged(self.dataset, self.path)
        item = np.dtype(kind.get_super().dtype)
        found = []
        for reference in self._strided(offset, _REFERENCE)[first:last]:
            data = self.heaps.find(reference, item.itemsize)
            if data is None:
                raise _damaged(self.dataset, self.path)
            found.append(np.frombuffer(data, item))
        return found

    def _member(self, name: str) -> tuple[int, Any]:
        kind = self.dataset.id.get_type()
        index = kind.get_member_index(name.encode())
        return int(kind.get_member_offset(index)), kind.get_member_type(index)

    def _strided(self, offset: int, kind: np.dtype[Any]) -> npt.NDArray[Any]:
        count, size = self.rows.shape
        if offset + kind.itemsize > size:
            raise _damaged(self.dataset, self.path)
        return np.ndarray((count,), kind, self.rows, offset, (size,))


@contextmanager
def open_records(dataset: h5py.Dataset) -> Iterator[Records]:
    """Read an array of records without the library's conversion, which damaged descriptions send round for ever.

    Chunks have at most 256 MiB, and no filter but gzip, shuffle and fletcher32.

    Raises:
        FormatError: damaged, no records of one axis, or packed by another filter.
    """
    path = Path(dataset.file.filename)
    kind = dataset.id.get_type()
    if kind.get_class() != h5py.h5t.COMPOUND or len(dataset.shape) != 1:
        raise _damaged(dataset, path)
    size, count = int(kind.get_size()), int(dataset.shape[0])
    with _mapped(path) as content:
        parts = list(_stored_rows(dataset, size, content, path))
        rows = np.concatenate(parts)[:count] if parts else np.zeros((0, size), np.uint8)
        if len(rows) < count:
            raise _damaged(dataset, path)
        yield Records(dataset, path, np.ascontiguousarray(rows), _Heaps(content, dataset.file.userblock_size))


def _is_text(kind: Any) -> bool:
    return bool(kind.get_class() == h5py.h5t.STRING and kind.is_variable_str())


def _lists_in(kind: Any) -> Iterator[int]:
    """Yield the class of each list or text of variable length in a type."""
    code = kind.get_class()
    if code == h5py.h5t.COMPOUND:
        for index in range(kind.get_nmembers()):
            yield from _lists_in(kind.get_member_type(index))
    elif code == h5py.h5t.ARRAY:
        yield from _lists_in(kind.get_super())
    elif code == h5py.h5t.VLEN or _is_text(kind):
        yield code


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _stored_rows(dataset: h5py.Dataset, size: int, content: mmap.mmap, path: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the elements of an array as they are stored, bytes `(element, byte)`, chunk by chunk along one axis."""
    if dataset.chunks is None:
        start, stored = dataset.id.get_offset(), dataset.id.get_storage_size()
        if start is None or not stored:  # compact in the header, which the library keeps small, or not stored at all
            return
        if start + stored > len(content) or stored % size:
            raise _damaged(dataset, path)
        yield np.frombuffer(content[start : start + stored], np.uint8).reshape(-1, size)
        return
    check_chunks(dataset)
    whole = math.prod(dataset.chunks) * size
    if whole > _MAX_CHUNK:
        raise FormatError(f"expected chunks of at most {_MAX_CHUNK} bytes in {path.name}, got {whole}: store it again")
    plist = dataset.id.get_create_plist()
    codes = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
    if set(codes) - set(_UNPACKED):
        raise FormatError(
            f"expected records without compression or by gzip in {path.name}, got another filter: store it again with "
            "h5repack -f NONE"
        )
    places: list[tuple[int, ...]] = []
    dataset.id.chunk_iter(lambda info: places.append(info.chunk_offset))
    expected = math.prod(-(-n // step) for n, step in zip(dataset.shape, dataset.chunks, strict=True))
    if len(set(places)) != expected:
        raise _damaged(dataset, path)
    for place in sorted(places):
        mask, data = dataset.id.read_direct_chunk(place)
        used = [code for bit, code in enumerate(codes) if not mask >> bit & 1]
        for code in reversed(used):
            data = _unpacked(code, data, whole, size)
        if len(data) != whole:
            raise _damaged(dataset, path)
        yield np.frombuffer(data, np.uint8).reshape(-1, size)


def _unpacked(code: int, data: bytes, whole: int, size: int) -> bytes:
    """Undo one filter of a chunk."""
    if code == h5py.h5z.FILTER_FLETCHER32:
        return data[:-4]
    if code == h5py.h5z.FILTER_DEFLATE:
        try:
            return zlib.decompressobj().decompress(data, whole + 1)
        except zlib.error:
            return b""
    count = len(data) // size
    shuffled, rest = np.frombuffer(data[: count * size], np.uint8), data[count * size :]
    return shuffled.reshape(size, count).T.tobytes() + rest


class _Heaps:
    """Find the objects of the heaps of a file, whose steps `check_heaps` checked."""

    def __init__(self, content: mmap.mmap, base: int) -> None:
        self._content, self._base = content, base
        self._found: dict[int, dict[int, tuple[int, int]]] = {}

    def find(self, reference: Any, itemsize: int) -> bytes | None:
        """Return the bytes of a list; None where nothing of its length is stored."""
        length, place, number = (int(reference[name]) for name in ("length", "place", "number"))
        if not length:
            return b""
        if place not in self._found:
            self._found[place] = self._objects(self._base + place)
        position, size = self._found[place].get(number, (0, -1))
        return self._content[position : position + size] if size == length * itemsize else None

    def _objects(self, start: int) -> dict[int, tuple[int, int]]:
        """List position and size of the objects of a heap by their numbers; none where there is no heap."""
        content, found = self._content, {}
        if start >= len(content) or content[start : start + len(_HEAP)] != _HEAP:
            return {}
        (size,) = struct.unpack_from("<Q", content, start + 8)
        end, position = min(start + size, len(content)), start + _HEAP_HEAD
        while position + _HEAP_HEAD <= end:
            index, length = struct.unpack_from("<H6xQ", content, position)
            if index == 0 or position + _HEAP_HEAD + length > end:
                break
            found[index] = (position + _HEAP_HEAD, length)
            position += _HEAP_HEAD + -(-length // 8) * 8
        return found


def _damaged(dataset: h5py.Dataset, path: Path) -> FormatError:
    return FormatError(
        f"expected a readable HDF5 file, got {path.name}, whose index of {show(dataset.name)} is damaged: copy or "
        "export it again"
    )
