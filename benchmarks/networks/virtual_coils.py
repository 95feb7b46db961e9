"""The unrolled network with fewer virtual coils in the iterations of its data consistency: speed and PSNR.

    python benchmarks/networks/virtual_coils.py quality [--every 2]   on the validation scans of several coils
    python benchmarks/networks/virtual_coils.py seconds [--threads 2]  one slice of 320x320, 8 coils

Both compare shares of sum |S|^2 that may be left out, in turns on the same scan; 0 keeps all coils. Seconds are
processor time of the network alone on one thread, and wall time on several; maps are timed apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn

from mri_recon.coils.sensitivity_maps import estimate_maps
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.metrics import evaluate
from mri_recon.models import Measurement, cascade
from mri_recon.models.checkpoint import load_named
from mri_recon.models.inference import apply_network, network_measurement
from mri_recon.operators.virtual_coils import of_virtual_coils
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.examples.validation_worlds import validation_scans
from mri_recon_data.simulation.arrays import ArrayConfig, draw_array
from mri_recon_data.simulation.kspace import complex_noise
from mri_recon_training.markdown import table

SHARES = (0.0, 0.005, 0.02, 0.05)

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

Model = Annotated[str, typer.Option(help="weights of a cascade")]


@app.command()
def quality(
    model: Model = "unrolled", every: Annotated[int, typer.Option(min=1, help="use every n-th scan")] = 1
) -> None:
    """PSNR of each share, its difference from all coils, and the ratio of processor time."""
    torch.set_num_threads(1)
    network = load_named(model).network
    slices = RegistrySlices.read("validation")
    rows: dict[float, list[tuple[float, float, float, int]]] = {share: [] for share in SHARES}
    scans = [one for one in validation_scans(slices.raw, slices.images, seed=0, measured=True) if len(one.kspace) > 1]
    for scan in scans[::every]:
        with torch.no_grad():
            measurement, _ = network_measurement(undersample(scan.kspace, scan.mask)[None], scan.mask)
        reference: Tensor | None = None
        for share in SHARES:
            image, seconds = _run(network, measurement, share, time.process_time)
            reference = image if reference is None else reference
            error = float((image - reference).norm() / reference.norm())
            psnr = evaluate(image.abs(), scan.reference[None]).psnr
            rows[share].append((psnr, error, seconds, _coils(measurement, share)))
    typer.echo("\n".join(_table(rows)))


@app.command()
def seconds(
    model: Model = "unrolled",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    repetitions: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Seconds of one slice of 320x320 with 8 coils at R = 4, medians of turns."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    network = load_named(model).network
    kspace, mask = _slice()
    with torch.no_grad():
        estimate_maps(kspace, mask, everywhere=True)
        start = clock()
        maps = estimate_maps(kspace, mask, everywhere=True)
        typer.echo(f"{threads} thread(s); maps {clock() - start:.2f} s")
        measurement, _ = network_measurement(kspace, mask, maps)
    found: dict[float, list[float]] = {share: [] for share in SHARES}
    for _ in range(repetitions):
        for share in SHARES:
            found[share].append(_run(network, measurement, share, clock)[1])
    for share, values in found.items():
        ratio = median(a / b for a, b in zip(found[0.0], values, strict=True))
        typer.echo(f"share {share:g}: {_coils(measurement, share)} coils, {median(values):.2f} s, {ratio:.2f}x")


def _run(
    network: nn.Module, measurement: Measurement, share: float, clock: Callable[[], float]
) -> tuple[Tensor, float]:
    cascade._LEFT_OUT = share
    with torch.no_grad():
        start = clock()
        image = apply_network(network, measurement)
        return image, clock() - start


def _coils(measurement: Measurement, share: float) -> int:
    return int(of_virtual_coils(measurement.operator, share).sens_maps.shape[1])


def _slice(size: int = 320, num_coils: int = 8) -> tuple[Tensor, ColumnMask]:
    """An ellipse with a smooth texture and phase, seen by drawn coils with noise."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    magnitude = ((y**2 / 0.7 + x**2 / 0.5) < 1) * (1 + 0.3 * np.sin(9 * x) * np.cos(7 * y))
    image = torch.from_numpy((magnitude * np.exp(1j * (x + y / 2))).astype(np.complex64))
    maps = draw_array(num_coils, (size, size), rng, ArrayConfig()).maps
    mask = random_mask(size, 4, seed=1)
    noise = complex_noise((num_coils, size, size), rng, sigma=0.01)
    return undersample(fft2c(maps * image + noise), mask)[None], mask


def _table(rows: dict[float, list[tuple[float, float, float, int]]]) -> Sequence[str]:
    header = ["left out", "coils", "PSNR, dB", "difference", "worst scan", "relative change", "largest", "speed"]
    exact, cells = rows[0.0], []
    for share, found in rows.items():
        gains = [mine[0] - all_coils[0] for mine, all_coils in zip(found, exact, strict=True)]
        cells.append(
            [
                f"{share:g}",
                f"{fmean(row[3] for row in found):.1f}",
                f"{fmean(row[0] for row in found):.2f}",
                f"{fmean(gains):+.3f}",
                f"{min(gains):+.3f}",
                f"{fmean(row[1] for row in found):.1e}",
                f"{max(row[1] for row in found):.1e}",
                f"{sum(row[2] for row in exact) / sum(row[2] for row in found):.2f}x",
            ]
        )
    return table(header, cells, text=0)


if __name__ == "__main__":
    app()
