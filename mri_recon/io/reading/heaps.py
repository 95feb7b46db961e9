"""Check the global heaps of HDF5, which hold texts of variable length, before the library reads them.

A heap is a sequence of objects, each with its own length. The library steps from one object to the next by that length.
A damaged length of 0 makes it loop for ever, in C, where no signal reaches it. So this module walks the heaps first.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from mri_recon.errors import FormatError

__all__ = ["check_heaps"]

_SIGNATURE = b"GCOL\x01\x00\x00\x00"  # name, version 1, reserved: eight bytes that do not occur in k-space by accident
_HEAD = 16  # heap: signature and size; object: index, references, reserved, size


def check_heaps(path: Path) -> None:
    """Walk every global heap of a file; reads the whole file once.

    Raises:
        FormatError: the objects of a heap do not fill it step by step, or a heap reaches beyond the file.
    """
    with path.open("rb") as stream:
        try:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped and has no heaps
            return
        with content:
            start = content.find(_SIGNATURE)
            while start >= 0:
                if not _is_sound(content, start):
                    raise FormatError(
                        f"expected a readable HDF5 file, got {path.name}, which is damaged or cut short: "
                        "copy or export it again"
                    )
                start = content.find(_SIGNATURE, start + len(_SIGNATURE))


def _is_sound(content: mmap.mmap, start: int) -> bool:
    if start + _HEAD > len(content):
        return False
    (size,) = struct.unpack_from("<Q", content, start + 8)
    end = start + size
    if size < _HEAD or end > len(content):
        return False
    position = start + _HEAD
    while position + _HEAD <= end:
        index, length = struct.unpack_from("<H6xQ", content, position)
        if index == 0:  # free space up to the end; its length includes its own header
            return bool(position + length == end)
        step = _HEAD + -(-length // 8) * 8
        if position + step > end:
            return False
        position += step
    return True
