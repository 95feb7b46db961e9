"""What a rough phase does to the networks: real phantoms beside the same magnitude and coils without their phase.

    python benchmarks/networks/phases.py [--model unrolled=FILE ...]

The first table has the share of the energy that stays in the imaginary channel of a network's input, after the smooth
phase of the fully sampled centre is removed: of the real scans and phantoms of the training and validation splits, and
of the validation worlds. The second has PSNR on the phantoms of several coils, middle slice, one mask at R = 4 and 8:
of the real k-space; of k-space simulated from its magnitude, its phase and the fitted smooth sensitivities of its array
(`simulation.measured_coils`); and of the same without the phase. The references of all three contain the noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Annotated

import torch
import typer
from torch import Tensor

from mri_recon.coils.combine import combine, rss
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.metrics import evaluate
from mri_recon.models.inference import network_measurement
from mri_recon.reconstruction import reconstruct
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data import registry
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.examples.validation_worlds import validation_scans
from mri_recon_data.simulation.measured_coils import fit_array
from mri_recon_training.markdown import table

ACCELERATIONS = (4, 8)


def imaginary_share(kspace: Tensor, mask: ColumnMask) -> float:
    """Compute the share of the energy in the imaginary channel of the full image, in the phase of a network's maps."""
    measurement, _ = network_measurement(undersample(kspace[None], mask), mask)
    image = combine(ifft2c(kspace[None]), measurement.maps)
    return float(image.imag.square().sum() / image.abs().square().sum())


def middle_slices(*kinds: str) -> Iterator[tuple[str, Tensor, dict[int, ColumnMask]]]:
    """Yield name, k-space of the middle slice and masks of the real scans outside the test split."""
    for file in registry.files():
        if file.split in ("train", "validation") and file.kind in kinds:
            scan = file.load()
            kspace = torch.as_tensor(scan.kspace).to(torch.complex64)[scan.num_slices // 2]
            masks = {r: random_mask(scan.width, r, seed=0, support=scan.support) for r in ACCELERATIONS}
            yield f"{file.set_name} {file.name.rsplit('/', 1)[-1]}", kspace, masks


def shares() -> list[list[str]]:
    """Make the rows of the first table."""
    rows = [
        [name, str(kspace.shape[0]), *(f"{imaginary_share(kspace, masks[r]):.3f}" for r in ACCELERATIONS)]
        for name, kspace, masks in middle_slices("raw", "phantom")
    ]
    slices = RegistrySlices.read("validation")
    found: dict[str, dict[int, list[float]]] = {}
    coils: dict[str, int] = {}
    for scan in validation_scans(slices.raw, slices.images, seed=0, measured=True):
        world, _, acceleration = scan.kind.rpartition("-")
        coils[world] = int(scan.kspace.shape[0])
        by_acceleration = found.setdefault(world, {r: [] for r in ACCELERATIONS})
        by_acceleration[int(acceleration[:-1])].append(imaginary_share(scan.kspace, scan.mask))
    for world, values in found.items():
        rows.append([f"validation: {world}", str(coils[world]), *(f"{fmean(values[r]):.3f}" for r in ACCELERATIONS)])
    return rows


def phases(models: list[str]) -> list[list[str]]:
    """Make the rows of the second table."""
    rows = []
    for name, kspace, masks in middle_slices("phantom"):
        if kspace.shape[0] == 1:
            continue
        array = fit_array(kspace)
        maps = torch.from_numpy(array.on_pixels((int(kspace.shape[1]), int(kspace.shape[2]))))
        image = combine(ifft2c(kspace), maps)
        magnitude = rss(ifft2c(kspace))
        cases = {
            "real": kspace,
            "smooth maps": fft2c(maps * torch.polar(magnitude, image.angle())),
            "without phase": fft2c(maps * magnitude),
        }
        for case, data in cases.items():
            for acceleration, mask in masks.items():
                samples, reference = undersample(data[None], mask), rss(ifft2c(data))[None]
                images = [reconstruct(samples, mask, method="cs-wavelet").image]
                for model in models:
                    method, _, file = model.partition("=")
                    images.append(reconstruct(samples, mask, method=method, model=file or method).image)
                psnr = [f"{evaluate(one.abs(), reference).psnr:.1f}" for one in images]
                rows.append([name.split()[0], case, str(acceleration), *psnr])
    return rows


def main(
    model: Annotated[list[str], typer.Option(help="weights to compare, METHOD or METHOD=FILE")] = ["unrolled"],  # noqa: B006  typer reads it
) -> None:
    """Print both tables."""
    print("\n".join(table(["scan", "coils", "R = 4", "R = 8"], shares(), text=1)))
    print("\n".join(table(["phantom", "k-space", "R", "cs-wavelet", *model], phases(model), text=2)))


if __name__ == "__main__":
    typer.run(main)
