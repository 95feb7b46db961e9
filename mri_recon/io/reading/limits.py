"""Limit the memory that a file may require, before any is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mri_recon.errors import FormatError

__all__ = ["DEFAULT_MAX_BYTES", "TooLargeError", "check_compression", "check_declared", "show"]

DEFAULT_MAX_BYTES = 16 * 2**30
"""Default of `max_bytes`, the largest array that a reader accepts: 16 GiB as stored or as complex64."""

_COMPLEX64 = 8
_MAX_RATIO = 1100
"""Best compression ratio of deflate; content with a higher ratio was never stored."""
_ALWAYS_FINE = 2**24
"""Below 16 MiB the ratio is not checked, because an attack gains nothing and masks compress well."""


class TooLargeError(FormatError):
    """Report an array that takes more bytes than the reader may.

    Attributes:
        size: bytes that it takes.
    """

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


def check_declared(shape: Sequence[int], itemsize: int, *, where: str, max_bytes: int) -> int:
    """Compute the bytes of an array of this shape.

    Args:
        shape: as the file declares it, before anything is read.
        itemsize: bytes of an element as stored; counted as at least complex64, which k-space becomes.
        where: the array and its file, for the message.
        max_bytes: the limit.

    Raises:
        TooLargeError: more than `max_bytes`.
    """
    size = math.prod(int(n) for n in shape) * max(int(itemsize), _COMPLEX64)
    if size > max_bytes:
        raise TooLargeError(
            f"expected at most {max_bytes} bytes, {where} declares shape {tuple(int(n) for n in shape)}, "
            f"which takes {size}: it is damaged, or raise max_bytes, or read some slices only",
            size,
        )
    return size


def check_compression(size: int, stored: int, *, where: str) -> None:
    """Refuse content that is larger than the stored bytes can unpack to.

    Raises:
        FormatError: more than deflate's best ratio, on 16 MiB or more.
    """
    if size > max(_ALWAYS_FINE, stored * _MAX_RATIO):
        raise FormatError(
            f"expected stored data, {where} declares {size} bytes but stores {stored}: "
            "it is damaged or a decompression bomb"
        )


def show(name: object) -> str:
    """Make a name from a file safe to print: escaped and short."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return ascii(text if len(text) <= 60 else text[:57] + "...")
