"""Choose one of several k-spaces in a scanner's file: "echo=1, repetition=0"."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mri_recon.errors import FormatError
from mri_recon.io.reading.limits import show

__all__ = ["parse_choice", "pick_index"]

_PAIR = re.compile(r"([a-z]{1,20})=([0-9]{1,6}(?:/[0-9]{1,6})?)")


def parse_choice(variable: str | None, names: Mapping[str, str], *, where: str) -> dict[str, str]:
    """Split "echo=1, repetition=0" into names and values.

    Args:
        variable: the text; None chooses nothing.
        names: valid names, each with its meaning, for the message.
        where: the file, for the message.

    Raises:
        FormatError: wrong form, or an unknown or repeated name.
    """
    found: dict[str, str] = {}
    for part in (variable or "").replace(" ", "").split(","):
        pair = _PAIR.fullmatch(part)
        if pair is None and variable is None:
            continue
        if pair is None or pair[1] not in names or pair[1] in found:
            valid = ", ".join(f"{name} ({what})" for name, what in names.items())
            raise FormatError(
                f"expected NAME=NUMBER, separated by commas, as the variable of {where}, got {show(variable)}: "
                f"names are {valid}",
                argument="variable",
            )
        found[pair[1]] = pair[2]
    return found


def pick_index(chosen: Mapping[str, str], name: str, count: int, *, where: str, default: int = 0) -> int:
    """Find the index chosen for `name` among `count`; negative defaults count from the end.

    Raises:
        FormatError: not a number, or out of range.
    """
    value = chosen.get(name)
    if value is None:
        return default % count
    if not value.isdecimal() or int(value) >= count:
        raise FormatError(
            f"expected {name} from 0 to {count - 1} in {where}, got {name}={value}: choose one of these",
            argument="variable",
        )
    return int(value)
