"""What the adaptation of a network to each single scan gains or loses, on scans outside the training.

    python benchmarks/networks/adaptation.py -o rows.jsonl [--steps 200] [--rates 1e-4] [--model unrolled]
    python benchmarks/networks/adaptation.py -o rows.jsonl --table
    python benchmarks/networks/adaptation.py -o test.jsonl --test  # once, when nothing is to be chosen any more

A row a scan and learning rate is appended to the file as soon as it is there, and one that is there already is not run
again. By default: validation scans of other worlds than the training's heads, at 4x and 8x. Magnitudes are compared as
in `worlds.py`. `--test` takes the test scans of other anatomy and scanners.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from mri_recon._arrays import center_crop
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import Mask
from mri_recon.methods.adaptation import adapt_network
from mri_recon.metrics import evaluate
from mri_recon.models.checkpoint import load_named
from mri_recon.models.inference import apply_network, network_measurement
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.examples.validation_worlds import validation_scans
from mri_recon_data.registry import load_registry
from mri_recon_training.markdown import table

WORLDS = "raw,measured-16coil,neck,procedural"
TEST_SETS = ("brain-16ch", "head-sagittal-t1", "rodent-head-9.4T")
ACCELERATIONS = (4, 8)


@dataclass(frozen=True)
class Case:
    """One problem: undersampled k-space `(slice, coil, readout, phase)`, its mask and the reference magnitude."""

    name: str
    world: str
    kspace: Tensor
    mask: Mask
    reference: Tensor


def validation_cases(worlds: set[str], each: int, seed: int) -> Iterator[Case]:
    """Yield the first `each` validation scans of each world and acceleration."""
    slices = RegistrySlices.read("validation")
    seen = defaultdict[str, int](int)
    for number, scan in enumerate(validation_scans(slices.raw, slices.images, seed=seed, measured=True)):
        seen[scan.kind] += 1
        if scan.kind.rsplit("-", 1)[0] in worlds and seen[scan.kind] <= each:
            kspace = undersample(scan.kspace, scan.mask)[None]
            yield Case(str(number), scan.kind, kspace, scan.mask, scan.reference[None])


def held_back_cases() -> Iterator[Case]:
    """Yield the test scans outside the training."""
    for name in TEST_SETS:
        for file in load_registry().get(name).files:
            scan = file.load()
            assert scan.target is not None, "every set has a truth"
            for acceleration in ACCELERATIONS:
                mask = random_mask(scan.width, acceleration, seed=0, support=scan.support)
                world = f"{name} {file.contrast}, {acceleration}x"
                yield Case(file.name, world, undersample(scan.kspace, mask), mask, scan.target)


def measured(case: Case, model: str, steps: int, rate: float, least_gain: float) -> dict[str, Any]:
    """Compare the network as it is with its adaptation to a case."""
    network = load_named(model).network
    with torch.no_grad():
        measurement, _ = network_measurement(case.kspace, case.mask)
    options: dict[str, Any] = {"steps": steps, "learning_rate": rate, "least_gain": least_gain}
    adapted, report = adapt_network(network, case.kspace, case.mask, measurement.maps, **options)
    row: dict[str, Any] = {"scan": case.name, "world": case.world, "coils": case.kspace.shape[1], "model": model}
    row |= {"shape": list(case.kspace.shape), "rate": rate, "asked": steps, "least_gain": least_gain, **report}
    for key, one in (("before", network), ("after", adapted)):
        with torch.no_grad():
            image = center_crop(apply_network(one, measurement).abs(), tuple(case.reference.shape[-2:]))
        found = evaluate(image, case.reference)
        row |= {f"psnr_{key}": found.psnr, f"ssim_{key}": found.ssim}
    return row


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """A table with a row a world and learning rate: means, and the scan that gains least."""
    groups = defaultdict[tuple[str, float], list[dict[str, Any]]](list)
    for row in rows:
        groups[row["world"], row["rate"]].append(row)
    header = ["world", "coils", "learning rate", "scans", "adapted", "PSNR before", "after", "gain, dB", "least gain"]
    header += ["SSIM before", "after", "fall of the validation error", "seconds a scan"]
    cells = []
    for (world, rate), found in sorted(groups.items()):
        gains = [row["psnr_after"] - row["psnr_before"] for row in found]
        falls = [1 - row["validation_after"] / row["validation_before"] for row in found]
        cells.append(
            [
                world,
                str(found[0]["coils"]),
                f"{rate:g}",
                str(len(found)),
                str(sum(row["kept_step"] > 0 for row in found)),
                *(f"{fmean(row[f'psnr_{key}'] for row in found):.2f}" for key in ("before", "after")),
                f"{fmean(gains):+.2f}",
                f"{min(gains):+.2f}",
                *(f"{fmean(row[f'ssim_{key}'] for row in found):.4f}" for key in ("before", "after")),
                f"{100 * fmean(falls):.1f} %",
                f"{fmean(row['seconds'] for row in found):.0f}",
            ]
        )
    return table(header, cells, text=1)


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="Rows, one JSON object a line")],
    steps: Annotated[int, typer.Option(help="Largest number of steps")] = 200,
    rates: Annotated[str, typer.Option(help="Learning rates, separated by commas")] = "1e-4",
    least_gain: Annotated[float, typer.Option(help="Least fall of the validation error to use the copy")] = 0.01,
    model: Annotated[str, typer.Option(help="Shipped name or .safetensors file of a cascade")] = "unrolled",
    worlds: Annotated[str, typer.Option(help="Worlds of the validation scans, separated by commas")] = WORLDS,
    each: Annotated[int, typer.Option(help="Scans of each world and acceleration")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the validation scans")] = 0,
    test: Annotated[bool, typer.Option("--test", help="The test scans outside the training")] = False,
    show: Annotated[bool, typer.Option("--table", help="Print the table of the rows that are there")] = False,
) -> None:
    """Adapt a network to each scan and compare, or print the table."""
    if show:
        print("\n".join(lines(read(output))))
        return
    keys = ("scan", "world", "rate", "model", "asked", "least_gain")
    done = {tuple(row[key] for key in keys) for row in read(output)}
    cases = held_back_cases() if test else validation_cases(set(worlds.split(",")), each, seed)
    with output.open("a") as out:
        for case in cases:
            for rate in map(float, rates.split(",")):
                if (case.name, case.world, rate, model, steps, least_gain) in done:
                    continue
                start = time.perf_counter()
                row = measured(case, model, steps, rate, least_gain)
                out.write(json.dumps(row | {"wall": time.perf_counter() - start}) + "\n")
                out.flush()


if __name__ == "__main__":
    typer.run(main)
