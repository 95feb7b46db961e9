"""The results page: a summary, then how it was made, tables a scan, plots, and what speaks against the methods.

Rows of single masks stay in the JSON file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mri_recon.notice import RESEARCH_ONLY
from mri_recon_training.evaluation.averages import (
    CLASSICAL,
    MASK_VARIABILITY,
    MIN_PERSONS,
    Spread,
    differences,
    losses,
    pooled,
    pooled_differences,
    scan_summaries,
)
from mri_recon_training.evaluation.scans import MASK_DEFINITION, Evaluation

__all__ = ["Page", "Picture", "markdown_page"]

BEST_CLASSICAL = (
    "The best classical method is, for each scan, acceleration and metric, the one of "
    f"{', '.join(f'`{name}`' for name in CLASSICAL)} with the best mean over the masks: found by looking at the truth, "
    "in favour of the classical side. Differences to it are taken on the same mask."
)
TUNING = (
    "Every choice was made on validation persons, none of them here: weights, epochs and configuration of the "
    "networks; prior and weight of `cs-wavelet` (`benchmarks/classical/quality.py tune`, see "
    "[classical.md](../using/classical.md)); the weight of `cg-sense` "
    "(`benchmarks/classical/quality.py tune-cg-sense`). Options are those of the command, else the defaults."
)
VALIDATION = "This is the split on which choices are made: its numbers are no test of them."
_FORMS = {"nmse": ".4f", "psnr": ".2f", "ssim": ".3f"}
_HEADS = {"nmse": "NMSE", "psnr": "PSNR / dB", "ssim": "SSIM"}


@dataclass(frozen=True)
class Picture:
    """A picture of the page: its path from there, what it shows (where it cannot be seen), and its caption."""

    path: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Page:
    """What the page is made of.

    Attributes:
        command: that made it.
        commit: of the project at that time.
        methods: simplest first.
        accelerations: of the tables; the evaluation may have more, for the plot.
        raw: rows of the scanner's k-space.
        simulated: rows of simulated k-space, one evaluation a number of coils.
        plots: by acceleration and by number of coils.
        failures: worst cases.
    """

    command: str
    commit: str
    methods: Sequence[str]
    accelerations: Sequence[float]
    raw: Evaluation
    simulated: Sequence[Evaluation] = ()
    plots: Mapping[str, Picture] = field(default_factory=dict)
    failures: Sequence[Picture] = ()


def markdown_page(page: Page) -> str:
    """The page as Markdown."""
    lines = [
        "# Results",
        "",
        f"Split `{page.raw.split}` of the [data registry](../training/data.md). {RESEARCH_ONLY} None of these numbers "
        "stands beside published fastMRI numbers: the data differ.",
        "",
        "## Summary",
        "",
        *_summary(page),
        "## How it was made",
        "",
        *_method_notes(page),
        "## Real raw k-space",
        "",
        *_raw_section(page),
    ]
    if page.simulated:
        lines += ["## Simulated multi-coil k-space", "", *_simulated_section(page)]
    lines += ["## Where methods lose", "", *_losses_section(page), "## Time of one call", "", *_time_section(page)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def _summary(page: Page) -> Iterator[str]:
    raw = page.raw
    count = len(set(raw.persons.values()))
    yield f"Real raw k-space, {_count(len(raw.persons), 'scan')} of {_count(count, 'person')}, means over persons:"
    yield ""
    yield from _means_table(page)
    yield ""
    for method in _others(page):
        yield f"- {_headline(page, method)}"
    for line in _simulated_headlines(page):
        yield f"- {line}"
    yield ""


def _means_table(page: Page) -> list[str]:
    above = {metric: pooled_differences(page.raw.rows, page.raw.persons, metric) for metric in ("psnr", "ssim")}
    means = [mean for mean in page.raw.means() if mean["acceleration"] in page.accelerations]
    with_interval = any(mean["intervals"]["psnr"] for mean in means)
    header = ["R", "method", *_HEADS.values(), "above best classical: PSNR / dB", "SSIM"]
    rows = []
    for mean in means:
        key = (mean["acceleration"], mean["method"])
        cells = [f"{mean['acceleration']:g}", f"`{mean['method']}`", *(_number(mean[name], name) for name in _FORMS)]
        cells += [_spread(above[metric].get(key), metric, sign=True) for metric in above]
        if with_interval:
            low, high = mean["intervals"]["psnr"] or (None, None)
            cells.append("-" if low is None else f"{low:.2f} to {high:.2f}")
        rows.append(cells)
    return _table([*header, *(["95 % interval over persons, PSNR / dB"] if with_interval else [])], rows, text=2)


def _headline(page: Page, method: str) -> str:
    parts = []
    pooled_psnr = pooled_differences(page.raw.rows, page.raw.persons, "psnr")
    for acceleration in page.accelerations:
        each = [one for one in differences(page.raw.at(acceleration), "psnr") if one.method == method]
        if not each:
            continue
        least = min(each, key=lambda one: one.spread.mean)
        mean = pooled_psnr[acceleration, method].mean
        where = (
            f" (least on {page.raw.labels[least.file]}: {_spread(least.spread, 'psnr', sign=True)})"
            if len(each) > 1
            else ""
        )
        parts.append(f"{mean:+.2f} dB at R = {acceleration:g}{where}")
    return f"`{method}` above the best classical method, PSNR on real scans: {'; '.join(parts) or 'no comparison'}."


def _simulated_headlines(page: Page) -> Iterator[str]:
    for method in _others(page) if page.simulated else ():
        for acceleration in page.accelerations:
            found = {
                one.num_coils: pooled_differences(one.at(acceleration), one.persons, "psnr").get((acceleration, method))
                for one in page.simulated
            }
            gains = {coils: value.mean for coils, value in found.items() if value is not None}
            if gains:
                least = min(gains, key=gains.__getitem__)
                most = max(gains, key=gains.__getitem__)
                coils = f"{_coils(least)}) to {gains[most]:+.2f} dB ({_coils(most)})"
                yield (
                    f"`{method}` above the best classical method, PSNR on **simulated** multi-coil k-space at "
                    f"R = {acceleration:g}: {gains[least]:+.2f} dB ({coils}."
                )


def _method_notes(page: Page) -> Iterator[str]:
    yield from ["Made entirely by this command; edit nothing by hand:", "", "```", page.command, "```", ""]
    raw = page.raw
    seeds = dict.fromkeys(row["seed"] for row in raw.rows)
    yield f"- Commit `{page.commit}`. The command fails where a registered scan or the weights of a method are missing."
    yield f"- Metrics: {raw.convention}"
    yield (
        f"- Masks: {MASK_DEFINITION}. Seeds {', '.join(map(str, seeds))}; every method sees the same masks. R is "
        "what was asked for, the columns that gives are in the table below."
    )
    yield f"- {MASK_VARIABILITY}"
    yield (
        f"- An interval over persons stands only where there are at least {MIN_PERSONS} of them. Means go over "
        "slices, then masks, then the scans of a person, then persons."
    )
    yield f"- {BEST_CLASSICAL}"
    yield f"- {VALIDATION if raw.split == 'validation' else TUNING}"
    for line in _model_notes(page):
        yield f"- {line}"
    yield ""
    yield from _scans_table(page)
    yield ""
    for name, reason in raw.left_out.items():
        yield f"Not measured: `{name}` ({reason})."
        yield ""


def _model_notes(page: Page) -> Iterator[str]:
    models = {}
    warned: dict[tuple[str, str], list[str]] = {}
    for row in (row for evaluation in (page.raw, *page.simulated) for row in evaluation.rows):
        info = row["info"]
        if "model_sha256" in info:
            models[row["method"]] = (
                f"weights of `{row['method']}`: `{info['model']}`, SHA-256 `{info['model_sha256'][:12]}…`, "
                f"{info['parameters'] / 1e6:.2f} million parameters"
            )
        for warning in info.get("warnings", []):
            kind = re.sub(r"\d+(\.\d+)?", "", warning)  # calls of one kind differ in their numbers
            warned.setdefault((row["method"], kind), []).append(warning)
    if models:
        yield "; ".join(models.values()).replace("weights", "Weights", 1) + "."
    if warned:
        notes = [f"`{method}`: {texts[0]} ({_count(len(texts), 'such call')})" for (method, _), texts in warned.items()]
        yield f"Outside the training envelope of a model card: {'; '.join(notes)}."


def _scans_table(page: Page) -> list[str]:
    raw = page.raw
    receipts = {(one["file"], one["requested_acceleration"]): one for one in raw.receipts}
    rows = []
    for file, label in raw.labels.items():
        cells = [label, f"`{file}`", raw.persons[file], _shape(raw.shapes.get(file))]
        for acceleration in page.accelerations:
            receipt = receipts[file, acceleration]
            realised = f"{receipt['realised_acceleration']:.2f}x"
            cells.append(f"{receipt['num_lines']} of {receipt['support_width']} ({realised})")
        rows.append(cells)
    header = ["scan", "file", "person", "slices, coils, matrix"]
    return _table([*header, *(f"columns at R = {one:g}" for one in page.accelerations)], rows, text=4)


def _raw_section(page: Page) -> Iterator[str]:
    raw = page.raw
    if "acceleration" in page.plots:
        yield from _picture(page.plots["acceleration"])
    persons = list(dict.fromkeys(raw.persons.values()))
    yield from ["### Means by person", ""]
    header = ["R", "method", *(f"{person}: {_HEADS[name]}" for person in persons for name in ("psnr", "ssim"))]
    rows = [
        [
            f"{mean['acceleration']:g}",
            f"`{mean['method']}`",
            *(_number(mean["by_person"][person][name], name) for person in persons for name in ("psnr", "ssim")),
        ]
        for mean in raw.means()
        if mean["acceleration"] in page.accelerations
    ]
    yield from _table(header, rows, text=2)
    yield ""
    for acceleration in page.accelerations:
        yield from [f"### Each scan at R = {acceleration:g}", ""]
        yield from _scan_table(raw, acceleration)
        yield ""


def _scan_table(evaluation: Evaluation, acceleration: float) -> list[str]:
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
                *(_spread(row[name], name) for name in ("psnr", "ssim")),
                _number(row["nmse"].mean if row["nmse"] else None, "nmse"),
                *("" if one is None else _spread(one.spread, one.metric, sign=True) for one in better),
                "" if better[0] is None else f"`{better[0].against}`",
            ]
        )
    header = ["scan", "method", "PSNR / dB", "SSIM", "NMSE", "above best classical: PSNR / dB", "SSIM", "which (PSNR)"]
    return _table(header, cells, text=2)


def _simulated_section(page: Page) -> Iterator[str]:
    first = page.simulated[0]
    yield (
        f"**Simulated** from magnitude images of the split's persons ({_count(len(first.persons), 'image')} of "
        f"{_count(len(set(first.persons.values())), 'person')}): Fourier-cropped to their true support, with a "
        "smooth random phase, coils around the object and complex noise; there is no open fully sampled multi-coil "
        "raw scan of these persons. The coil maps are hidden from the methods. The reference is the image without "
        "noise, `sqrt(sum_c |S_c x|²) = |x|`: the root sum of squares of noisy coils has a floor of noise where there "
        "is no signal, and would reward methods that leave noise there."
    )
    yield ""
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(row["seed"] for row in first.rows))
    slices = {shape[0] for one in page.simulated for shape in one.shapes.values()}
    yield (
        f"Seeds {seeds}; middle slices of each image: {', '.join(map(str, sorted(slices)))}. {first.convention} "
        "Means as above; in brackets the mask variability of the mean."
    )
    yield ""
    if "coils" in page.plots:
        yield from _picture(page.plots["coils"])
    for metric in ("psnr", "ssim"):
        yield from [f"{_HEADS[metric]}, simulated:", ""]
        yield from _coils_table(page, metric)
        yield ""


def _coils_table(page: Page, metric: str) -> list[str]:
    others = _others(page)
    header = ["R", "coils", *(f"`{name}`" for name in page.methods)]
    header += [f"`{name}` above best classical" for name in others]
    rows = []
    for acceleration in page.accelerations:
        for one in page.simulated:
            group = one.at(acceleration)
            above = pooled_differences(group, one.persons, metric)
            means = [
                pooled(((row["file"], row["seed"], row[metric]) for row in group if row["method"] == name), one.persons)
                for name in page.methods
            ]
            cells = [f"{acceleration:g}", str(one.num_coils)]
            cells += [_number(mean.mean if mean else None, metric) for mean in means]
            cells += [_spread(above.get((acceleration, name)), metric, sign=True) for name in others]
            rows.append(cells)
    return _table(header, rows, text=0)


def _losses_section(page: Page) -> Iterator[str]:
    yield from _behind_classical(page)
    order = ", ".join(f"`{name}`" for name in page.methods)
    for what, evaluations in (
        ("Real raw k-space", [page.raw]),
        ("**Simulated**, all numbers of coils", page.simulated),
    ):
        if not evaluations:
            continue
        rows = _losses_rows(page, evaluations)
        if not rows:
            yield f"{what}: in the order {order}, none is behind one named before it on any scan, mask and metric."
        else:
            yield (
                f"{what}: scans and masks on which a method is behind one named before it, in the order {order}, of "
                "all at that R:"
            )
            yield ""
            header = ["method", "behind", "in", *(f"R = {one:g}" for one in _accelerations(evaluations)), "at worst by"]
            yield from _table(header, rows, text=3)
        yield ""
    if page.failures:
        yield (
            "Worst cases, of the real scans whose licence allows a picture: the least gain over all accelerations and "
            "masks, and the largest error (NMSE) at the accelerations of the tables."
        )
        yield ""
    for picture in page.failures:
        yield from _picture(picture)


def _behind_classical(page: Page) -> Iterator[str]:
    others = " and ".join(f"`{name}`" for name in _others(page))
    if not others:
        return
    behind: dict[tuple[str, str, str], dict[float, str]] = {}
    for metric in ("psnr", "ssim"):
        found = [
            (page.raw.labels[one.file], one.method, one.acceleration, one.spread)
            for one in differences(page.raw.rows, metric)
        ]
        for evaluation in page.simulated:
            above = pooled_differences(evaluation.rows, evaluation.persons, metric)
            label = f"simulated, {_coils(evaluation.num_coils)} (mean)"
            found += [(label, method, acceleration, value) for (acceleration, method), value in above.items()]
        for label, method, acceleration, value in found:
            if value.mean < 0:
                key = (label, f"`{method}`", _HEADS[metric])
                behind.setdefault(key, {})[acceleration] = _spread(value, metric, sign=True)
    if not behind:
        yield f"In the mean over masks {others} are behind the best classical method nowhere, in PSNR or SSIM."
    else:
        yield f"Where {others} are behind the best classical method in the mean over masks:"
        yield ""
        accelerations = _accelerations([page.raw, *page.simulated])
        header = ["scan", "method", "difference in", *(f"R = {one:g}" for one in accelerations)]
        rows = [[*key, *(cells.get(one, "") for one in accelerations)] for key, cells in behind.items()]
        yield from _table(header, rows, text=3)
    yield ""


def _losses_rows(page: Page, evaluations: Sequence[Evaluation]) -> list[list[str]]:
    counts: dict[tuple[str, str, str], dict[float, int]] = {}
    worst: dict[tuple[str, str, str], float] = {}
    cases: dict[float, int] = {}
    for evaluation in evaluations:
        for acceleration in evaluation.accelerations:
            here = {(row["file"], row["seed"]) for row in evaluation.at(acceleration)}
            cases[acceleration] = cases.get(acceleration, 0) + len(here)
        for one in losses(evaluation.rows, page.methods):
            key = (one["method"], one["simpler"], one["metric"])
            by_acceleration = counts.setdefault(key, {})
            by_acceleration[one["acceleration"]] = by_acceleration.get(one["acceleration"], 0) + one["lost"]
            worst[key] = min(worst.get(key, 0.0), one["worst"])
    order = list(page.methods)
    return [
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


def _accelerations(evaluations: Sequence[Evaluation]) -> list[float]:
    return sorted({acceleration for one in evaluations for acceleration in one.accelerations})


def _time_section(page: Page) -> Iterator[str]:
    yield (
        "Wall time in seconds, estimation of coil maps included, mean over masks and accelerations, on the machine "
        "of the "
        "run, for orientation only; measured comparisons of speed are in [benchmarks.md](benchmarks.md)."
    )
    yield ""
    rows = [
        [label, _shape(page.raw.shapes.get(file)), *_seconds(page, page.raw, file)]
        for file, label in page.raw.labels.items()
    ]
    for one in page.simulated:
        shapes = sorted({_shape(shape) for shape in one.shapes.values()})
        rows.append([f"simulated, {_coils(one.num_coils)}", "; ".join(shapes), *_seconds(page, one, None)])
    header = ["scan", "slices, coils, matrix", *(f"`{name}`" for name in page.methods)]
    yield from _table(header, rows, text=2)
    yield ""


def _seconds(page: Page, evaluation: Evaluation, file: str | None) -> list[str]:
    cells = []
    for name in page.methods:
        values = [r["seconds"] for r in evaluation.rows if r["method"] == name and file in (None, r["file"])]
        cells.append(f"{sum(values) / len(values):.2f}" if values else "-")
    return cells


def _others(page: Page) -> list[str]:
    return [name for name in page.methods if name not in CLASSICAL]


def _picture(picture: Picture) -> list[str]:
    return [f"![{picture.alt}]({picture.path})", "", picture.caption, ""]


def _spread(value: Spread | None, metric: str, *, sign: bool = False) -> str:
    if value is None:
        return "" if sign else "-"
    form = ("+" if sign else "") + _FORMS[metric]
    bracket = f" [{value.low:{form}}, {value.high:{form}}]" if value.masks > 1 else ""
    return f"{value.mean:{form}}{bracket}"


def _number(value: float | None, metric: str) -> str:
    return "-" if value is None else format(value, _FORMS[metric])


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else f"{shape[0]}, {shape[1]}, {shape[2]}x{shape[3]}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _coils(number: int | None) -> str:
    return "coils of the scanner" if number is None else _count(number, "coil")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, text: int) -> list[str]:
    """A table whose first `text` columns are text, the others numbers."""
    return [
        "| " + " | ".join(header) + " |",
        "|" + "|".join("---" if column < text else "--:" for column in range(len(header))) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
