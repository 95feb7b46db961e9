"""Quality of the classical reconstructions: choosing their weight, and a comparison with BART.

    python benchmarks/classical/quality.py tune            validation persons only: PSNR of cs-wavelet by weight
    python benchmarks/classical/quality.py tune-cg-sense   the same of cg-sense
    python benchmarks/classical/quality.py bart            real raw test scans, beside BART's `pics` as it is by default

Weights of `cs-wavelet` are in units of the noise, lambda / sigma. All read the data registry (set MRI_RECON_DATA to a
local copy) and write every row as JSON with `--json`. `tune` and `tune-cg-sense` never open a test scan. BART (Debian
package `bart`) is searched for on the PATH.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from peers import read_cfl, write_cfl
from torch import Tensor

from mri_recon.coils.combine import rss
from mri_recon.errors import DataError, MriReconError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.methods.cg_sense import cg_sense
from mri_recon.methods.cs_wavelet import cs_wavelet
from mri_recon.methods.priors import PRIORS
from mri_recon.methods.zero_filled import zero_filled
from mri_recon.metrics import CONVENTION, psnr, ssim
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data.registry import RegisteredFile
from mri_recon_data.registry import files as registered_files
from mri_recon_data.scenes.images import load_slices
from mri_recon_data.simulation.kspace import coil_maps, complex_noise, smooth_phase
from mri_recon_training.evaluation.simulated import simulated_scan

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

DEFAULT_PRIOR: str = inspect.signature(cs_wavelet).parameters["prior"].default

TUNE_WEIGHTS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Candidates of `tune`, lambda / sigma."""

BEST_WEIGHTS = (0.005, 0.02, 0.05, 0.1, 0.2)
"""Candidates of `bart` for our best weight by looking at the truth, lambda / sigma."""

BART_WEIGHTS = tuple(float(f"{w:.1e}") for w in np.geomspace(1e-4, 1.0, 11))
"""Candidates for BART, relative to its own scaling of the data."""

CG_WEIGHTS = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""Candidates of `tune-cg-sense`, mu in units of ||A||^2."""

_CG_TEXT = ",".join(map(str, CG_WEIGHTS))
_TUNE_TEXT = ",".join(map(str, TUNE_WEIGHTS))
_BEST_TEXT = ",".join(map(str, BEST_WEIGHTS))
_BART_TEXT = ",".join(map(str, BART_WEIGHTS))

SIMULATED_SNR = 40.0
SIMULATED_COILS = (1, 8)

WeightsOption = Annotated[str, typer.Option(help="comma-separated weights, lambda / sigma")]
BartWeightsOption = Annotated[str, typer.Option(help="comma-separated weights, relative to BART's scaling")]
AccelerationOption = Annotated[str, typer.Option(help="comma-separated accelerations")]
SeedsOption = Annotated[str, typer.Option(help="comma-separated mask seeds")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="write all rows here")]


@dataclass(frozen=True)
class Case:
    """Full k-space `(slice, coil, readout, phase)` and its truth `(slice, h, w)`.

    The truth of a real scan is the root sum of squares of its full k-space, noise and all. That of a simulated one is
    the image without noise: with several coils, the root sum of squares has a floor of noise where there is no signal,
    and would reward the methods that leave noise there.
    """

    name: str
    person: str
    group: str
    kspace: Tensor
    target: Tensor
    support: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """One reconstruction."""

    case: str
    person: str
    group: str
    acceleration: float
    seed: int
    method: str
    reg_weight: float | None
    psnr: float
    ssim: float
    iterations: int | None = None
    relative_gap: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Compared:
    """One line of `bart`."""

    zero_filled: Row
    auto: Row
    best: Row
    bart: Row

    @property
    def rows(self) -> tuple[Row, ...]:
        return (self.zero_filled, self.auto, self.best, self.bart)


@app.command()
def tune(
    weights: WeightsOption = _TUNE_TEXT,
    accelerations: AccelerationOption = "4,8",
    seeds: SeedsOption = "1,2",
    prior: Annotated[str, typer.Option(help="comma-separated priors")] = DEFAULT_PRIOR,
    phase: Annotated[str, typer.Option(help="auto, center or none")] = "auto",
    wavelet: Annotated[str, typer.Option(help="comma-separated wavelets; empty stands for the prior's own")] = "",
    levels: Annotated[str, typer.Option(help="comma-separated levels; 0 stands for the prior's own")] = "0",
    num_slices: Annotated[int, typer.Option(min=1, help="middle slices of each scan")] = 2,
    simulated: Annotated[bool, typer.Option(help="add k-space simulated from validation images")] = True,
    final_step: bool = True,
    gap_tol: float = 1e-2,
    max_iters: int = 200,
    json_path: JsonOption = None,
) -> None:
    """PSNR of cs-wavelet by weight in units of the noise, on validation persons only."""
    cases = [*_raw_cases("validation", num_slices), *(_simulated_cases("validation") if simulated else [])]
    methods = {
        "/".join((name, filters or "own wavelet", str(level) if level else "own levels", f"phase {phase}")): {
            "prior": name,
            "phase": phase,
            "wavelet": filters or None,
            "levels": level or None,
            "final_step": final_step,
            "gap_tol": gap_tol,
            "max_iters": max_iters,
        }
        for name in prior.split(",")
        for filters in wavelet.split(",")
        for level in map(int, levels.split(","))
    }
    rows: list[Row] = []
    for case in cases:
        for acceleration in _floats(accelerations):
            for seed in map(int, seeds.split(",")):
                rows.append(_zero_filled_row(case, acceleration, seed))
                for method, options in methods.items():
                    for weight in _floats(weights):
                        row = _cs_row(case, acceleration, seed, reg_weight=weight, **options)
                        rows.append(replace(row, method=method))
        typer.echo(f"done: {case.name} {tuple(case.kspace.shape)}", err=True)
        _write(json_path, rows)
    typer.echo(CONVENTION)
    for method, options in methods.items():
        for group in dict.fromkeys(case.group for case in cases):
            num_coils = next(case.kspace.shape[1] for case in cases if case.group == group)
            automatic = PRIORS[str(options["prior"])].default_weight(num_coils)
            _print_tune(f"{method}; {group}; automatic weight {automatic:g}", method, _of_group(rows, group))


@app.command()
def tune_cg_sense(
    weights: Annotated[str, typer.Option(help="comma-separated weights mu, in units of ||A||^2")] = _CG_TEXT,
    accelerations: AccelerationOption = "4,8",
    seeds: SeedsOption = "1",
    coils: Annotated[str, typer.Option(help="comma-separated numbers of coils")] = "2,8,32",
    json_path: JsonOption = None,
) -> None:
    """PSNR of cg-sense by weight, on SIMULATED multi-coil k-space of validation persons only.

    With one coil the method is the zero-filled image over 1 + mu: there is nothing to choose.
    """
    rows: list[Row] = []
    groups = []
    for count in map(int, coils.split(",")):
        groups.append(f"simulated, {_coils(count)}")
        for file in _images("validation"):
            case = _evaluated_case(file, count, groups[-1])
            for acceleration in _floats(accelerations):
                for seed in map(int, seeds.split(",")):
                    kspace, mask = _sample(case, acceleration, seed)
                    rows.append(_zero_filled_row(case, acceleration, seed))
                    for weight in _floats(weights):
                        image, info = cg_sense(kspace, mask, reg_weight=weight)
                        row = _row(case, acceleration, seed, "cg-sense", weight, image)
                        rows.append(replace(row, iterations=info["iterations"], seconds=info["seconds"]))
            typer.echo(f"done: {case.name} {tuple(case.kspace.shape)}", err=True)
            _write(json_path, rows)
    typer.echo(CONVENTION)
    default = inspect.signature(cg_sense).parameters["reg_weight"].default
    for group in groups:
        _print_tune(f"cg-sense; {group}; default weight {default:g}", "cg-sense", _of_group(rows, group))
    means = {one: _mean(row for row in rows if row.reg_weight == one) for one in _floats(weights)}
    typer.echo(f"\nbest weight over all numbers of coils: {max(means, key=means.__getitem__):g}")


@app.command()
def bart(
    split: Annotated[str, typer.Option(help="split of the raw scans; weights are chosen on validation only")] = "test",
    accelerations: AccelerationOption = "4,8",
    seeds: SeedsOption = "0",
    prior: Annotated[str, typer.Option(help="ours")] = DEFAULT_PRIOR,
    weights: WeightsOption = _BEST_TEXT,
    bart_weights: BartWeightsOption = _BART_TEXT,
    bart_iters: Annotated[int, typer.Option(help="BART's -i")] = 100,
    spin: Annotated[bool, typer.Option(help="BART's random shifts, its default; --no-spin is its -n")] = True,
    num_slices: Annotated[int, typer.Option(min=1, help="middle slices of each scan")] = 100,
    json_path: JsonOption = None,
) -> None:
    """cs-wavelet, automatic and at its best weight, beside `bart pics` at its best weight; best by the truth."""
    rows: list[Row] = []
    compared: list[Compared] = []
    typer.echo(CONVENTION)
    typer.echo(f"PSNR / dB and SSIM. Ours: {prior}. BART: pics {' '.join(_bart_options(spin, bart_iters))}.")
    header = "".join(f"{name:>15}" for name in ("zero-filled", "ours auto", "ours best", "bart best"))
    typer.echo(f"{'scan':20} {'R':>2} {'seed':>4}{header}  auto-bart  best-bart  weights: auto, best, bart")
    for case in _raw_cases(split, num_slices):
        if case.kspace.shape[1] > 1:  # its maps would have to be the same on both sides
            typer.echo(f"left out, several coils: {case.name}", err=True)
            continue
        for acceleration in _floats(accelerations):
            for seed in map(int, seeds.split(",")):
                zero = _zero_filled_row(case, acceleration, seed)
                auto = replace(
                    _cs_row(case, acceleration, seed, prior=prior, reg_weight="auto"), method=f"{prior}, auto"
                )
                ours = [auto] + [
                    _cs_row(case, acceleration, seed, prior=prior, reg_weight=weight)
                    for weight in _floats(weights)
                    if weight != auto.reg_weight
                ]
                theirs = [
                    _bart_row(case, acceleration, seed, weight, spin, bart_iters) for weight in _floats(bart_weights)
                ]
                rows += [zero, *ours, *theirs]
                compared.append(Compared(zero, auto, _best(ours), _best(theirs)))
                _write(json_path, rows)
                _print_compared(compared[-1], theirs)
    _print_means(compared)


def _raw_cases(split: str, num_slices: int) -> list[Case]:
    """Fully sampled raw scans of a split, cut to their middle slices."""
    cases = []
    for file in registered_files(split=split, kind="raw", fully_sampled=True):
        scan = file.load()
        start = max(0, (scan.num_slices - num_slices) // 2)
        kspace = scan.kspace[start : start + num_slices]
        group = f"real, {_coils(kspace.shape[1])}"
        cases.append(Case(file.name, file.person, group, kspace, rss(ifft2c(kspace)), scan.support))
    if not cases:
        raise DataError(f"expected raw scans in split {split!r}, got none: choose validation or test")
    return cases


def _simulated_cases(split: str) -> list[Case]:
    """One slice of every registered image of a split, with phase, coils and noise; truth without it. Deterministic."""
    cases = []
    for index, file in enumerate(_images(split)):
        slices = load_slices([(file.name, file.path())])
        magnitude = torch.from_numpy(slices[len(slices) // 2].magnitude.astype(np.float32))
        rng = np.random.default_rng(index)
        shape = (magnitude.shape[0], magnitude.shape[1])
        image = torch.polar(magnitude, torch.from_numpy(smooth_phase(shape, rng, strength=0.7, max_shift=2.0)))
        num_coils = SIMULATED_COILS[index % len(SIMULATED_COILS)]
        maps = torch.from_numpy(coil_maps(num_coils, shape, rng))
        kspace = fft2c(maps * image + complex_noise((num_coils, *shape), rng, sigma=1 / SIMULATED_SNR))
        support = np.ones(shape[1], dtype=np.bool_)
        cases.append(
            Case(
                name=f"simulated: {file.name}",
                person=file.person,
                group=f"simulated, {_coils(num_coils)}",
                kspace=kspace[None],
                target=(magnitude * rss(maps[None])[0])[None],
                support=support,
            )
        )
    return cases


def _evaluated_case(file: RegisteredFile, num_coils: int, group: str) -> Case:
    """The simulated scan of a file that `mri-recon evaluate --coils` takes."""
    scan = simulated_scan(file, num_coils=num_coils)
    assert scan.target is not None
    name = f"simulated, {_coils(num_coils)}: {file.name}"
    return Case(name, file.person, group, scan.kspace, scan.target, scan.support)


def _coils(count: int) -> str:
    return "one coil" if count == 1 else f"{count} coils"


def _images(split: str) -> list[RegisteredFile]:
    return registered_files(split=split, kind="image")


def _sample(case: Case, acceleration: float, seed: int) -> tuple[Tensor, Any]:
    mask = random_mask(case.kspace.shape[-1], acceleration, seed=seed, support=case.support)
    return undersample(case.kspace, mask), mask


def _zero_filled_row(case: Case, acceleration: float, seed: int) -> Row:
    image, _ = zero_filled(*_sample(case, acceleration, seed))
    return _row(case, acceleration, seed, "zero-filled", None, image)


def _cs_row(case: Case, acceleration: float, seed: int, **options: Any) -> Row:
    image, info = cs_wavelet(*_sample(case, acceleration, seed), **options)
    row = _row(case, acceleration, seed, info["prior"], info["reg_weight"], image)
    return replace(row, iterations=info["iterations"], relative_gap=info["relative_gap"], seconds=info["seconds"])


def _bart_row(case: Case, acceleration: float, seed: int, weight: float, spin: bool, iterations: int) -> Row:
    kspace, mask = _sample(case, acceleration, seed)
    if kspace.shape[1] != 1:
        raise DataError(f"expected single-coil scans to compare with BART, got {kspace.shape[1]} coils in {case.name}")
    pattern = mask.tensor().expand(kspace.shape[-2:])
    image = torch.stack([_bart_pics(item[0], pattern, weight, _bart_options(spin, iterations)) for item in kspace])
    return _row(case, acceleration, seed, " ".join(("bart pics", *_bart_options(spin, iterations))), weight, image)


def _row(case: Case, acceleration: float, seed: int, method: str, weight: float | None, image: Tensor) -> Row:
    target = case.target
    quality = psnr(image, target), ssim(image, target)
    return Row(case.name, case.person, case.group, acceleration, seed, method, weight, *quality)


def _bart_options(spin: bool, iterations: int) -> tuple[str, ...]:
    """Own scaling undone (`-S`); random shifts unless `-n`."""
    return ("-S", *(() if spin else ("-n",)), "-i", str(iterations))


def _bart_pics(kspace: Tensor, pattern: Tensor, weight: float, options: tuple[str, ...]) -> Tensor:
    """One single-coil slice through `bart pics` with l1 wavelets."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(Path(folder, name)) for name in ("kspace", "maps", "pattern", "image")}
        write_cfl(paths["kspace"], kspace.numpy())
        write_cfl(paths["maps"], np.ones(tuple(kspace.shape), dtype=np.complex64))
        write_cfl(paths["pattern"], pattern.numpy())
        command = ["bart", "pics", *options, "-R", f"W:3:0:{weight}", "-p", paths["pattern"]]
        done = subprocess.run(
            [*command, paths["kspace"], paths["maps"], paths["image"]],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if done.returncode != 0:
            raise DataError(f"bart pics failed with status {done.returncode}: {done.stdout}{done.stderr}")
        return torch.from_numpy(read_cfl(paths["image"], kspace.shape))


def _print_compared(line: Compared, theirs: Sequence[Row]) -> None:
    """One scan; `!` where BART's best weight is the first or last of its grid."""
    tried = sorted(row.reg_weight for row in theirs if row.reg_weight is not None)
    mark = "!" if line.bart.reg_weight in (tried[0], tried[-1]) else ""
    cells = "".join(f"{row.psnr:7.2f} / {row.ssim:.3f}" for row in line.rows)
    typer.echo(
        f"{_short(line.auto.case)[:20]:20} {line.auto.acceleration:2g} {line.auto.seed:4d}{cells}"
        f"  {line.auto.psnr - line.bart.psnr:+9.2f}  {line.best.psnr - line.bart.psnr:+9.2f}"
        f"  {line.auto.reg_weight:g}, {line.best.reg_weight:g}, {line.bart.reg_weight:g}{mark}"
    )


def _print_means(compared: list[Compared]) -> None:
    """Means over the scans (masks and scans alike) at each acceleration and overall, and the worst differences."""
    accelerations = sorted({line.auto.acceleration for line in compared})
    for acceleration in (*accelerations, None):
        chosen = [line for line in compared if acceleration in (None, line.auto.acceleration)]
        columns = zip(*(line.rows for line in chosen), strict=True)
        cells = "".join(
            f"{fmean(row.psnr for row in column):7.2f} / {fmean(row.ssim for row in column):.3f}" for column in columns
        )
        auto, best = _differences(chosen, lambda line: line.auto), _differences(chosen, lambda line: line.best)
        name, shown = ("mean over all", "") if acceleration is None else ("mean", f"{acceleration:g}")
        typer.echo(
            f"{name:20} {shown:>2} {'':4}{cells}  {fmean(auto):+9.2f}  {fmean(best):+9.2f}"
            f"  worst {min(auto):+.2f} {min(best):+.2f}"
        )


def _differences(compared: list[Compared], ours: Callable[[Compared], Row]) -> list[float]:
    return [ours(line).psnr - line.bart.psnr for line in compared]


def _print_tune(title: str, method: str, rows: list[Row]) -> None:
    """PSNR by weight: each scan; the mean within persons, then over persons; what one weight for all scans loses."""
    chosen = [row for row in rows if row.method == method]
    zero = [row for row in rows if row.method == "zero-filled"]
    weights = sorted({row.reg_weight for row in chosen if row.reg_weight is not None})
    typer.echo(f"\n{title}: PSNR / dB by weight")
    typer.echo(f"{'scan':38} {'R':>2} {'zf':>7} " + " ".join(f"{weight:7g}" for weight in weights))
    for case, acceleration in dict.fromkeys((row.case, row.acceleration) for row in chosen):
        one = [row for row in chosen if (row.case, row.acceleration) == (case, acceleration)]
        base = _mean(row for row in zero if (row.case, row.acceleration) == (case, acceleration))
        values = [_mean(row for row in one if row.reg_weight == weight) for weight in weights]
        _print_line(f"{_short(case)[:38]:38} {acceleration:2g}", base, values)
    means = [_mean(row for row in chosen if row.reg_weight == weight) for weight in weights]
    _print_line(f"{'mean over persons':41}", _mean(zero), means)
    losses = _losses(chosen, weights)
    _print_line(f"{'mean loss against best by truth':41}", None, [fmean(loss) for loss in losses])
    _print_line(f"{'worst loss against best by truth':41}", None, [max(loss) for loss in losses])
    typer.echo(f"best weight: {weights[int(np.argmax(means))]:g}")


def _print_line(label: str, base: float | None, values: list[float]) -> None:
    first = " " * 7 if base is None else f"{base:7.2f}"
    typer.echo(f"{label} {first} " + " ".join(f"{value:7.2f}" for value in values))


def _losses(rows: list[Row], weights: list[float]) -> list[list[float]]:
    """For each weight: over scans and masks, how far below the best weight of that scan and mask it is."""
    runs: dict[tuple[str, float, int], dict[float, float]] = defaultdict(dict)
    for row in rows:
        if row.reg_weight is not None:
            runs[row.case, row.acceleration, row.seed][row.reg_weight] = row.psnr
    return [[max(run.values()) - run[weight] for run in runs.values()] for weight in weights]


def _best(rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda row: row.psnr)


def _of_group(rows: list[Row], group: str) -> list[Row]:
    return [row for row in rows if row.group == group]


def _short(name: str) -> str:
    """The file's name without what all of them share."""
    stem = name.rsplit("/", 1)[-1].split(".mat")[0].split(".nii")[0]
    return stem.replace("__0.055T", "").replace("_kspace_postEMI", "")


def _mean(rows: Iterable[Row]) -> float:
    """Mean PSNR: within a scan over masks, within a person over scans, then over persons."""
    persons: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        persons[row.person][row.case].append(row.psnr)
    return fmean(fmean(fmean(values) for values in scans.values()) for scans in persons.values())


def _write(path: Path | None, rows: list[Row]) -> None:
    if path is not None:
        document = {"convention": CONVENTION, "results": [asdict(row) for row in rows]}
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _floats(text: str) -> list[float]:
    return [float(item) for item in text.split(",")]


if __name__ == "__main__":
    try:
        app()
    except MriReconError as error:
        sys.exit(f"classical_quality: error: {error}")
