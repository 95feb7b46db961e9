"""Group the scans of an evaluation by world, and count where a method is below the simple ones.

A world is what a scan asks of a method: the scanner and the anatomy, as the data registry names them, and the number of
coils. Numbers are averaged within a world, never over worlds: an easy world would hide a hard one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mri_recon.results.averages import average
from mri_recon_training.evaluation.averages import Spread, pooled, pooled_differences

if TYPE_CHECKING:
    from mri_recon_training.evaluation.results import Evaluation

__all__ = ["FLOOR", "SNR_RULE", "World", "below_floor", "worlds_of"]

FLOOR = ("zero-filled", "cg-sense")
"""Methods that no other one may be below on any scan."""

SNR_RULE = (
    "SNR is the 99.5th percentile of the reference over the standard deviation of the real part of the noise in one "
    "coil: estimated from the outermost samples of real scans (too small where signal reaches that far), given for "
    "simulated ones"
)


@dataclass(frozen=True)
class World:
    """The scans of one world in an evaluation.

    Attributes:
        name: as the registry names it.
        kind: "raw", "phantom" or "simulated".
        coils: their number; simulated coils of a measured array are called so.
        snr: of the scans, as text; "" where it is not known.
        rows: of its scans, as `Comparison.rows`.
        persons: scan to subject, of its scans.
    """

    name: str
    kind: str
    coils: str
    snr: str
    rows: Sequence[Mapping[str, Any]]
    persons: Mapping[str, str]

    @property
    def title(self) -> str:
        """Name with all that tells it from others."""
        coils = f"{self.coils} coil{'' if self.coils == '1' else 's'}"
        if self.kind == "simulated":
            snr = f"SNR {self.snr}" if self.snr else ""
            return ", ".join(part for part in (self.name, "simulated", coils, snr) if part)
        return ", ".join(part for part in (self.name, coils) if part)

    @property
    def for_gains(self) -> bool:
        """Whether gains on it count: a phantom has little of what a body has, and is easy for any sparse prior."""
        return self.kind != "phantom"

    def means(self) -> list[dict[str, Any]]:
        """Average by acceleration and method, see `mri_recon.results.averages.average`."""
        found = average(self.rows, self.persons)
        return [{"world": self.name, "coils": self.coils, "snr": self.snr, **mean} for mean in found]

    def spread(self, acceleration: float, method: str, metric: str) -> Spread | None:
        """Compute the mean of a metric over scans and subjects, with its mask variability."""
        return pooled(
            (
                (row["file"], row["seed"], row[metric])
                for row in self.rows
                if (row["acceleration"], row["method"]) == (acceleration, method)
            ),
            self.persons,
        )

    def gains(self, metric: str) -> dict[tuple[float, str], Spread]:
        """Compute the differences to the best classical method by (acceleration, method); none of a phantom."""
        return pooled_differences(self.rows, self.persons, metric) if self.for_gains else {}

    @property
    def accelerations(self) -> list[float]:
        """Requested accelerations, smallest first."""
        return sorted({row["acceleration"] for row in self.rows})


def worlds_of(evaluation: Evaluation) -> Iterator[World]:
    """Yield the worlds of an evaluation, in the order of its scans; scans with other numbers of coils are apart."""
    members: dict[tuple[str, str], list[str]] = {}
    for file in evaluation.persons:
        members.setdefault((evaluation.worlds.get(file, ""), _coils(evaluation, file)), []).append(file)
    for (name, coils), files in members.items():
        inside = set(files)
        yield World(
            name=name,
            kind=evaluation.kind,
            coils=coils,
            snr=_snr([evaluation.snrs[file] for file in files if file in evaluation.snrs]),
            rows=[row for row in evaluation.rows if row["file"] in inside],
            persons={file: evaluation.persons[file] for file in files},
        )


def below_floor(world: World, acceleration: float, method: str) -> tuple[int, int] | None:
    """Count scans and masks where the PSNR of a method is below the better one of `FLOOR`, and all of them.

    None without a method of `FLOOR`, or where a value is unknown.
    """
    rows = [row for row in world.rows if row["acceleration"] == acceleration]
    floors: dict[tuple[str, Any], float] = {}
    for row in rows:
        if row["method"] in FLOOR and row["psnr"] is not None:
            key = (row["file"], row["seed"])
            floors[key] = max(floors.get(key, row["psnr"]), row["psnr"])
    found = [
        (row["psnr"], floors[row["file"], row["seed"]])
        for row in rows
        if row["method"] == method and row["psnr"] is not None and (row["file"], row["seed"]) in floors
    ]
    return (sum(value < floor for value, floor in found), len(found)) if found else None


def _coils(evaluation: Evaluation, file: str) -> str:
    array = evaluation.array
    if array is not None:
        return f"{array.num_coils} measured" if array.measured else str(array.num_coils)
    shape = evaluation.shapes.get(file)
    return "" if shape is None else str(shape[1])


def _snr(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, high = (f"{value:.0f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
