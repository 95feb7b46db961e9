"""The networks and the classical methods on the validation scans of every world.

    python benchmarks/networks/worlds.py -o worlds.jsonl [--model unrolled=FILE ...] [--only zero-filled,unrolled]
    python benchmarks/networks/worlds.py -o worlds.jsonl --table

A row a scan and variant is appended to the file as soon as it is there, and a variant that is there already is not run
again. CG-SENSE and compressed sensing run with every weight of a grid, and the table has the weight that is best in the
mean of each world: nothing a user could know beforehand, so the classical methods are favoured. "raw" and "phantom" are
real k-space, all others are simulated. Magnitudes are compared with the image without noise where it is known (several
coils). Phantoms come last and count for no gain, only for whether a network is below zero-filled or CG-SENSE: they are
easier for a sparse prior than any body. They are those of the validation split; no training sees their images.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.metrics import evaluate
from mri_recon.reconstruction import reconstruct
from mri_recon_data import registry
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.examples.validation_worlds import ValidationScan, validation_scans
from mri_recon_training.evaluation.worlds import FLOOR
from mri_recon_training.markdown import table

PHANTOM = "phantom"
CLASSICAL = ("zero-filled", "cg-sense", "cs-wavelet")
CG_WEIGHTS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
CS_WEIGHTS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class Variant:
    """A method with options, under a name of its own."""

    name: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)


def variants(models: list[str]) -> Iterator[Variant]:
    yield Variant("zero-filled", "zero-filled")
    yield Variant("cs-wavelet auto", "cs-wavelet")
    for method, weights in (("cg-sense", CG_WEIGHTS), ("cs-wavelet", CS_WEIGHTS)):
        for weight in weights:
            yield Variant(f"{method} {weight:g}", method, {"reg_weight": weight})
    for method in ("unet", "unrolled"):
        yield Variant(method, method)
    for text in models:
        method, _, file = text.partition("=")
        yield Variant(f"{method} {Path(file).stem}", method, {"model": file})


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def phantom_scans() -> Iterator[ValidationScan]:
    """Yield every slice of the validation phantoms at R = 4 and 8; masks are seeded by the number of the slice."""
    number = itertools.count()
    for file in registry.files(split="validation", kind="phantom"):
        scan = file.load()
        for kspace in scan.kspace:
            seed = next(number)
            for acceleration in (4, 8):
                mask = random_mask(scan.width, acceleration, seed=seed, support=scan.support)
                yield ValidationScan(f"{PHANTOM}-{scan.num_coils}coil-{acceleration}x", kspace, mask)


def run(path: Path, chosen: list[Variant], seed: int) -> None:
    done = {(row["scan"], row["variant"]) for row in read(path)}
    slices = RegistrySlices.read("validation")
    scans = itertools.chain(validation_scans(slices.raw, slices.images, seed=seed, measured=True), phantom_scans())
    with path.open("a") as out:
        for number, scan in enumerate(scans):
            kspace = undersample(scan.kspace, scan.mask)[None]
            reference = scan.reference[None]
            for variant in chosen:
                if (number, variant.name) in done:
                    continue
                start = time.perf_counter()
                image = reconstruct(kspace, scan.mask, method=variant.method, **variant.options).image.abs()
                seconds = time.perf_counter() - start
                found = evaluate(image, reference)
                row = {"scan": number, "world": scan.kind, "variant": variant.name, "seconds": seconds}
                out.write(json.dumps({**row, "psnr": found.psnr, "ssim": found.ssim, "nmse": found.nmse}) + "\n")
                out.flush()


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """A table with a row a world; the last columns compare each network with the best classical method."""
    psnr = defaultdict[tuple[str, str], dict[int, float]](dict)
    for row in rows:
        psnr[row["world"], row["variant"]][row["scan"]] = row["psnr"]
    names = list(dict.fromkeys(row["variant"] for row in rows))
    networks = [name for name in names if name.split()[0] not in CLASSICAL]
    header = ["world", *CLASSICAL, *networks, *(f"{name} - best classical" for name in networks)]
    header += [f"{name} below zero-filled or CG-SENSE" for name in networks]
    cells = []
    for world in sorted({world for world, _ in psnr}):
        best: dict[str, str] = {}
        for method in CLASSICAL:
            known = [name for name in names if name.split()[0] == method and (world, name) in psnr]
            if known:
                best[method] = max(known, key=lambda name: fmean(psnr[world, name].values()))
        means = {method: fmean(psnr[world, name].values()) for method, name in best.items()}
        shown = [f"{means[m]:.2f}" + _weight(best[m]) if m in means else "" for m in CLASSICAL]
        scores, gains, losses = [], [], []
        for name in networks:
            found = psnr.get((world, name), {})
            if not found:
                scores, gains, losses = [*scores, ""], [*gains, ""], [*losses, ""]
                continue
            mean = fmean(found.values())
            floor = [psnr[world, best[m]] for m in FLOOR if m in best]
            below = sum(value < max((one[scan] for one in floor), default=value) for scan, value in found.items())
            scores.append(f"{mean:.2f}")
            counts = means and not world.startswith(PHANTOM)
            gains.append(f"{mean - max(means.values()):+.2f}" if counts else "")
            losses.append(f"{below} of {len(found)}")
        cells.append([world, *shown, *scores, *gains, *losses])
    return table(header, cells, text=1)


def _weight(name: str) -> str:
    return f" ({name.split()[1]})" if " " in name else ""


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="Rows, one JSON object a line")],
    model: Annotated[list[str] | None, typer.Option(help="METHOD=FILE: weights besides the shipped ones")] = None,
    only: Annotated[str, typer.Option(help="Names of variants or methods, separated by commas; empty: all")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the scans")] = 0,
    show: Annotated[bool, typer.Option("--table", help="Print the table of the rows that are there")] = False,
) -> None:
    """Reconstruct the validation scans of every world with every variant, or print the table."""
    wanted = {name for name in only.split(",") if name}
    chosen = [one for one in variants(model or []) if not wanted or {one.name, one.method} & wanted]
    if show:
        print("\n".join(lines(read(output))))
    else:
        run(output, chosen, seed)


if __name__ == "__main__":
    typer.run(main)
