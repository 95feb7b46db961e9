"""Write names, numbers and times so that people can read them, and terminals and documents can hold them."""

from __future__ import annotations

__all__ = ["duration", "plural", "printable", "storable"]

_SPACES = frozenset("\u00a0\u3000")  # wide and fixed spaces of ordinary names


def printable(text: object) -> str:
    r"""Escape controlling or invisible characters: controls, ANSI escapes, line breaks, bidirectional marks.

    Letters, marks, symbols and spaces stay as they are. A byte of a file name that is not UTF-8 becomes `\xff`.
    """
    return "".join(one if one.isprintable() or one in _SPACES else _escaped(one) for one in str(text))


def storable(text: str) -> str:
    r"""Escape text for UTF-8 and HDF5: bytes of a file name that are not UTF-8 become `\xff`, NUL `\x00`."""
    return "".join(_escaped(one) if one == "\0" or "\ud800" <= one <= "\udfff" else one for one in text)


def plural(number: int, thing: str) -> str:
    """Say how many: "1 coil", "8 coils"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Write a time in the unit that a person would take."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _escaped(one: str) -> str:
    code = ord(one)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python decoded by "surrogateescape", PEP 383
        return f"\\x{code - 0xDC00:02x}"
    if code in (0x09, 0x0A, 0x0D):
        return {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}[code]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
