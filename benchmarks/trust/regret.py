"""What `auto` loses against the best candidate that only the truth can name, and when the hold-out check warns.

    python -m benchmarks.trust.regret -o rows.jsonl [--folder IMAGES] [--each 1]
    python -m benchmarks.trust.regret -o random.jsonl --random
    python -m benchmarks.trust.regret -o rows.jsonl --table [--every]
    python -m benchmarks.trust.regret -o test.jsonl --test

A row for each validation scan is appended to the file as soon as it is there, and a scan that is there already is not
run again. The images of every candidate are kept in the folder, under names that depend on the weights, so that another
rule of weights needs no reconstruction: delete the rows alone. With `--random`, networks with random weights are among
the candidates, and the trained ones are not. PSNR is that of magnitudes, as in `networks/worlds.py`; the regret is the
PSNR of the best candidate by the truth minus that of the choice or the mixture, in dB.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from scipy.optimize import nnls
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.networks.worlds import PHANTOM, read
from benchmarks.trust.fold_images import Images, Scan, images, predictions, random_networks, scans
from mri_recon.methods.auto import CANDIDATES
from mri_recon.methods.candidate import Candidate, parse_candidates
from mri_recon.methods.holdout import (
    Prediction,
    compare_predictions,
    difference_db,
    least_on_simplex,
    measured,
    residual_grams,
)
from mri_recon.methods.holdout_check import REFERENCES
from mri_recon.methods.trials import weigh
from mri_recon.metrics import evaluate
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_training.markdown import table

FEW = 10
"""Lines held out, below which the table shows scans by themselves."""
INNER = 0.15
"""Columns nearer to the centre than this share of the width are the inner band."""
STANDARD_ERRORS = (1.0, 2.0)


def by_band(scan: Scan, found: Sequence[Images]) -> tuple[Tensor, npt.NDArray[np.float64]]:
    """Mix with other weights near the centre of k-space than far from it: image and weights `(candidate, band)`."""
    width = scan.kspace.shape[-1]
    inner = (torch.arange(width) - width // 2).abs() < INNER * width
    bands = (inner, ~inner)

    def part(image: Tensor, band: Tensor) -> Tensor:
        return ifft2c(fft2c(image) * band)

    split = [Images(part(one.image, band), part(one.folds, band), 0.0) for one in found for band in bands]
    columns = torch.stack([torch.cat([fold.flatten() for fold in predictions(scan, one)]) for one in split], dim=1)
    truth = torch.cat([fold.flatten() for fold in measured(scan.data)])
    matrix = torch.view_as_real(columns).permute(0, 2, 1).flatten(0, 1).double().numpy()
    samples = torch.view_as_real(truth).flatten().double().numpy()
    sums = np.tile(np.eye(2), len(found)) * 1e3 * np.linalg.norm(samples)
    weights, _ = nnls(
        np.concatenate([matrix, sums]), np.concatenate([samples, 1e3 * np.linalg.norm(samples) * np.ones(2)])
    )
    mixed = sum((float(w) * one.image for w, one in zip(weights, split, strict=True)), start=torch.zeros(()))
    return mixed, weights.reshape(-1, 2)


def measured_row(scan: Scan, candidates: Sequence[Candidate], names: Sequence[str], folder: Path) -> dict[str, Any]:
    found = [images(scan, one, folder) for one in candidates]
    predicted = [predictions(scan, one) for one in found]
    compared = [compare_predictions(scan.data, one) for one in predicted]
    references = [images(scan, one, folder) for one in REFERENCES]
    beside = [compare_predictions(scan.data, predictions(scan, one)) for one in references]
    grams = residual_grams(scan.data, predicted)
    floor = max(psnr(scan, one.image) for one in references)
    rules = {
        "choice": weigh(candidates, grams, compared[0].energies, "choice"),
        "least squares": least_on_simplex(grams.sum(axis=0)),
        "mixture": weigh(candidates, grams, compared[0].energies, "mixture"),
    }
    mixed = {name: sum_of(weights, found) for name, weights in rules.items()}
    mixed["by band"], _ = by_band(scan, found)
    return {
        "scan": scan.number,
        "world": scan.scan.kind,
        "held": len(grams),
        "candidates": {
            name: {
                "error_db": prediction.error_db,
                "uncertainty_db": prediction.uncertainty_db,
                "psnr": psnr(scan, one.image),
                "seconds": one.seconds,
                "standard_errors_behind": behind(prediction, beside),
                "psnr_behind": floor - psnr(scan, one.image),
            }
            for name, prediction, one in zip(names, compared, found, strict=True)
        },
        "weights": {rule: dict(zip(names, weights.round(6).tolist(), strict=True)) for rule, weights in rules.items()},
        "psnr": {rule: psnr(scan, image) for rule, image in mixed.items()},
    }


def sum_of(weights: Iterable[float], found: Sequence[Images]) -> Tensor:
    return torch.stack([float(w) * one.image for w, one in zip(weights, found, strict=True)]).sum(dim=0)


def psnr(scan: Scan, image: Tensor) -> float:
    return evaluate(image.abs(), scan.reference).psnr


def behind(own: Prediction, references: Sequence[Prediction]) -> float:
    """How many standard errors a prediction is behind the reference that it is furthest behind; 0 if behind none."""
    found = [difference_db(own, one) for one in references]
    return max([0.0, *(worse / max(error, 1e-9) for worse, error in found if worse > 1e-3)])


def regrets(row: dict[str, Any]) -> dict[str, float]:
    best = max(one["psnr"] for one in row["candidates"].values())
    return {rule: best - value for rule, value in row["psnr"].items()}


def rank(row: dict[str, Any]) -> float:
    """Spearman's correlation between predicting well and PSNR."""
    values = row["candidates"].values()
    return float(spearmanr([-one["error_db"] for one in values], [one["psnr"] for one in values]).statistic)


def lines(rows: list[dict[str, Any]], *, every: bool = False) -> list[str]:
    """Tables in Markdown: regret by world, single scans (those that lose 0.5 dB, or all), and rates of warnings."""
    worlds = defaultdict[str, list[dict[str, Any]]](list)
    for row in rows:
        worlds[row["world"]].append(row)
    bodies = [row for row in rows if not row["world"].startswith(PHANTOM)]
    groups = {**dict(sorted(worlds.items())), "all but phantoms": bodies, "all": rows}
    rules = list(rows[0]["psnr"])
    header = ["world", "scans", "rank correlation", *(f"{rule}: mean (worst)" for rule in rules), "s"]
    cells = []
    for name, group in groups.items():
        if not group:
            continue
        shown = []
        for rule in rules:
            found = [regrets(row)[rule] for row in group]
            shown.append(f"{fmean(found):+.2f} ({max(found):+.2f})")
        seconds = fmean(4 * sum(one["seconds"] for one in row["candidates"].values()) for row in group)
        cells.append([name, str(len(group)), f"{fmean(map(rank, group)):.2f}", *shown, f"{seconds:.0f}"])
    found = [*table(header, cells, text=1), ""]
    single = [row for row in rows if every or max(regrets(row)[rule] for rule in ("choice", "mixture")) > 0.5]
    names = list(rows[0]["candidates"])
    header = ["scan", "world", "lines held out", *(f"{name}: prediction, PSNR" for name in names), "choice", "mixture"]
    cells = []
    for row in single:
        values = [f"{one['error_db']:.1f}, {one['psnr']:.1f}" for one in row["candidates"].values()]
        lost = [f"{regrets(row)[rule]:+.2f}" for rule in ("choice", "mixture")]
        cells.append([str(row["scan"]), row["world"], str(row["held"]), *values, *lost])
    return [*found, *table(header, cells, text=2), "", *warning_lines(rows)]


def warning_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Rates of warnings: of images below zero-filled or CG-SENSE by the truth, and of the others."""
    cells = []
    for name in rows[0]["candidates"]:
        found = [row["candidates"][name] for row in rows]
        below = [one for one in found if one["psnr_behind"] > 0]
        above = [one for one in found if one["psnr_behind"] <= 0]
        rates = []
        for errors in STANDARD_ERRORS:
            rates += [
                f"{sum(one['standard_errors_behind'] > errors for one in group)} of {len(group)}"
                for group in (below, above)
            ]
        cells.append([name, *rates])
    header = [
        "candidate",
        *(f"{what}, {n:g} s.e." for n in STANDARD_ERRORS for what in ("warned, below", "warned, not")),
    ]
    return table(header, cells, text=1)


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="Rows, one JSON object a line")],
    folder: Annotated[Path, typer.Option(help="Where the images are kept")] = Path("runs/trust-images"),
    candidates: Annotated[str, typer.Option(help="Candidates, as the option of auto")] = CANDIDATES,
    each: Annotated[int | None, typer.Option(help="Scans of each world and acceleration; default: all")] = None,
    random: Annotated[bool, typer.Option("--random", help="Random weights in place of trained ones")] = False,
    test: Annotated[bool, typer.Option("--test", help="The raw test scans; look once, choose nothing by them")] = False,
    show: Annotated[bool, typer.Option("--table", help="Print the tables of the rows that are there")] = False,
    every: Annotated[bool, typer.Option("--every", help="With --table: list every scan")] = False,
) -> None:
    """Measure the validation scans, or print the tables."""
    if show:
        print("\n".join(lines(read(output), every=every)))
        return
    folder.mkdir(parents=True, exist_ok=True)
    chosen = parse_candidates(candidates)
    names = [one.label for one in chosen]
    if random:
        chosen = [one for one in chosen if one.method not in ("unet", "unrolled")]
        networks = random_networks(folder)
        names = [one.label for one in chosen] + [f"random {one.method}" for one in networks]
        chosen += networks
    done = {row["scan"] for row in read(output)}
    with output.open("a") as out:
        for scan in scans(each=each, test=test, done=done):
            out.write(json.dumps(measured_row(scan, chosen, names, folder)) + "\n")
            out.flush()


if __name__ == "__main__":
    typer.run(main)
