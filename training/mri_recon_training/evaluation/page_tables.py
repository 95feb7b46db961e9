"""Tables and number formats of the results page."""

from __future__ import annotations

from collections.abc import Sequence

from mri_recon_training.evaluation.averages import (
    CLASSICAL,
    Spread,
    differences,
    losses,
    scan_summaries,
)
from mri_recon_training.evaluation.results import Evaluation
from mri_recon_training.evaluation.worlds import FLOOR, World, below_floor, worlds_of
from mri_recon_training.markdown import table

__all__ = [
    "behind_classical_table",
    "counted",
    "losses_table",
    "scan_table",
    "scans_table",
    "seconds_table",
    "spread_text",
    "worlds_table",
]

HEADS = {"nmse": "NMSE", "psnr": "PSNR / dB", "ssim": "SSIM"}
_KINDS = {"raw": "real", "phantom": "real, phantom", "simulated": "simulated"}
_FORMS = {"nmse": ".4f", "psnr": ".2f", "ssim": ".3f"}


def worlds_table(
    worlds: Sequence[World], methods: Sequence[str], accelerations: Sequence[float], metric: str
) -> list[str]:
    """One metric by acceleration and world, a column for each method, and how learned methods compare.

    The last columns, of PSNR alone, count scans and masks where a learned method is below zero-filled or CG-SENSE.
    """
    others = [name for name in methods if name not in CLASSICAL]
    header = ["R", "world", "k-space", "coils", "SNR", "scans", "persons", *(f"`{name}`" for name in methods)]
    header += [f"`{name}` above best classical" for name in others]
    if metric == "psnr":
        header += [f"`{name}` below {' or '.join(f'`{one}`' for one in FLOOR)}" for name in others]
    rows = []
    for acceleration in accelerations:
        for world in worlds:
            gains = world.gains(metric)
            persons = str(len(set(world.persons.values()))) if world.for_gains else "-"
            cells = [f"{acceleration:g}", world.name, _KINDS[world.kind], world.coils, world.snr]
            cells += [str(len(world.persons)), persons]
            means = [world.spread(acceleration, name, metric) for name in methods]
            cells += [_number(mean.mean if mean else None, metric) for mean in means]
            for name in others:
                cells.append(
                    spread_text(gains.get((acceleration, name)), metric, sign=True)
                    if world.for_gains
                    else "not counted"
                )
            if metric == "psnr":
                counts = [below_floor(world, acceleration, name) for name in others]
                cells += ["" if count is None else f"{count[0]} of {count[1]}" for count in counts]
            rows.append(cells)
    return table(header, rows, text=3)


def scans_table(raw: Evaluation, accelerations: Sequence[float]) -> list[str]:
    """The scans: file, subject, shape, and the number of sampled columns at each acceleration."""
    receipts = {(one["file"], one["requested_acceleration"]): one for one in raw.receipts}
    rows = []
    for file, label in raw.labels.items():
        cells = [label, raw.worlds.get(file, ""), f"`{file}`", raw.persons[file], _shape(raw.shapes.get(file))]
        for acceleration in accelerations:
            receipt = receipts[file, acceleration]
            realised = f"{receipt['realised_acceleration']:.2f}x"
            cells.append(f"{receipt['num_lines']} of {receipt['support_width']} ({realised})")
        rows.append(cells)
    header = ["scan", "world", "file", "person", "slices, coils, matrix"]
    return table([*header, *(f"columns at R = {one:g}" for one in accelerations)], rows, text=5)


def scan_table(evaluation: Evaluation, methods: Sequence[str], acceleration: float, metric: str) -> list[str]:
    """One metric of every scan at one acceleration, a column for each method, with the mask variability."""
    rows = evaluation.at(acceleration)
    others = [name for name in methods if name not in CLASSICAL]
    above = {(one.file, one.method): one for one in differences(rows, metric)}
    found = {(row["file"], row["method"]): row[metric] for row in scan_summaries(rows)}
    cells = []
    for file, label in evaluation.labels.items():
        better = [above.get((file, name)) for name in others]
        snr = evaluation.snrs.get(file)
        cells.append(
            [
                label,
                "" if snr is None else f"{snr:.0f}",
                *(spread_text(found.get((file, name)), metric) for name in methods),
                *("" if one is None else f"{spread_text(one.spread, metric, sign=True)}" for one in better),
                next((f"`{one.against}`" for one in better if one is not None), ""),
            ]
        )
    header = ["scan", "SNR", *(f"`{name}`" for name in methods), *(f"`{name}` above best classical" for name in others)]
    return table([*header, "which"], cells, text=1)


def behind_classical_table(raw: Evaluation, simulated: Sequence[Evaluation]) -> list[str]:
    """Where a learned method is behind the best classical one in the mean over masks; empty where none is.

    Real scans are listed each, simulated ones by world.
    """
    behind: dict[tuple[str, str, str], dict[float, str]] = {}
    for metric in ("psnr", "ssim"):
        found = [
            (raw.labels[one.file], one.method, one.acceleration, one.spread) for one in differences(raw.rows, metric)
        ]
        for world in (world for evaluation in simulated for world in worlds_of(evaluation)):
            above = world.gains(metric)
            found += [(f"{world.title} (mean)", method, at, value) for (at, method), value in above.items()]
        for label, method, acceleration, value in found:
            if value.mean < 0:
                key = (label, f"`{method}`", HEADS[metric])
                behind.setdefault(key, {})[acceleration] = spread_text(value, metric, sign=True)
    if not behind:
        return []
    accelerations = _accelerations([raw, *simulated])
    header = ["scan", "method", "difference in", *(f"R = {one:g}" for one in accelerations)]
    rows = [[*key, *(cells.get(one, "") for one in accelerations)] for key, cells in behind.items()]
    return table(header, rows, text=3)


def losses_table(evaluations: Sequence[Evaluation], methods: Sequence[str]) -> list[str]:
    """How often a method is behind one named before it, and by how much at worst; empty where none is."""
    counts: dict[tuple[str, str, str], dict[float, int]] = {}
    worst: dict[tuple[str, str, str], float] = {}
    cases: dict[float, int] = {}
    for evaluation in evaluations:
        for acceleration in evaluation.accelerations:
            here = {(row["file"], row["seed"]) for row in evaluation.at(acceleration)}
            cases[acceleration] = cases.get(acceleration, 0) + len(here)
        for one in losses(evaluation.rows, methods):
            key = (one["method"], one["simpler"], one["metric"])
            by_acceleration = counts.setdefault(key, {})
            by_acceleration[one["acceleration"]] = by_acceleration.get(one["acceleration"], 0) + one["lost"]
            worst[key] = min(worst.get(key, 0.0), one["worst"])
    if not counts:
        return []
    order = list(methods)
    rows = [
        [
            f"`{method}`",
            f"`{simpler}`",
            metric.upper(),
            *(f"{lost[one]} of {cases[one]}" if one in lost else "" for one in sorted(cases)),
            f"{worst[method, simpler, metric]:+{_FORMS[metric]}}",
        ]
        for (method, simpler, metric), lost in sorted(
            counts.items(), key=lambda item: (order.index(item[0][0]), order.index(item[0][1]), item[0][2])
        )
    ]
    header = ["method", "behind", "in", *(f"R = {one:g}" for one in _accelerations(evaluations)), "at worst by"]
    return table(header, rows, text=3)


def seconds_table(evaluations: Sequence[Evaluation], methods: Sequence[str]) -> list[str]:
    """Mean wall time of one call by world."""
    rows = []
    for one in evaluations:
        for world in worlds_of(one):
            shapes = dict.fromkeys(_shape(one.shapes.get(file)) for file in world.persons)
            seconds = [[row["seconds"] for row in world.rows if row["method"] == name] for name in methods]
            cells = [f"{sum(values) / len(values):.2f}" if values else "-" for values in seconds]
            rows.append([world.title, "; ".join(shapes), *cells])
    return table(["world", "slices, coils, matrix", *(f"`{name}`" for name in methods)], rows, text=2)


def spread_text(value: Spread | None, metric: str, *, sign: bool = False) -> str:
    """Write a mean with its mask variability in brackets; an unknown mean as "-", an unknown difference as ""."""
    if value is None:
        return "" if sign else "-"
    form = ("+" if sign else "") + _FORMS[metric]
    bracket = f" [{value.low:{form}}, {value.high:{form}}]" if value.masks > 1 else ""
    return f"{value.mean:{form}}{bracket}"


def counted(number: int, what: str) -> str:
    """Write a number with its noun in singular or plural."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _accelerations(evaluations: Sequence[Evaluation]) -> list[float]:
    return sorted({acceleration for one in evaluations for acceleration in one.accelerations})


def _number(value: float | None, metric: str) -> str:
    return "-" if value is None else format(value, _FORMS[metric])


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else f"{shape[0]}, {shape[1]}, {shape[2]}x{shape[3]}"
