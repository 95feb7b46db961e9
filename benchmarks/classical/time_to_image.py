"""Time that compressed sensing takes to a given image: every prior of `cs-wavelet`, BART's `pics` and SigPy.

    python benchmarks/classical/time_to_image.py --json t.json --plot t.png     the table of docs/results/benchmarks.md
    python benchmarks/classical/time_to_image.py --quick                        one simulated problem, few repetitions

Each method converges to an image of its own, whose PSNR is printed. Its time to the image is that of the shortest run
from which on the PSNR stays within 0.05 dB of it, of a grid of numbers of iterations (where that is the longest run,
the PSNR has not settled, and its time is a lower bound); `cs-wavelet` is also measured as
users call it, with its own stop ("default call"). Problems: SIMULATED 320x320 with 8 coils and the true maps given, and
one slice of each REAL raw validation scan with one coil (needs the data registry). BART runs in its default mode
(random shifts of the wavelets), SigPy is `L1WaveletRecon`; both at the weight of a grid that gives the best converged
PSNR by looking at the truth, ours at the automatic weight.

All run on one thread, in turns. "s" is processor time, user and system, of the whole call: BART with its start-up,
reading and writing; SigPy with its set-up. It does not count the waits for a core on a busy machine; wall time, which
does, is in the JSON. Medians and quartiles over the repetitions; "times ours" is the median of the ratios, within a
round, to the default call of the default prior.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import torch
import typer
from peers import Bart, Problem, SigPy
from quality import _raw_cases
from speed import full_simulation
from torch import Tensor

from mri_recon.errors import DataError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.methods import priors
from mri_recon.methods.cs_wavelet import cs_wavelet
from mri_recon.operators.sense import SenseOperator
from mri_recon.results.plots import FURTHER, LINES, new_plot, save_plot

LEVEL = 0.05
"""Decibels from the converged PSNR."""

MARKS = (2, 4, 7, 12, 20, 35, 60, 100, 170, 300, 500)
"""Numbers of iterations; the last up to `--longest` counts as converged."""

WEIGHTS = {"BART pics": (0.0003, 0.001, 0.003, 0.01, 0.03), "SigPy": (0.0003, 0.001, 0.003, 0.01)}
"""Candidates; BART's are relative to its own scaling of the data, SigPy's to max |A^H y|."""

SIMULATED = ((320, 320, 8, 40.0, 4), (320, 320, 8, 200.0, 8))
"""Rows, columns, coils, SNR, acceleration."""


@dataclass(frozen=True)
class Case:
    """A problem of one slice and its truth."""

    name: str
    kspace: Tensor
    mask: Any
    maps: Tensor
    truth: Tensor

    def psnr(self, image: Any) -> float:
        """PSNR of the magnitudes, the data range being the largest of the truth."""
        error = (torch.as_tensor(np.abs(np.asarray(image))) - self.truth).square().mean()
        return float(10 * torch.log10(self.truth.amax() ** 2 / error))


@dataclass
class Way:
    """A method on a problem: `run` takes the number of iterations, None for its own stop, and gives the image."""

    name: str
    run: Callable[[int | None], Any]
    own_stop: bool
    marks: tuple[int, ...]
    curve: list[float] = field(default_factory=list)
    note: str = ""
    processor: dict[str, list[float]] = field(default_factory=dict)
    wall: dict[str, list[float]] = field(default_factory=dict)

    @property
    def needed(self) -> int:
        """The first mark from which on the PSNR is that of the converged image."""
        far = [mark for mark, value in zip(self.marks, self.curve, strict=True) if abs(value - self.curve[-1]) > LEVEL]
        return next(mark for mark in self.marks if not far or mark > far[-1])

    def time(self, label: str, iterations: int | None) -> Any:
        start, wall = _processor(), time.perf_counter()
        image = self.run(iterations)
        self.processor.setdefault(label, []).append(_processor() - start)
        self.wall.setdefault(label, []).append(time.perf_counter() - wall)
        return image


def main(
    repetitions: Annotated[int, typer.Option(min=1)] = 5,
    quick: Annotated[bool, typer.Option(help="The first simulated problem only, 2 repetitions")] = False,
    problems: Annotated[
        str, typer.Option(help="Numbers of problems, 0 and 1 simulated, the rest raw scans [all]")
    ] = "",
    longest: Annotated[int, typer.Option(min=2, help="Iterations of the longest run")] = 300,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write every number here")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG or SVG")] = None,
) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    repetitions = 2 if quick else repetitions
    typer.echo(
        f"one thread, {repetitions} repetitions, processor time; median (quartiles); load {os.getloadavg()[0]:.1f}"
    )
    typer.echo(
        f"{'problem':26} {'method':22}{'converged':>10}{'its':>5}{'s to the image':>22}{'default call':>22}{'its':>5}"
        f"{'PSNR':>7}{'times ours':>20}"
    )
    documents = []
    marks = tuple(mark for mark in MARKS if mark <= longest)
    chosen = {int(number) for number in problems.split(",") if number}
    for number, case in enumerate(_cases(quick)):
        if chosen and number not in chosen:
            continue
        documents.append(_measure(case, repetitions, marks))
        if json_path is not None:
            json_path.write_text(json.dumps(documents, indent=1), encoding="utf-8")
    if plot is not None:
        _draw(documents, plot)


def _cases(quick: bool) -> list[Case]:
    cases = []
    for h, w, coils, snr, acceleration in SIMULATED[: 1 if quick else None]:
        kspace, maps, truth = full_simulation(h, w, coils, snr=snr)
        mask = random_mask(w, acceleration, seed=0)
        name = f"{h}x{w}x{coils} SNR {snr:g} R={acceleration}"
        cases.append(Case(name, undersample(kspace, mask)[None], mask, maps[None], truth))
    try:
        scans = [] if quick else _raw_cases("validation", 1)
    except DataError as error:
        typer.echo(f"without the raw scans: {error}", err=True)
        scans = []
    for scan in scans:
        mask = random_mask(scan.kspace.shape[-1], 4, seed=0, support=scan.support)
        kspace = undersample(scan.kspace, mask)
        name = Path(scan.name).name.split("__")
        short = name[0] + "_" + name[-1].split("_")[1]
        size = f"{kspace.shape[-2]}x{kspace.shape[-1]}"
        cases.append(Case(f"{short} {size}x1 R=4", kspace, mask, torch.ones_like(kspace), scan.target[0]))
    return cases


def _measure(case: Case, repetitions: int, marks: tuple[int, ...]) -> dict[str, Any]:
    ways = [_ours(case, name, marks) for name in priors.PRIORS] + [*_bart(case, marks), *_sigpy(case, marks)]
    for way in ways:
        way.curve = [case.psnr(way.run(mark)) for mark in way.marks]
    quality = {}
    for _ in range(repetitions):
        for way in ways:
            way.time("image", way.needed)
            if way.own_stop:
                quality[way.name] = case.psnr(way.time("default", None))
    ours = ways[0].processor["default"]
    rows = []
    for number, way in enumerate(ways):
        times = way.processor["image"]
        default = way.processor.get("default")
        ratio = _text([theirs / own for theirs, own in zip(default or times, ours, strict=True)], 2)
        typer.echo(
            f"{case.name if number == 0 else '':26} {way.name:22}{way.curve[-1]:10.2f}{way.needed:5d}{_text(times):>22}"
            f"{'' if default is None else _text(default):>22}{way.note if way.own_stop else '':>5}"
            f"{quality[way.name] if way.own_stop else way.curve[-1]:7.2f}{ratio:>20}"
        )
        rows.append(
            {
                "method": way.name, "note": way.note, "marks": list(way.marks), "psnr": way.curve, "needed": way.needed,
                "default_psnr": quality.get(way.name), "processor": way.processor, "wall": way.wall,
            }
        )  # fmt: skip
    return {"problem": case.name, "rows": rows}


def _ours(case: Case, prior: str, marks: tuple[int, ...]) -> Way:
    several = case.kspace.shape[1] > 1

    def run(iterations: int | None) -> Any:
        options: dict[str, Any] = {} if iterations is None else {"gap_tol": 0, "max_iters": iterations}
        with ExitStack() as stack:
            if iterations is not None:
                never = dict.fromkeys(("_ADMM_TOLERANCE", "_LEAST_CHANGE", "_MOST_CHANGE"), 0.0)
                stack.enter_context(patch.multiple(priors, **never, _SPINS=iterations))
            image, info = cs_wavelet(case.kspace, case.mask, case.maps if several else None, prior=prior, **options)
        if iterations is None:
            way.note = str(info["iterations"])
        return image[0]

    way = Way(f"ours, {prior}", run, own_stop=True, marks=marks)
    return way


def _bart(case: Case, marks: tuple[int, ...]) -> list[Way]:
    if not Bart.available():
        return []
    bart = Bart(1)
    bart.load(_problem(case))
    weight = max(WEIGHTS["BART pics"], key=lambda w: case.psnr(bart.default(w, marks[-1])[1]))
    return [
        Way("BART pics", lambda n: bart.default(weight, n or 0)[1], own_stop=False, marks=marks, note=f"{weight:g}")
    ]


def _sigpy(case: Case, marks: tuple[int, ...]) -> list[Way]:
    if importlib.util.find_spec("sigpy") is None:
        return []
    import numba

    numba.set_num_threads(1)
    worker, problem = SigPy(1), _problem(case)
    size = float(SenseOperator(case.mask.tensor(), case.maps).adjoint(case.kspace).abs().amax())
    worker._problem = Problem(problem.kspace / size, problem.lines, problem.maps)

    def image(weight: float, iterations: int) -> Any:
        algorithm = worker._start(weight, iterations)
        for _ in range(iterations):
            algorithm.update()
        return algorithm.x * size

    weight = max(WEIGHTS["SigPy"], key=lambda w: case.psnr(image(w, marks[-1])))
    return [
        Way("SigPy L1WaveletRecon", lambda n: image(weight, n or 0), own_stop=False, marks=marks, note=f"{weight:g}")
    ]


def _problem(case: Case) -> Problem:
    return Problem(case.kspace.numpy(), case.mask.tensor().numpy(), case.maps[0].numpy())


def _processor() -> float:
    """Seconds of this process and of the programs that it ran."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _text(values: list[float], digits: int = 3) -> str:
    low, median, high = np.percentile(values, (25, 50, 75))
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def _draw(documents: list[dict[str, Any]], path: Path) -> None:
    """PSNR over time, a panel a problem, and beside each the times to the image as bars; ">": not settled then."""
    figure, axes = new_plot(len(documents), 2, panel=(4.6, 2.6))
    looks = {"ours, stationary": LINES["ours"], "BART pics": LINES["bart"], "SigPy L1WaveletRecon": LINES["sigpy"]}
    others = iter((LINES["cg-sense"], LINES["zero-filled"], *FURTHER))
    for document, (curves, bars) in zip(documents, axes, strict=True):
        for place, row in enumerate(document["rows"]):
            if row["method"] not in looks:
                looks[row["method"]] = next(others)
            look = looks[row["method"]]
            middle, low, high = (float(np.percentile(row["processor"]["image"], q)) for q in (50, 25, 75))
            seconds = [middle * mark / row["needed"] for mark in row["marks"]]
            curves.semilogx(seconds, row["psnr"], **look.options())
            bars.barh(place, middle, color=look.colour, xerr=[[middle - low], [high - middle]], height=0.65)
            least = "> " if row["needed"] == row["marks"][-1] else ""
            bars.text(high, place, f"  {least}{middle:.2g} s, {row['psnr'][-1]:.1f} dB", va="center", fontsize=8)
        curves.set_title(document["problem"], fontsize=10, loc="left")
        curves.set_ylabel("PSNR / dB", fontsize=9)
        bars.set_xlim(right=bars.get_xlim()[1] * 1.35)
        bars.set_yticks(range(len(document["rows"])), [row["method"] for row in document["rows"]], fontsize=8)
        bars.invert_yaxis()
    axes[-1, 0].set_xlabel("processor time / s", fontsize=9)
    axes[-1, 1].set_xlabel(f"processor time to {LEVEL} dB of the own converged PSNR / s", fontsize=9)
    save_plot(figure, path)


if __name__ == "__main__":
    sys.exit(typer.run(main))
