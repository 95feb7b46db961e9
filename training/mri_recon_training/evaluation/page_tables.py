"""Tables and number formats of the results page."""

from __future__ import annotations

from collections.abc import Sequence

from mri_recon_training.evaluation.averages import (
    CLASSICAL,
    Spread,
    differences,
    losses,
    pooled,
    pooled_differences,
    scan_summaries,
)
from mri_recon_training.evaluation.results import Evaluation
from mri_recon_training.markdown import table

__all__ = [
    "behind_classical_table",
    "coils_table",
    "coils_text",
    "counted",
    "losses_table",
    "means_table",
    "persons_table",
    "scan_table",
    "scans_table",
    "seconds_table",
    "spread_text",
]

HEADS = {"nmse": "NMSE", "psnr": "PSNR / dB", "ssim": "SSIM"}
_FORMS = {"nmse": ".4f", "psnr": ".2f", "ssim": ".3f"}


def means_table(raw: Evaluation, accelerations: Sequence[float]) -> list[str]:
    """Means over subjects by acceleration and method, and their difference to the best classical method."""
    above = {metric: pooled_differences(raw.rows, raw.persons, metric) for metric in ("psnr", "ssim")}
    means = [mean for mean in raw.means() if mean["acceleration"] in accelerations]
    with_interval = any(mean["intervals"]["psnr"] for mean in means)
    header = ["R", "method", *HEADS.values(), "above best classical: PSNR / dB", "SSIM"]
    rows = []
    for mean in means:
        key = (mean["acceleration"], mean["method"])
        cells = [f"{mean['acceleration']:g}", f"`{mean['method']}`", *(_number(mean[name], name) for name in _FORMS)]
        cells += [spread_text(above[metric].get(key), metric, sign=True) for metric in above]
        if with_interval:
            low, high = mean["intervals"]["psnr"] or (None, None)
            cells.append("-" if low is None else f"{low:.2f} to {high:.2f}")
        rows.append(cells)
    return table([*header, *(["95 % interval over persons, PSNR / dB"] if with_interval else [])], rows, text=2)


def scans_table(raw: Evaluation, accelerations: Sequence[float]) -> list[str]:
    """The scans: file, subject, shape, and the number of sampled columns at each acceleration."""
    receipts = {(one["file"], one["requested_acceleration"]): one for one in raw.receipts}
    rows = []
    for file, label in raw.labels.items():
        cells = [label, f"`{file}`", raw.persons[file], _shape(raw.shapes.get(file))]
        for acceleration in accelerations:
            receipt = receipts[file, acceleration]
            realised = f"{receipt['realised_acceleration']:.2f}x"
            cells.append(f"{receipt['num_lines']} of {receipt['support_width']} ({realised})")
        rows.append(cells)
    header = ["scan", "file", "person", "slices, coils, matrix"]
    return table([*header, *(f"columns at R = {one:g}" for one in accelerations)], rows, text=4)


def persons_table(raw: Evaluation, accelerations: Sequence[float]) -> list[str]:
    """PSNR and SSIM by acceleration and method, two columns for each subject."""
    persons = list(dict.fromkeys(raw.persons.values()))
    header = ["R", "method", *(f"{person}: {HEADS[name]}" for person in persons for name in ("psnr", "ssim"))]
    rows = [
        [
            f"{mean['acceleration']:g}",
            f"`{mean['method']}`",
            *(_number(mean["by_person"][person][name], name) for person in persons for name in ("psnr", "ssim")),
        ]
        for mean in raw.means()
        if mean["acceleration"] in accelerations
    ]
    return table(header, rows, text=2)


def scan_table(evaluation: Evaluation, acceleration: float) -> list[str]:
    """Every scan and method at one acceleration, with the mask variability."""
    rows = evaluation.at(acceleration)
    above = {
        (one.file, one.method, one.metric): one for metric in ("psnr", "ssim") for one in differences(rows, metric)
    }
    cells = []
    for row in scan_summaries(rows):
        better = [above.get((row["file"], row["method"], metric)) for metric in ("psnr", "ssim")]
        cells.append(
            [
                evaluation.labels[row["file"]],
                f"`{row['method']}`",
                *(spread_text(row[name], name) for name in ("psnr", "ssim")),
                _number(row["nmse"].mean if row["nmse"] else None, "nmse"),
                *("" if one is None else spread_text(one.spread, one.metric, sign=True) for one in better),
                "" if better[0] is None else f"`{better[0].against}`",
            ]
        )
    header = ["scan", "method", "PSNR / dB", "SSIM", "NMSE", "above best classical: PSNR / dB", "SSIM", "which (PSNR)"]
    return table(header, cells, text=2)


def coils_table(
    simulated: Sequence[Evaluation], methods: Sequence[str], accelerations: Sequence[float], metric: str
) -> list[str]:
    """One metric of simulated k-space by acceleration and number of coils, a column for each method."""
    others = [name for name in methods if name not in CLASSICAL]
    header = ["R", "coils", *(f"`{name}`" for name in methods)]
    header += [f"`{name}` above best classical" for name in others]
    rows = []
    for acceleration in accelerations:
        for one in simulated:
            group = one.at(acceleration)
            above = pooled_differences(group, one.persons, metric)
            means = [
                pooled(((row["file"], row["seed"], row[metric]) for row in group if row["method"] == name), one.persons)
                for name in methods
            ]
            cells = [f"{acceleration:g}", str(one.num_coils)]
            cells += [_number(mean.mean if mean else None, metric) for mean in means]
            cells += [spread_text(above.get((acceleration, name)), metric, sign=True) for name in others]
            rows.append(cells)
    return table(header, rows, text=0)


def behind_classical_table(raw: Evaluation, simulated: Sequence[Evaluation]) -> list[str]:
    """Where a learned method is behind the best classical one in the mean over masks; empty where none is."""
    behind: dict[tuple[str, str, str], dict[float, str]] = {}
    for metric in ("psnr", "ssim"):
        found = [
            (raw.labels[one.file], one.method, one.acceleration, one.spread) for one in differences(raw.rows, metric)
        ]
        for evaluation in simulated:
            above = pooled_differences(evaluation.rows, evaluation.persons, metric)
            label = f"simulated, {coils_text(evaluation.num_coils)} (mean)"
            found += [(label, method, acceleration, value) for (acceleration, method), value in above.items()]
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


def seconds_table(raw: Evaluation, simulated: Sequence[Evaluation], methods: Sequence[str]) -> list[str]:
    """Mean wall time of one call, by scan and by number of simulated coils."""
    rows = [[label, _shape(raw.shapes.get(file)), *_seconds(raw, methods, file)] for file, label in raw.labels.items()]
    for one in simulated:
        shapes = sorted({_shape(shape) for shape in one.shapes.values()})
        rows.append([f"simulated, {coils_text(one.num_coils)}", "; ".join(shapes), *_seconds(one, methods, None)])
    return table(["scan", "slices, coils, matrix", *(f"`{name}`" for name in methods)], rows, text=2)


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


def coils_text(number: int | None) -> str:
    """Write a number of coils; None is the scanner's."""
    return "coils of the scanner" if number is None else counted(number, "coil")


def _accelerations(evaluations: Sequence[Evaluation]) -> list[float]:
    return sorted({acceleration for one in evaluations for acceleration in one.accelerations})


def _seconds(evaluation: Evaluation, methods: Sequence[str], file: str | None) -> list[str]:
    cells = []
    for name in methods:
        values = [r["seconds"] for r in evaluation.rows if r["method"] == name and file in (None, r["file"])]
        cells.append(f"{sum(values) / len(values):.2f}" if values else "-")
    return cells


def _number(value: float | None, metric: str) -> str:
    return "-" if value is None else format(value, _FORMS[metric])


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else f"{shape[0]}, {shape[1]}, {shape[2]}x{shape[3]}"
