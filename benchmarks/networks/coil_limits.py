"""What limits the networks on several coils: PSNR by noise, maps and data consistency. Simulated.

    python benchmarks/networks/coil_limits.py limits [--model NAME_OR_FILE]   and compressed sensing, true maps too
    python benchmarks/networks/coil_limits.py errors                          by the error expected of the network

A slice of every second magnitude file of the validation split, noise of three levels. The reference is the image
without noise. `limits` has 8 coils; `errors`, from which `data_consistency.EXPECTED_ERROR` comes, 2, 8 and 16.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from mri_recon.coils.noise import estimate_sigma
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.methods.data_consistency import weighted_data_consistency
from mri_recon.metrics import psnr
from mri_recon.models.checkpoint import load_named
from mri_recon.models.inference import apply_network, image_scale, network_measurement
from mri_recon.reconstruction import reconstruct
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.registry import files
from mri_recon_data.scenes.images import load_slices
from mri_recon_data.simulation.kspace import coil_maps, complex_noise, smooth_phase

ACCELERATIONS = (4, 8)
SNRS = (10, 40, 200)
EVERY = 2  # of the split's magnitude files
ERRORS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12)
"""Candidates for the expected error."""

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.command()
def limits(model: Annotated[str, typer.Option(help="weights of the unrolled network")] = "unrolled-0.1") -> None:
    """The unrolled network, with and without weighted data consistency, beside compressed sensing."""
    scans = list(_scans(8))
    print(f"{len(scans)} slices, 8 simulated coils; SNR: bright signal over sqrt(E|n|^2). PSNR / dB")
    print("|  R | SNR | unrolled | as trained | cs-wavelet | unrolled, true maps | cs-wavelet, true maps |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for acceleration in ACCELERATIONS:
        for snr in SNRS:
            rows = [_limits(image, maps, acceleration, snr, seed, model) for seed, (image, maps) in enumerate(scans)]
            print(f"| {acceleration} | {snr} | {_means(rows)} |", flush=True)


@app.command()
def errors() -> None:
    """Both networks as trained, then with weighted data consistency for each expected error."""
    print("| coils |  R | SNR | network | as trained | " + " | ".join(f"{error:g}" for error in ERRORS) + " |")
    print("|--:|--:|--:|---|--:|" + "--:|" * len(ERRORS))
    for num_coils in (2, 8, 16):
        scans = list(_scans(num_coils))
        for acceleration in ACCELERATIONS:
            for snr in SNRS:
                for name in ("unet-0.1", "unrolled-0.1"):  # a cascade has no weighted step
                    rows = [
                        _errors(image, maps, acceleration, snr, seed, name) for seed, (image, maps) in enumerate(scans)
                    ]
                    print(f"| {num_coils} | {acceleration} | {snr} | {name} | {_means(rows)} |", flush=True)


def _means(rows: list[list[float]]) -> str:
    return " | ".join(f"{fmean(column):.2f}" for column in zip(*rows, strict=True))


def _scans(num_coils: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Image `(h, w)` and maps `(coil, h, w)`."""
    for number, file in enumerate(files(split="validation", kind="image")[::EVERY]):
        slices = load_slices([(file.name, file.path())])
        magnitude = torch.from_numpy(slices[len(slices) // 2].magnitude.astype(np.float32))
        shape = (int(magnitude.shape[0]), int(magnitude.shape[1]))
        rng = np.random.default_rng(number)
        phase = torch.from_numpy(smooth_phase(shape, rng, strength=0.8, max_shift=2.0))
        yield torch.polar(magnitude, phase), torch.from_numpy(coil_maps(num_coils, shape, rng))


def _sampled(image: Tensor, maps: Tensor, acceleration: int, snr: float, seed: int) -> tuple[Tensor, ColumnMask]:
    noise = complex_noise(tuple(maps.shape), np.random.default_rng(seed), sigma=1 / snr / 2**0.5)
    mask = random_mask(int(image.shape[-1]), acceleration, seed=seed)
    return undersample(fft2c(maps * image + noise), mask)[None], mask


def _limits(image: Tensor, maps: Tensor, acceleration: int, snr: float, seed: int, model: str) -> list[float]:
    masked, mask = _sampled(image, maps, acceleration, snr, seed)
    return [
        psnr(reconstruct(masked, mask, method=method, sens_maps=given, **options).magnitude, image.abs()[None])
        for method, given, options in (
            ("unrolled", None, {"model": model}),
            ("unrolled", None, {"model": model, "data_consistency": "learned"}),
            ("cs-wavelet", None, {}),
            ("unrolled", maps, {"model": model}),
            ("cs-wavelet", maps, {}),
        )
    ]


@torch.no_grad()
def _errors(image: Tensor, maps: Tensor, acceleration: int, snr: float, seed: int, name: str) -> list[float]:
    masked, mask = _sampled(image, maps, acceleration, snr, seed)
    measurement, _ = network_measurement(masked, mask)
    scale = image_scale(measurement.adjoint())
    sigma = estimate_sigma(masked, mask).sigma.to(scale.dtype).reshape(1, 1, 1) / scale
    answer = apply_network(load_named(name).network, measurement) / scale
    scaled = measurement.scaled(scale)
    images = [answer, *(weighted_data_consistency(scaled, answer, sigma, expected_error=error) for error in ERRORS)]
    return [psnr((one * scale).abs(), image.abs()[None]) for one in images]


if __name__ == "__main__":
    app()
