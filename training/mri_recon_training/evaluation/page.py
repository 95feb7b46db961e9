"""Write the results page: summary, how it was made, tables and plots of the scans, worst cases.

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
    differences,
    pooled_differences,
)
from mri_recon_training.evaluation.page_tables import (
    HEADS,
    behind_classical_table,
    coils_table,
    coils_text,
    counted,
    losses_table,
    means_table,
    persons_table,
    scan_table,
    scans_table,
    seconds_table,
    spread_text,
)
from mri_recon_training.evaluation.results import MASK_DEFINITION, Evaluation
from mri_recon_training.markdown import Picture

__all__ = ["Page", "markdown_page"]

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


@dataclass(frozen=True)
class Page:
    """Content of the results page.

    Attributes:
        command: that made the page.
        commit: of the project at that time.
        methods: simplest first.
        accelerations: of the tables; the evaluation may have more, for the plot.
        raw: rows of the scanner's k-space.
        simulated: rows of simulated k-space, one evaluation for each number of coils.
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
    """Give the page as Markdown."""
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
    yield f"Real raw k-space, {counted(len(raw.persons), 'scan')} of {counted(count, 'person')}, means over persons:"
    yield ""
    yield from means_table(page.raw, page.accelerations)
    yield ""
    for method in _others(page):
        yield f"- {_headline(page, method)}"
    for line in _simulated_headlines(page):
        yield f"- {line}"
    yield ""


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
            f" (least on {page.raw.labels[least.file]}: {spread_text(least.spread, 'psnr', sign=True)})"
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
                coils = f"{coils_text(least)}) to {gains[most]:+.2f} dB ({coils_text(most)})"
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
    yield from scans_table(page.raw, page.accelerations)
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
        notes = [
            f"`{method}`: {texts[0]} ({counted(len(texts), 'such call')})" for (method, _), texts in warned.items()
        ]
        yield f"Outside the training envelope of a model card: {'; '.join(notes)}."


def _raw_section(page: Page) -> Iterator[str]:
    raw = page.raw
    if "acceleration" in page.plots:
        yield from page.plots["acceleration"].lines()
    yield from ["### Means by person", ""]
    yield from persons_table(raw, page.accelerations)
    yield ""
    for acceleration in page.accelerations:
        yield from [f"### Each scan at R = {acceleration:g}", ""]
        yield from scan_table(raw, acceleration)
        yield ""


def _simulated_section(page: Page) -> Iterator[str]:
    first = page.simulated[0]
    yield (
        f"**Simulated** from magnitude images of the split's persons ({counted(len(first.persons), 'image')} of "
        f"{counted(len(set(first.persons.values())), 'person')}): Fourier-cropped to their true support, with a "
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
        yield from page.plots["coils"].lines()
    for metric in ("psnr", "ssim"):
        yield from [f"{HEADS[metric]}, simulated:", ""]
        yield from coils_table(page.simulated, page.methods, page.accelerations, metric)
        yield ""


def _losses_section(page: Page) -> Iterator[str]:
    yield from _behind_classical(page)
    order = ", ".join(f"`{name}`" for name in page.methods)
    for what, evaluations in (
        ("Real raw k-space", [page.raw]),
        ("**Simulated**, all numbers of coils", page.simulated),
    ):
        if not evaluations:
            continue
        lost = losses_table(evaluations, page.methods)
        if not lost:
            yield f"{what}: in the order {order}, none is behind one named before it on any scan, mask and metric."
        else:
            yield (
                f"{what}: scans and masks on which a method is behind one named before it, in the order {order}, of "
                "all at that R:"
            )
            yield ""
            yield from lost
        yield ""
    if page.failures:
        yield (
            "Worst cases, of the real scans whose licence allows a picture: the least gain over all accelerations and "
            "masks, and the largest error (NMSE) at the accelerations of the tables."
        )
        yield ""
    for picture in page.failures:
        yield from picture.lines()


def _behind_classical(page: Page) -> Iterator[str]:
    others = " and ".join(f"`{name}`" for name in _others(page))
    if not others:
        return
    behind = behind_classical_table(page.raw, page.simulated)
    if not behind:
        yield f"In the mean over masks {others} are behind the best classical method nowhere, in PSNR or SSIM."
    else:
        yield f"Where {others} are behind the best classical method in the mean over masks:"
        yield ""
        yield from behind
    yield ""


def _time_section(page: Page) -> Iterator[str]:
    yield (
        "Wall time in seconds, estimation of coil maps included, mean over masks and accelerations, on the machine "
        "of the "
        "run, for orientation only; measured comparisons of speed are in [benchmarks.md](benchmarks.md)."
    )
    yield ""
    yield from seconds_table(page.raw, page.simulated, page.methods)
    yield ""


def _others(page: Page) -> list[str]:
    return [name for name in page.methods if name not in CLASSICAL]
