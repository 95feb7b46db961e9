"""Weights of CG-SENSE and compressed sensing by the noise of a scan: what one weight loses, and the best rule.

    python benchmarks/networks/worlds.py -o rows.jsonl
    python -m benchmarks.classical.weight_by_snr rows.jsonl [--fit]

Takes the rows of every weight of a grid on the validation scans, and prints for each world the PSNR at the automatic
weight, by the rule of the evaluation, and at the best weight of the grid (found by looking at the truth). Between the
weights of the grid PSNR is interpolated over the logarithm of the weight. `--fit` looks for the best rule: parameters
chosen on the scans of several coils. No test data.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import typer

from benchmarks.networks.worlds import read
from mri_recon.masks.convert import undersample
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.examples.validation_worlds import validation_scans
from mri_recon_training.evaluation.weight_by_snr import RULES, WeightRule, undersampled_snr
from mri_recon_training.markdown import table

AUTOMATIC = {"cg-sense": 0.03, "cs-wavelet": 0.05}
WEIGHTS = {"cg-sense": (0.01, 0.015, 0.02, 0.03, 0.04), "cs-wavelet": (0.03, 0.04, 0.05, 0.06, 0.08, 0.1)}
SNR_POWERS = tuple(np.arange(-2, 0.01, 0.25))
ACCELERATION_POWERS = tuple(np.arange(-2, 1.01, 0.25))

_MIN_WEIGHTS = 3  # of a scan, for its curve

Curve = dict[float, float]  # weight to PSNR
Case = tuple[str, int, float, float, Curve]  # world, coils, SNR, R, curve


def main(
    rows: Annotated[Path, typer.Argument(help="Rows of benchmarks/networks/worlds.py")],
    fit: Annotated[bool, typer.Option("--fit", help="Look for the best parameters of the rules")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the scans, as of the rows")] = 0,
) -> None:
    """Print what the automatic weight and the rule lose against the best weight."""
    for name, rule in RULES.items():
        cases = list(_cases(rows, rule.method, seed))
        several = [case for case in cases if case[1] > 1]
        chosen = _best(several, rule.method) if fit else rule
        typer.echo(f"\n{name}: {chosen}\n\n" + "\n".join(_lines(cases, chosen)))


def _cases(path: Path, method: str, seed: int) -> list[Case]:
    curves: dict[int, Curve] = defaultdict(dict)
    for row in read(path):
        if row["variant"].split()[0] == method:
            text = row["variant"].split()[1]
            curves[row["scan"]][AUTOMATIC[method] if text == "auto" else float(text)] = row["psnr"]
    slices = RegistrySlices.read("validation")
    found = []
    for number, scan in enumerate(validation_scans(slices.raw, slices.images, seed=seed, measured=True)):
        snr = undersampled_snr(undersample(scan.kspace, scan.mask)[None], scan.mask)
        if len(curves[number]) >= _MIN_WEIGHTS and snr is not None:
            acceleration = scan.mask.acceleration or scan.mask.realised_acceleration
            found.append((scan.kind, int(scan.kspace.shape[0]), snr, acceleration, curves[number]))
    return found


def _best(cases: list[Case], method: str) -> WeightRule:
    grid = itertools.product(WEIGHTS[method], SNR_POWERS, ACCELERATION_POWERS)
    rules = [WeightRule(method, weight, float(a), float(b)) for weight, a, b in grid]
    return max(rules, key=lambda rule: fmean(_at(curve, rule(snr, r)) for _, _, snr, r, curve in cases))


def _at(curve: Curve, weight: float) -> float:
    weights = sorted(curve)
    return float(np.interp(np.log(weight), np.log(weights), [curve[one] for one in weights]))


def _lines(cases: list[Case], rule: WeightRule) -> list[str]:
    worlds: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        worlds[case[0]].append(case)
    cells = []
    for world, inside in worlds.items():
        automatic = fmean(_at(curve, AUTOMATIC[rule.method]) for *_, curve in inside)
        ruled = fmean(_at(curve, rule(snr, r)) for _, _, snr, r, curve in inside)
        weights = set.intersection(*(set(curve) for *_, curve in inside))
        means = {weight: fmean(curve[weight] for *_, curve in inside) for weight in weights}
        best = max(means, key=means.__getitem__)
        snr = fmean(one[2] for one in inside)
        numbers = [f"{one:.2f}" for one in (automatic, ruled, means[best])]
        cells.append([world, str(inside[0][1]), f"{snr:.0f}", *numbers, f"{best:g}"])
    return table(["world", "coils", "SNR", "automatic", "by the rule", "best weight", "which"], cells, text=1)


if __name__ == "__main__":
    typer.run(main)
