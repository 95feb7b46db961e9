"""Read times that an operator types, such as 90d."""

from __future__ import annotations

import re
from datetime import timedelta

from mri_recon.errors import ConfigError

__all__ = ["duration"]

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=36500)


def duration(text: str, *, zero: bool = False) -> timedelta:
    """Read a whole number of minutes, hours, days or weeks: 30m, 12h, 90d, 4w.

    Args:
        text: the text.
        zero: whether a time of zero is allowed.

    Raises:
        ConfigError: the text is no such time, or longer than a hundred years.
    """
    found = re.fullmatch(r"([0-9]{1,8})([mhdw])", text)
    if found is not None:
        time = timedelta(**{_UNITS[found[2]]: int(found[1])})
        if (time > timedelta(0) or zero) and time <= _LONGEST:
            return time
    raise ConfigError(
        f"expected a time {'' if zero else 'above zero '}of at most 36500d, such as 30m, 12h, 90d or 4w, "
        f"got {text[:40]!a}: give a whole number and a unit"
    )
