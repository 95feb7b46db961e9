"""Quality of the classical reconstructions: choosing their weight, and a comparison with BART.

    python benchmarks/classical_quality.py tune          validation persons only: PSNR of cs-wavelet by weight
    python benchmarks/classical_quality.py bart          real raw test scans, beside BART's `pics -n`

Both read the data registry (set MRI_RECON_DATA to a local copy) and write JSON with `--json`. `tune` never opens a test
scan. BART (Debian package `bart`) is searched for on the PATH.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
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

from mri_recon.classical import cs_wavelet, zero_filled
from mri_recon.coils import rss
from mri_recon.data.images import load_slices
from mri_recon.data.registry import RegisteredFile
from mri_recon.data.registry import files as registered_files
from mri_recon.data.simulate import coil_maps, complex_noise, smooth_phase
from mri_recon.errors import DataError, MriReconError
from mri_recon.fourier import fft2c, ifft2c
from mri_recon.masks import random_mask, undersample
from mri_recon.metrics import CONVENTION, psnr, ssim

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

WEIGHTS = (3e-6, 1e-5, 3e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2, 0.128, 0.256, 0.5)
"""Candidates of `tune`: each two to three times the one before."""

BART_WEIGHTS = tuple(float(f"{w:.1e}") for w in np.geomspace(1e-4, 1.0, 13))
"""Candidates for BART, relative to its own scaling of the data."""

_WEIGHTS_TEXT = ",".join(map(str, WEIGHTS))
_BART_WEIGHTS_TEXT = ",".join(map(str, BART_WEIGHTS))

SIMULATED_SNR = 40.0
SIMULATED_COILS = (1, 8)

WeightsOption = Annotated[str, typer.Option(help="comma-separated relative weights")]
AccelerationOption = Annotated[str, typer.Option(help="comma-separated accelerations")]
SeedsOption = Annotated[str, typer.Option(help="comma-separated mask seeds")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="write all rows here")]


@dataclass(frozen=True)
class Case:
    """Full k-space `(slice, coil, readout, phase)` and its truth."""

    name: str
    person: str
    kspace: Tensor
    support: npt.NDArray[np.bool_]

    @property
    def target(self) -> Tensor:
        """Root sum of squares of the full k-space, `(slice, h, w)`."""
        return rss(ifft2c(self.kspace))


@dataclass(frozen=True)
class Row:
    """One reconstruction."""

    case: str
    person: str
    acceleration: float
    seed: int
    method: str
    reg_weight: float | None
    psnr: float
    ssim: float
    iterations: int | None = None
    relative_gap: float | None = None


@app.command()
def tune(
    weights: WeightsOption = _WEIGHTS_TEXT,
    accelerations: AccelerationOption = "4,8",
    seeds: SeedsOption = "1,2",
    wavelet: Annotated[str, typer.Option(help="comma-separated wavelets")] = "db4",
    levels: Annotated[str, typer.Option(help="comma-separated levels; 0 stands for the default")] = "0",
    num_slices: Annotated[int, typer.Option(min=1, help="middle slices of each scan")] = 2,
    simulated: Annotated[bool, typer.Option(help="add k-space simulated from validation images")] = True,
    final_step: bool = True,
    gap_tol: float = 1e-2,
    json_path: JsonOption = None,
) -> None:
    """PSNR of cs-wavelet by relative weight, on validation persons only."""
    cases = [*_raw_cases("validation", num_slices), *(_simulated_cases("validation") if simulated else [])]
    rows: list[Row] = []
    for case in cases:
        for acceleration in _floats(accelerations):
            for seed in map(int, seeds.split(",")):
                rows.append(_zero_filled_row(case, acceleration, seed))
                for name in wavelet.split(","):
                    for level in map(int, levels.split(",")):
                        method = f"{name}/{level or 'default'}"
                        options = {"wavelet": name, "levels": level or None, "final_step": final_step}
                        for weight in _floats(weights):
                            row = _cs_row(case, acceleration, seed, reg_weight=weight, gap_tol=gap_tol, **options)
                            rows.append(replace(row, method=method))
        typer.echo(f"done: {case.name} {tuple(case.kspace.shape)}", err=True)
        _write(json_path, rows)
    for acceleration in _floats(accelerations):
        _print_tune(acceleration, [row for row in rows if row.acceleration == acceleration])


@app.command()
def bart(
    split: Annotated[str, typer.Option(help="split of the raw scans; weights are chosen on validation only")] = "test",
    accelerations: AccelerationOption = "4,8",
    seeds: SeedsOption = "0",
    weights: WeightsOption = _WEIGHTS_TEXT,
    bart_weights: WeightsOption = _BART_WEIGHTS_TEXT,
    bart_iters: Annotated[int, typer.Option(help="BART's -i")] = 100,
    num_slices: Annotated[int, typer.Option(min=1, help="middle slices of each scan")] = 100,
    best: Annotated[bool, typer.Option(help="also search our best weight by looking at the truth")] = True,
    json_path: JsonOption = None,
) -> None:
    """cs-wavelet at its automatic weight beside `bart pics -n` at the weight that is best by looking at the truth."""
    rows: list[Row] = []
    typer.echo(CONVENTION)
    header = ("zero-filled", "ours auto", "ours best", "bart best")
    typer.echo(f"{'scan':44} {'R':>3} {'seed':>4} " + " ".join(f"{name:>14}" for name in header) + "   auto - bart")
    for case in _raw_cases(split, num_slices):
        for acceleration in _floats(accelerations):
            for seed in map(int, seeds.split(",")):
                zero = _zero_filled_row(case, acceleration, seed)
                auto = replace(_cs_row(case, acceleration, seed, reg_weight="auto"), method="cs-wavelet auto")
                ours = [_cs_row(case, acceleration, seed, reg_weight=w) for w in _floats(weights)] if best else [auto]
                theirs = [_bart_row(case, acceleration, seed, w, bart_iters) for w in _floats(bart_weights)]
                rows += [zero, auto, *ours, *theirs]
                shown = (zero, auto, max(ours, key=lambda row: row.psnr), max(theirs, key=lambda row: row.psnr))
                cells = " ".join(f"{row.psnr:6.2f} / {row.ssim:.3f}" for row in shown)
                typer.echo(
                    f"{case.name[-44:]:44} {acceleration:3g} {seed:4d} {cells}   {shown[1].psnr - shown[3].psnr:+.2f}"
                )
                typer.echo(
                    f"{'':53} weights: auto {auto.reg_weight}, ours {shown[2].reg_weight}, bart {shown[3].reg_weight}"
                )
                _write(json_path, rows)


def _raw_cases(split: str, num_slices: int) -> list[Case]:
    """Fully sampled raw scans of a split, cut to their middle slices."""
    cases = []
    for file in registered_files(split=split, kind="raw", fully_sampled=True):
        scan = file.load()
        start = max(0, (scan.num_slices - num_slices) // 2)
        cases.append(Case(file.name, file.person, scan.kspace[start : start + num_slices], scan.support))
    if not cases:
        raise DataError(f"expected raw scans in split {split!r}, got none: choose validation or test")
    return cases


def _simulated_cases(split: str) -> list[Case]:
    """One slice of every registered image of a split, with phase, coils and noise. Deterministic."""
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
        name = f"simulated, {num_coils} coils: {file.name}"
        cases.append(Case(name, file.person, kspace[None], np.ones(shape[1], dtype=np.bool_)))
    return cases


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
    row = _row(case, acceleration, seed, "cs-wavelet", info["reg_weight"], image)
    return replace(row, iterations=info["iterations"], relative_gap=info["relative_gap"])


def _bart_row(case: Case, acceleration: float, seed: int, weight: float, iterations: int) -> Row:
    kspace, mask = _sample(case, acceleration, seed)
    if kspace.shape[1] != 1:
        raise DataError(f"expected single-coil scans to compare with BART, got {kspace.shape[1]} coils in {case.name}")
    pattern = mask.tensor().expand(kspace.shape[-2:])
    image = torch.stack([_bart_pics(item[0], pattern, weight, iterations) for item in kspace])
    return _row(case, acceleration, seed, f"bart pics -n -i {iterations}", weight, image)


def _row(case: Case, acceleration: float, seed: int, method: str, weight: float | None, image: Tensor) -> Row:
    target = case.target
    return Row(case.name, case.person, acceleration, seed, method, weight, psnr(image, target), ssim(image, target))


def _bart_pics(kspace: Tensor, pattern: Tensor, weight: float, iterations: int) -> Tensor:
    """One single-coil slice through `bart pics`: l1 wavelets, no random shifts, own scaling undone with -S."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(Path(folder, name)) for name in ("kspace", "maps", "pattern", "image")}
        write_cfl(paths["kspace"], kspace.numpy())
        write_cfl(paths["maps"], np.ones(tuple(kspace.shape), dtype=np.complex64))
        write_cfl(paths["pattern"], pattern.numpy())
        command = ["bart", "pics", "-S", "-n", "-i", str(iterations), "-R", f"W:3:0:{weight}", "-p", paths["pattern"]]
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


def _print_tune(acceleration: float, rows: list[Row]) -> None:
    """PSNR by weight: each scan, and the mean within persons, then over persons; zero-filled first."""
    zero = [row for row in rows if row.method == "zero-filled"]
    for method in sorted({row.method for row in rows} - {"zero-filled"}):
        chosen = [row for row in rows if row.method == method]
        weights = sorted({row.reg_weight for row in chosen if row.reg_weight is not None})
        typer.echo(f"\n{acceleration:g}x, wavelet/levels {method}: PSNR in dB by relative weight")
        typer.echo(f"{'scan':60} {'zf':>6} " + " ".join(f"{weight:7.1e}" for weight in weights))
        for case in dict.fromkeys(row.case for row in chosen):
            values = [
                _mean(row for row in chosen if (row.case, row.reg_weight) == (case, weight)) for weight in weights
            ]
            base = _mean(row for row in zero if row.case == case)
            typer.echo(f"{case[-60:]:60} {base:6.2f} " + " ".join(f"{value:7.2f}" for value in values))
        means = [_mean(row for row in chosen if row.reg_weight == weight) for weight in weights]
        typer.echo(f"{'mean over persons':60} {_mean(zero):6.2f} " + " ".join(f"{value:7.2f}" for value in means))
        typer.echo(f"best weight: {weights[int(np.argmax(means))]:g}")


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
