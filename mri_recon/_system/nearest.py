"""Guess which of the valid names somebody meant, for the errors about unknown ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["did_you_mean", "did_you_mean_word"]

_LONGEST = 100
"""Characters of a name that are compared: the time grows with their square."""


def did_you_mean(name: object, valid: Iterable[str]) -> str:
    """Name the valid name nearest to an unknown one, to be put behind it in a message.

    Case does not count, nor whether words are joined by `-`, `_` or a space.

    Args:
        name: the unknown name, as it came.
        valid: the names that are accepted.

    Returns:
        " (did you mean 'cs-wavelet'?)"; "" if no valid name is near.
    """
    if not isinstance(name, str):
        return ""
    known = {_plain(one): one for one in valid}
    found = difflib.get_close_matches(_plain(name), known, n=1)
    return f" (did you mean {known[found[0]]!r}?)" if found else ""


def did_you_mean_word(error: Mapping[str, Any]) -> str:
    """Name the valid word nearest to one that Pydantic refused, as `did_you_mean` does; "" for any other error.

    Args:
        error: one of `ValidationError.errors()`.
    """
    if error["type"] != "literal_error":
        return ""
    return did_you_mean(error["input"], re.findall("'([^']+)'", error["ctx"]["expected"]))


def _plain(name: str) -> str:
    return name[:_LONGEST].strip().lower().replace("_", "-").replace(" ", "-")
