"""Write the results page: summary, how it was made, tables and plots of the scans, worst cases.

Rows of single masks stay in the JSON file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mri_recon.notice import RESEARCH_ONLY
from mri_recon.results.averages import MIN_PERSONS
from mri_recon_training.evaluation.averages import CLASSICAL, MASK_VARIABILITY
from mri_recon_training.evaluation.page_tables import (
    HEADS,
    behind_classical_table,
    counted,
    losses_table,
    scan_table,
    scans_table,
    seconds_table,
    worlds_table,
)
from mri_recon_training.evaluation.results import MASK_DEFINITION, Evaluation
from mri_recon_training.evaluation.weight_by_snr import RULES
from mri_recon_training.evaluation.worlds import SNR_RULE, World, worlds_of
from mri_recon_training.markdown import Picture

__all__ = ["Page", "markdown_page"]

BEST_CLASSICAL = (
    "The best classical method is, for each scan, acceleration and metric, the one of "
    f"{', '.join(f'`{name}`' for name in CLASSICAL)} that was run with the best mean over the masks: "
    "found by looking at the truth, in favour of the classical side. Differences to it are taken on the same mask."
)
TUNING = (
    "Every choice was made on validation persons, none of them here: weights, epochs and configuration of the "
    "networks; prior and weight of `cs-wavelet` (`benchmarks/classical/quality.py tune`, see "
    "[classical.md](../using/classical.md)); the weight of `cg-sense` "
    "(`benchmarks/classical/quality.py tune-cg-sense`); their weights by SNR "
    "(`benchmarks/classical/weight_by_snr.py`). Options are those of the command, else the defaults."
)
BY_SNR = (
    "`by SNR`: the classical method again, its weight not the automatic one but by the SNR, estimated from the "
    "undersampled scan, and R. With one coil there is no such number: the automatic weight of `cs-wavelet` is within "
    "0.1 dB of the best one there, and `cg-sense` is the zero-filled image but for a factor."
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
        simulated: rows of simulated k-space, one evaluation for each array of coils.
        plots: by acceleration and by number of coils.
        failures: worst cases.
        phantoms: rows of phantoms, which count for no gain; None: there are none.
    """

    command: str
    commit: str
    methods: Sequence[str]
    accelerations: Sequence[float]
    raw: Evaluation
    simulated: Sequence[Evaluation] = ()
    plots: Mapping[str, Picture] = field(default_factory=dict)
    failures: Sequence[Picture] = ()
    phantoms: Evaluation | None = None

    @property
    def evaluations(self) -> list[Evaluation]:
        """All evaluations, real scans first."""
        return [self.raw, *([] if self.phantoms is None else [self.phantoms]), *self.simulated]

    @property
    def worlds(self) -> list[World]:
        """The worlds of all evaluations."""
        return [world for one in self.evaluations for world in worlds_of(one)]


def markdown_page(page: Page) -> str:
    """Give the page as Markdown."""
    lines = [
        "# Results",
        "",
        f"Split `{page.raw.split}` of the [data registry](../training/data.md). {RESEARCH_ONLY} These numbers "
        "are not comparable with published fastMRI results: the data differ.",
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
        lines += ["## Simulated k-space", "", *_simulated_section(page)]
    lines += ["## Where methods lose", "", *_losses_section(page), "## Time of one call", "", *_time_section(page)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def _summary(page: Page) -> Iterator[str]:
    raw = page.raw
    persons = counted(len(set(raw.persons.values())), "subject")
    yield (
        f"PSNR / dB by world: {counted(len(raw.persons), 'real raw scan')} of {persons}"
        f"{', and phantoms' if page.phantoms is not None else ''}{', and simulated scans' if page.simulated else ''}. "
        "Means are taken within a world, over masks, then scans of a subject, then subjects; in brackets the mask "
        "variability."
    )
    yield ""
    yield from worlds_table(page.worlds, page.methods, page.accelerations, "psnr")
    yield ""
    for method in _others(page):
        for what, kind in (("real raw k-space", "raw"), ("**simulated** k-space", "simulated")):
            line = _headline(page, method, kind)
            if line:
                yield f"- `{method}` above the best classical method, PSNR on {what}: {line}."
    yield ""


def _headline(page: Page, method: str, kind: str) -> str:
    parts = []
    for acceleration in page.accelerations:
        found = [
            (world, world.gains("psnr").get((acceleration, method))) for world in page.worlds if world.kind == kind
        ]
        gains = {world.title: gain.mean for world, gain in found if gain is not None}
        if gains:
            least, most = min(gains, key=gains.__getitem__), max(gains, key=gains.__getitem__)
            upper = "" if least == most else f" to {gains[most]:+.2f} dB ({most})"
            parts.append(f"at R = {acceleration:g} {gains[least]:+.2f} dB ({least}){upper}")
    return "; ".join(parts)


def _method_notes(page: Page) -> Iterator[str]:
    yield from ["Made entirely by this command; edit nothing by hand:", "", "```", page.command, "```", ""]
    raw = page.raw
    yield f"- Commit `{page.commit}`. The command fails where a registered scan or the weights of a method are missing."
    yield f"- Metrics: {raw.convention}"
    yield (
        f"- Masks: {MASK_DEFINITION}. {_seeds_text(page)} Every method sees the same masks. R is "
        "what was asked for, the columns that gives are in the table below."
    )
    yield f"- {MASK_VARIABILITY}"
    yield (
        f"- An interval over persons stands only where there are at least {MIN_PERSONS} of them, in the JSON file. "
        "Means go over slices, then masks, then the scans of a person, then persons, always within a world."
    )
    yield f"- {SNR_RULE}."
    yield (
        "- A world is the scanner and the anatomy, as the data registry names them, with the number of coils. Phantoms "
        "count for no gain, only for whether a network is below the simple methods."
    )
    yield f"- {BEST_CLASSICAL}"
    yield f"- {VALIDATION if raw.split == 'validation' else TUNING}"
    if any(name in RULES for name in page.methods):
        yield f"- {BY_SNR}"
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


def _seeds_text(page: Page) -> str:
    """Tell which seeds were used where; scans that are parts of one file and further accelerations may have fewer."""
    kinds: dict[str, set[int]] = {"": set(), "at the further accelerations": set()}  # in this order
    for row in page.raw.rows:
        part = row["file"] in page.raw.parts
        inside = row["acceleration"] in page.accelerations
        what = "of scans that are parts of one file" if part else "" if inside else "at the further accelerations"
        kinds.setdefault(what, set()).add(row["seed"])
    texts = [
        f"Seeds {what}: {', '.join(map(str, sorted(seeds)))}.".replace(" :", ":")
        for what, seeds in kinds.items()
        if seeds
    ]
    return " ".join(texts)


def _raw_section(page: Page) -> Iterator[str]:
    raw = page.raw
    if "acceleration" in page.plots:
        yield from page.plots["acceleration"].lines()
    yield from ["### SSIM by world", ""]
    real = [world for world in page.worlds if world.kind != "simulated"]
    yield from worlds_table(real, page.methods, page.accelerations, "ssim")
    yield ""
    for acceleration in page.accelerations:
        for metric in ("psnr", "ssim"):
            yield from [f"### {HEADS[metric]} of each scan at R = {acceleration:g}", ""]
            yield from scan_table(raw, page.methods, acceleration, metric)
            yield ""


def _simulated_section(page: Page) -> Iterator[str]:
    first = page.simulated[0]
    measured = any(one.array is not None and one.array.measured for one in page.simulated)
    yield (
        f"**Simulated** from magnitude images of the split's persons ({counted(len(first.persons), 'image')} of "
        f"{counted(len(set(first.persons.values())), 'person')}): Fourier-cropped to their true support, with a "
        "smooth random phase, coils around the object and complex noise"
        f"{', or coils and noise as measured on a validation phantom' if measured else ''}. The coil maps are hidden "
        "from the methods. The reference is the image without "
        "noise, `sqrt(sum_c |S_c x|²) = |x|`: the root sum of squares of noisy coils has a floor of noise where there "
        "is no signal, and would reward methods that leave noise there."
    )
    yield ""
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(row["seed"] for row in first.rows))
    slices = {shape[0] for one in page.simulated for shape in one.shapes.values()}
    yield (
        f"Seeds {seeds}; middle slices of each image: {', '.join(map(str, sorted(slices)))}. {first.convention} "
        "Means as above; in brackets the mask variability of the mean. PSNR is in the summary."
    )
    yield ""
    if "coils" in page.plots:
        yield from page.plots["coils"].lines()
    yield from [f"{HEADS['ssim']}, simulated:", ""]
    simulated = [world for world in page.worlds if world.kind == "simulated"]
    yield from worlds_table(simulated, page.methods, page.accelerations, "ssim")
    yield ""


def _losses_section(page: Page) -> Iterator[str]:
    yield from _behind_classical(page)
    # Weights by SNR are alternatives, not steps: they are in the table above, as the best classical method.
    methods = [name for name in page.methods if name not in RULES]
    order = ", ".join(f"`{name}`" for name in methods)
    for what, evaluations in (
        ("Real raw k-space", [page.raw]),
        ("Phantoms", [] if page.phantoms is None else [page.phantoms]),
        ("**Simulated**, all worlds and coils", page.simulated),
    ):
        if not evaluations:
            continue
        lost = losses_table(evaluations, methods)
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
            "The worst case of each world, of the scans whose licence allows a picture: the least gain of a learned "
            "method over all accelerations and masks, with all learned methods beside it. Slices are counted from 1."
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
    yield from seconds_table(page.evaluations, page.methods)
    yield ""


def _others(page: Page) -> list[str]:
    return [name for name in page.methods if name not in CLASSICAL]
