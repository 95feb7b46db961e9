"""A network that imitates compressed sensing: how close one forward pass comes, and how much faster it is.

    nice -n 15 python benchmarks/networks/amortised.py RUNS [--steps 600] [--seed 0]

Trains one small unrolled network three times, on the same problems, steps and seed, with data.target "cs", "truth" and
"ssdu"; a run that was stopped goes on where it was, solutions of compressed sensing are kept. Then, on validation
persons alone, single coil, raw and simulated:

- the distance of one forward pass to the minimiser of the problem it imitates, and its excess objective, against a
  bound on the optimum by the duality gap; beside them the solver's own iterations;
- CPU seconds of one thread, solver and network in turns;
- PSNR against the truth of the three networks.

What it prints stands in docs/training/targets.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn

from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.methods.cs_wavelet import cs_wavelet
from mri_recon.metrics import psnr
from mri_recon.models import Measurement
from mri_recon.models.checkpoint import load_checkpoint
from mri_recon.models.inference import apply_network, network_measurement
from mri_recon.transforms.fourier import ifft2c
from mri_recon.transforms.stationary_wavelets import StationaryWaveletTransform
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.registry import files
from mri_recon_data.simulation.image_slice import SimulationConfig, simulate_kspace
from mri_recon_training.run import run

TARGETS = ("cs", "truth", "ssdu")
ACCELERATIONS = (4, 8)
SIMULATED = 6
"""Validation images to simulate from."""

ITERATIONS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 60, 80)
ROUNDS = 2
APPROXIMATION_WEIGHT = 2.0
SOLVE = {"gap_tol": 1e-3, "max_iters": 500, "final_step": False}

CONFIG = """
[run]
name = "{name}"
folder = "{folder}"
steps = {steps}
seed = {seed}
device = "cpu"
threads = 1
validate_every = {steps}
checkpoint_every = 50

[model]
architecture = "unrolled"
num_cascades = 4
chans = 16
channels_per_group = 16
memory = 2

[data]
target = "{target}"
problems = 48
rows = 48
full_probability = 0.0
validation_slices = 1
workers = 0

[data.cs]
cache = "{folder}/solutions"

[data.simulation]
multi_coil = 0.0

[optimizer]
lr = 1e-3
warmup = 50
ema_decay = 0.99
"""


@dataclass(frozen=True)
class Case:
    """An undersampled slice of a validation person: k-space `(1, 1, h, w)`, zero where not sampled, and its truth."""

    kind: str
    kspace: Tensor
    mask: ColumnMask
    truth: Tensor

    @property
    def group(self) -> str:
        return f"{self.kind} {self.mask.acceleration:g}x"


class Objective:
    """`P(x) = 1/2 ||A x - y||^2 + lambda sum_j w_j (|Re W x|_j + |Im W x|_j)` of one case, as `cs_wavelet` has it."""

    def __init__(self, case: Case, weight: float) -> None:
        self.measurement, self.phase = network_measurement(case.kspace, case.mask)
        self.transform = StationaryWaveletTransform(4, (case.kspace.shape[-2], case.kspace.shape[-1]), "haar")
        self.weights = torch.full((self.transform.num_bands,), weight, dtype=torch.float64)
        self.weights[0] *= APPROXIMATION_WEIGHT

    def __call__(self, x: Tensor) -> float:
        """P of an image `(1, h, w)` without its smooth phase."""
        bands = self.transform.forward(x)
        penalty = (bands.real.abs() + bands.imag.abs()).flatten(2).sum(dim=2, dtype=torch.float64) @ self.weights
        residual = self.measurement.residual(x)
        return 0.5 * float(residual.abs().square().sum(dtype=torch.float64)) + float(penalty)


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of runs and solutions; what is in it is not done again")],
    steps: Annotated[int, typer.Option(help="Training steps of each network")] = 600,
    seed: Annotated[int, typer.Option(help="Seed of weights and problems")] = 0,
) -> None:
    torch.set_num_threads(1)
    RegistrySlices.read = cache(RegistrySlices.read)  # type: ignore[method-assign]  # once for all runs
    networks = {target: _trained(folder, target, steps, seed) for target in TARGETS}
    cases = list(_cases())
    rows = [_row(case, networks) for case in cases]
    _write(folder, "rows", rows)
    _print_distance(rows)
    _print_trajectory(rows)
    _print_psnr(rows)
    _print_times(cases, networks["cs"])


def _trained(folder: Path, target: str, steps: int, seed: int) -> nn.Module:
    """The network of a target; trained, or trained on, where it is not finished."""
    name = f"{target}-{steps}-{seed}"
    weights, metrics = folder / name / f"{name}.safetensors", folder / name / "metrics.jsonl"
    if not (metrics.is_file() and weights.is_file()):
        if (folder / name / "config.json").is_file():
            run(None, resume=folder / name)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            config = folder / f"{name}.toml"
            config.write_text(CONFIG.format(name=name, folder=folder, steps=steps, seed=seed, target=target))
            run(config)
    return load_checkpoint(weights).network


def _cases() -> Iterator[Case]:
    for file in files(split="validation", kind="raw"):
        scan = file.load()
        middle = scan.num_slices // 2
        for number in range(max(0, middle - 1), middle + 1):
            kspace = scan.kspace[number : number + 1]
            yield from _undersampled("raw", kspace, ifft2c(kspace)[:, 0].abs(), scan.support)
    images = RegistrySlices.read("validation").images
    for number in range(SIMULATED):
        image = images[int(np.random.default_rng(number).integers(len(images)))]
        settings = SimulationConfig()
        silent = settings.model_copy(update={"snr": (1e9, 1e9)})  # the same draws, next to no noise
        noisy, clean = (
            simulate_kspace(image, np.random.default_rng(number), one, num_coils=1).kspace[None]
            for one in (settings, silent)
        )
        yield from _undersampled("simulated", noisy, ifft2c(clean)[:, 0].abs(), None)


def _undersampled(kind: str, kspace: Tensor, truth: Tensor, support: Any) -> Iterator[Case]:
    for acceleration in ACCELERATIONS:
        mask = random_mask(kspace.shape[-1], acceleration, seed=0, support=support)
        yield Case(kind, undersample(kspace, mask), mask, truth)


def _row(case: Case, networks: dict[str, nn.Module]) -> dict[str, Any]:
    image, info = cs_wavelet(case.kspace, case.mask, **SOLVE)
    objective = Objective(case, info["reg_weight"] * info["sigma"])
    optimum = image * objective.phase.conj()
    lower = info["objective"] / (1 + info["relative_gap"])  # P* is at least this

    def judged(x: Tensor) -> dict[str, float]:
        return {**_distance(x, optimum), "excess": objective(x) / lower - 1}

    zero_filled = objective.measurement.adjoint()
    consistent = optimum - (objective.measurement.gram(optimum) - zero_filled)
    outputs = {"zero-filled": zero_filled, "minimiser": optimum, "minimiser, samples put back": consistent}
    outputs |= {target: _apply(network, objective.measurement) for target, network in networks.items()}
    trajectory = []
    for count in ITERATIONS:
        x, at = cs_wavelet(case.kspace, case.mask, gap_tol=0.0, max_iters=count, final_step=False)
        trajectory.append(
            {"iterations": at["iterations"], **judged(x * objective.phase.conj()), "bound": at["relative_gap"]}
        )
    return {
        "group": case.group,
        "iterations": info["iterations"],
        "bound": info["relative_gap"],
        "check": objective(optimum) / info["objective"] - 1,  # the objective written out here is the solver's
        "outputs": {name: judged(x) for name, x in outputs.items()},
        "psnr": {name: psnr(x.abs(), case.truth) for name, x in outputs.items()},
        "trajectory": trajectory,
    }


def _apply(network: nn.Module, measurement: Measurement) -> Tensor:
    with torch.no_grad():
        return apply_network(network, measurement)


def _distance(x: Tensor, optimum: Tensor) -> dict[str, float]:
    error, size = float((x - optimum).norm()), float(optimum.norm())
    peak = float(optimum.abs().max()) * optimum.numel() ** 0.5
    return {"nrmse": error / size, "db": 20 * float(np.log10(peak / error)) if error else float("inf")}


def _print_distance(rows: Sequence[dict[str, Any]]) -> None:
    bound = max(row["bound"] for row in rows)
    print(f"\nDistance to the minimiser; P* is known to {bound:.1%} (largest relative duality gap); means over slices.")
    print(f"Largest difference between P here and the solver's own: {max(abs(r['check']) for r in rows):.0e}.\n")
    print("| problems | image | NRMSE | PSNR to the minimiser / dB | (P - P*) / P* at most |\n|---|---|---|---|---|")
    for group, found in _grouped(rows):
        for name in found[0]["outputs"]:
            means = {key: fmean(row["outputs"][name][key] for row in found) for key in ("nrmse", "db", "excess")}
            print(f"| {group} | {name} | {means['nrmse']:.3f} | {means['db']:.1f} | {means['excess']:.1%} |")


def _print_trajectory(rows: Sequence[dict[str, Any]]) -> None:
    print("\nThe solver after k iterations.\n")
    print("| problems | k | NRMSE | PSNR to the minimiser / dB | (P - P*) / P* at most |\n|---|---|---|---|---|")
    for group, found in _grouped(rows):
        for i, count in enumerate(ITERATIONS):
            means = {key: fmean(row["trajectory"][i][key] for row in found) for key in ("nrmse", "db", "excess")}
            print(f"| {group} | {count} | {means['nrmse']:.3f} | {means['db']:.1f} | {means['excess']:.1%} |")
    print("\nIterations until the solver is as close as one forward pass (median over slices).\n")
    print("| problems | in NRMSE | in objective | to the end |\n|---|---|---|---|")
    for group, found in _grouped(rows):
        medians = [f"{median(_catches_up(row, key) for row in found):g}" for key in ("nrmse", "excess")]
        print(f"| {group} | {' | '.join(medians)} | {median(row['iterations'] for row in found):g} |")


def _catches_up(row: dict[str, Any], key: str) -> float:
    """The first number of iterations after which the solver is at least as near as the network."""
    network = row["outputs"]["cs"][key]
    return next((at["iterations"] for at in row["trajectory"] if at[key] <= network), float("inf"))


def _print_psnr(rows: Sequence[dict[str, Any]]) -> None:
    names = ("zero-filled", "minimiser", *TARGETS)
    print("\nPSNR against the truth / dB, mean over slices.\n")
    print(f"| problems | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for group, found in _grouped(rows):
        print(f"| {group} | " + " | ".join(f"{fmean(row['psnr'][name] for row in found):.2f}" for name in names) + " |")


def _print_times(cases: Sequence[Case], network: nn.Module) -> None:
    """CPU time of the solver over that of the network, in turns on the same slices; the median of the ratios."""
    chosen = [next(case for case in cases if case.group == group) for group in sorted({case.group for case in cases})]

    def forward(case: Case) -> None:
        _apply(network, network_measurement(case.kspace, case.mask)[0])

    def solver(**options: Any) -> Callable[[Case], None]:
        return lambda case: cs_wavelet(case.kspace, case.mask, **options) and None

    solvers = {f"{count} iterations": solver(gap_tol=0.0, max_iters=count) for count in (3, 10, 30)}
    solvers |= {"cs-wavelet as it is": solver(), "to the end": solver(**SOLVE)}
    ratios: dict[str, list[float]] = {name: [] for name in solvers}
    for case in chosen:
        forward(case)
        solver(max_iters=1)(case)  # compiled and cached before anything is timed
    for _ in range(ROUNDS):
        for case in chosen:
            for name, solve in solvers.items():
                ratios[name].append(_seconds(solve, case) / _seconds(forward, case))
    print("\nCPU time of one thread: the solver's over that of one forward pass.\n")
    print("| solver | median | least | most |\n|---|---|---|---|")
    for name, values in ratios.items():
        print(f"| {name} | {median(values):.1f} | {min(values):.1f} | {max(values):.1f} |")


def _seconds(work: Callable[[Case], None], case: Case) -> float:
    start = time.process_time()
    work(case)
    return time.process_time() - start


def _grouped(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for group in sorted({row["group"] for row in rows}):
        yield group, [row for row in rows if row["group"] == group]


def _write(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> None:
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
