"""Average rows of metrics over masks, scans and subjects.

Averages go within a scan, then over masks, then over the scans of a subject, then over subjects. An interval over
subjects needs `MIN_PERSONS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, TypeAlias

from mri_recon.results.comparison import METRICS

__all__ = ["MEANS_CONVENTION", "MIN_PERSONS", "Row", "average", "mean_of", "person_interval"]

MIN_PERSONS = 10
"""Fewest persons for an interval over persons."""

MEANS_CONVENTION = "Means over slices, then masks, then the scans of a person, then persons."
"""The order of averages, to print beside a table of means."""

Row: TypeAlias = Mapping[str, Any]
"""A row as in `Comparison.rows`."""

_AVERAGED = (*METRICS, "seconds")


def average(rows: Iterable[Row], persons: Mapping[str, str]) -> list[dict[str, Any]]:
    """Average metrics and seconds by acceleration and method: over masks, then scans of a subject, then subjects.

    A row is already averaged within its scan. A metric that is null in some row (an infinite PSNR) has no mean.
    `by_person` has the mean of each person; `intervals` is `person_interval` of each metric.
    """
    groups: dict[tuple[float | None, str], dict[str, dict[str, list[Row]]]] = {}
    for row in rows:
        scans = groups.setdefault((row["acceleration"], row["method"]), {}).setdefault(persons[row["file"]], {})
        scans.setdefault(row["file"], []).append(row)
    means = []
    for (acceleration, method), by_person in groups.items():
        mean: dict[str, Any] = {"acceleration": acceleration, "method": method}
        each = {
            person: {name: mean_of(mean_of(row[name] for row in scan) for scan in scans.values()) for name in _AVERAGED}
            for person, scans in by_person.items()
        }
        for name in _AVERAGED:
            mean[name] = mean_of(values[name] for values in each.values())
        mean["by_person"] = each
        mean["intervals"] = {name: person_interval([values[name] for values in each.values()]) for name in METRICS}
        means.append({**mean, "persons": len(by_person), "scans": sum(len(scans) for scans in by_person.values())})
    # Stable, so that methods keep their order; a mask from a file has no requested acceleration.
    return sorted(means, key=lambda mean: mean["acceleration"] or 0.0)


def person_interval(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Compute the 95 % t-interval of the mean over subjects, m -+ t_{0.975, n-1} s / sqrt(n); None below `MIN_PERSONS`.

    With few persons such an interval would be wide, hang on its assumption of a normal distribution, and be read as
    more than it is. None also where a person's value is unknown.
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values) or len(known) < MIN_PERSONS:
        return None
    from scipy.stats import t as student  # slow to import

    half = float(student.ppf(0.975, len(known) - 1)) * stdev(known) / math.sqrt(len(known))
    return fmean(known) - half, fmean(known) + half


def mean_of(values: Iterable[float | None]) -> float | None:
    """Compute the mean of values; None if one is unknown."""
    known = list(values)
    return None if any(value is None for value in known) else fmean(value for value in known if value is not None)
