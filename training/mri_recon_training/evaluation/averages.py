"""Measure the spread of rows over masks, and differences on the same mask.

Mask variability is the effect of the mask alone; it says nothing about other subjects. Means over scans and subjects
are those of `mri_recon.results.averages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from mri_recon.results.averages import Row, mean_of
from mri_recon.results.comparison import METRICS

__all__ = [
    "CLASSICAL",
    "MASK_VARIABILITY",
    "Difference",
    "Spread",
    "best_classical",
    "differences",
    "losses",
    "pooled",
    "pooled_differences",
    "scan_summaries",
    "spread",
]

CLASSICAL = ("zero-filled", "cg-sense", "cg-sense by SNR", "cs-wavelet", "cs-wavelet by SNR")
"""Methods without learned weights, by their own names and with the weights of `weight_by_snr.RULES`; every other one is
compared with the best of them."""

MASK_VARIABILITY = (
    "Mask variability: in brackets the least and the largest value over the masks, behind their mean; it tells what "
    "the choice of a mask does, and nothing of other persons."
)


@dataclass(frozen=True)
class Spread:
    """Mask variability of a number: its mean over the masks, its least and its largest value, how many masks."""

    mean: float
    low: float
    high: float
    masks: int


@dataclass(frozen=True)
class Difference:
    """A method minus the best classical one on one scan at one acceleration, always on the same mask."""

    file: str
    acceleration: float
    method: str
    against: str
    metric: str
    spread: Spread

    def as_dict(self) -> dict[str, Any]:
        """Plain types for the JSON file."""
        return asdict(self)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Compute mean, least and largest value over masks; None where a value is unknown, or there is none."""
    known = list(values)
    if not known or any(value is None for value in known):
        return None
    numbers = [float(value) for value in known if value is not None]
    return Spread(fmean(numbers), min(numbers), max(numbers), len(numbers))


def scan_summaries(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Summarise each scan, acceleration and method: the `Spread` of each metric over masks (or None), mean seconds."""
    groups: dict[tuple[str, float, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["file"], row["acceleration"], row["method"]), []).append(row)
    return [
        {
            "file": file,
            "acceleration": acceleration,
            "method": method,
            **{name: spread(row[name] for row in group) for name in METRICS},
            "seconds": fmean(row["seconds"] for row in group),
        }
        for (file, acceleration, method), group in groups.items()
    ]


def best_classical(rows: Iterable[Row], metric: str) -> str | None:
    """Find the classical method with the best mean of `metric` over the rows of one scan and acceleration, or None.

    It is found by looking at the truth, in favour of the classical side.
    """
    values: dict[str, list[float | None]] = {}
    for row in rows:
        if row["method"] in CLASSICAL:
            values.setdefault(row["method"], []).append(row[metric])
    means = {method: found.mean for method, of in values.items() if (found := spread(of)) is not None}
    if not means:
        return None
    return min(means, key=means.__getitem__) if metric == "nmse" else max(means, key=means.__getitem__)


def differences(rows: Sequence[Row], metric: str) -> list[Difference]:
    """Subtract the best classical method from each other method, on the same mask, for each scan and acceleration.

    Pairs where one value is unknown (an infinite PSNR) are left out.
    """
    found = []
    for (file, acceleration), group in _by_scan(rows).items():
        for method, against, gains in _gains(group, metric):
            over_masks = spread(gains.values())
            if over_masks is not None:
                found.append(Difference(file, acceleration, method, against, metric, over_masks))
    return found


def pooled_differences(rows: Sequence[Row], persons: Mapping[str, str], metric: str) -> dict[tuple[float, str], Spread]:
    """Average `differences` over scans and subjects, by (acceleration, method), with their mask variability.

    On each scan the best classical method is that scan's own, as in `differences`; the mean over scans and persons is
    taken for each seed, and its spread over the seeds.
    """
    pairs: dict[tuple[float, str], list[tuple[str, Any, float]]] = {}
    for (file, acceleration), group in _by_scan(rows).items():
        for method, _, gains in _gains(group, metric):
            pairs.setdefault((acceleration, method), []).extend((file, seed, gain) for seed, gain in gains.items())
    return {key: found for key, values in pairs.items() if (found := pooled(values, persons)) is not None}


def pooled(values: Iterable[tuple[str, Any, float | None]], persons: Mapping[str, str]) -> Spread | None:
    """Compute the mask variability of a mean over scans and subjects, from (scan, seed, value): one mean for each seed.

    Seeds that some scan lacks are left out; None where nothing is left or a value is unknown.
    """
    by_seed: dict[Any, dict[str, float | None]] = {}
    for file, seed, value in values:
        by_seed.setdefault(seed, {})[file] = value
    files = {file for by_file in by_seed.values() for file in by_file}
    means = []
    for by_file in by_seed.values():
        if set(by_file) == files:
            by_person: dict[str, list[float | None]] = {}
            for file, value in by_file.items():
                by_person.setdefault(persons[file], []).append(value)
            means.append(mean_of(mean_of(scans) for scans in by_person.values()))
    return spread(means)


def losses(rows: Sequence[Row], methods: Sequence[str]) -> list[dict[str, Any]]:
    """List where a method is behind one named before it: a row for each scan, acceleration, pair of methods and metric.

    The order of `methods` is a claim, from the simplest to the best; evidence against it must not be hidden. `lost`
    counts the masks on which it is behind, `masks` all of them, `mean` and `worst` are differences over all masks. NMSE
    is left out: over one scan it orders methods as PSNR does.
    """
    cases: dict[tuple[str, float], dict[str, dict[Any, Row]]] = {}
    for row in rows:
        by_method = cases.setdefault((row["file"], row["acceleration"]), {})
        by_method.setdefault(row["method"], {})[row["seed"]] = row
    found = []
    for (file, acceleration), by_method in cases.items():
        for simpler, better in _ordered_pairs([name for name in methods if name in by_method]):
            for metric in ("psnr", "ssim"):
                seeds = [seed for seed in by_method[better] if seed in by_method[simpler]]
                pairs = [(by_method[simpler][seed][metric], by_method[better][seed][metric]) for seed in seeds]
                gains = [after - before for before, after in pairs if before is not None and after is not None]
                lost = sum(gain < 0 for gain in gains)
                if lost:
                    where = {"file": file, "acceleration": acceleration, "method": better, "simpler": simpler}
                    numbers = {"lost": lost, "masks": len(gains), "mean": fmean(gains), "worst": min(gains)}
                    found.append({**where, "metric": metric, **numbers})
    return found


def _by_scan(rows: Iterable[Row]) -> dict[tuple[str, float], list[Row]]:
    cases: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        cases.setdefault((row["file"], row["acceleration"]), []).append(row)
    return cases


def _gains(group: Sequence[Row], metric: str) -> Iterator[tuple[str, str, dict[Any, float]]]:
    """Of the rows of one scan and acceleration: method, the best classical one, seed to their difference."""
    against = best_classical(group, metric)
    if against is None:
        return
    base = {row["seed"]: row[metric] for row in group if row["method"] == against}
    for method in dict.fromkeys(row["method"] for row in group if row["method"] not in CLASSICAL):
        yield (
            method,
            against,
            {
                row["seed"]: row[metric] - base[row["seed"]]
                for row in group
                if row["method"] == method and row[metric] is not None and base.get(row["seed"]) is not None
            },
        )


def _ordered_pairs(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for later, better in enumerate(names):
        for simpler in names[:later]:
            yield simpler, better
