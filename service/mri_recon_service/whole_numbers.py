"""Read the whole numbers that clients write into headers."""

from __future__ import annotations

__all__ = ["whole_number"]

_MOST_DIGITS = 20  # of 2^64; Python refuses texts of thousands of digits, and the time of the others grows as a square


def whole_number(text: str) -> int | None:
    """Read a whole number of at most 20 ASCII digits. Returns None for any other text."""
    return int(text) if len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit() else None
