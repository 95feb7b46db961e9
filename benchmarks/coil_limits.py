"""What limits the unrolled network on several coils: PSNR by noise and by maps, beside compressed sensing. Simulated.

    python benchmarks/coil_limits.py [--model NAME_OR_FILE]

A slice of every second magnitude file of the validation split, 8 coils, noise of three levels; both methods with maps
that they estimate and with the true ones. The reference is the image without noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from mri_recon.data.images import load_slices
from mri_recon.data.registry import files
from mri_recon.data.simulate import coil_maps, complex_noise, smooth_phase
from mri_recon.fourier import fft2c
from mri_recon.masks import random_mask, undersample
from mri_recon.methods import reconstruct
from mri_recon.metrics import psnr

NUM_COILS = 8
SNRS = (10, 40, 200)
EVERY = 2  # of the split's magnitude files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="unrolled", help="weights of the unrolled network")
    model = parser.parse_args().model
    scans = list(_scans())
    print(f"{len(scans)} slices, {NUM_COILS} simulated coils; SNR: bright signal over sqrt(E|n|^2). PSNR / dB")
    print("|  R | SNR | unrolled | cs-wavelet | unrolled, true maps | cs-wavelet, true maps |")
    print("|--:|--:|--:|--:|--:|--:|")
    for acceleration in (4, 8):
        for snr in SNRS:
            rows = [_scores(image, maps, acceleration, snr, seed, model) for seed, (image, maps) in enumerate(scans)]
            means = " | ".join(f"{fmean(column):.2f}" for column in zip(*rows, strict=True))
            print(f"| {acceleration} | {snr} | {means} |", flush=True)


def _scans() -> Iterator[tuple[Tensor, Tensor]]:
    """Image `(h, w)` and maps `(coil, h, w)`."""
    for number, file in enumerate(files(split="validation", kind="image")[::EVERY]):
        slices = load_slices([(file.name, file.path())])
        magnitude = torch.from_numpy(slices[len(slices) // 2].magnitude.astype(np.float32))
        shape = (int(magnitude.shape[0]), int(magnitude.shape[1]))
        rng = np.random.default_rng(number)
        phase = torch.from_numpy(smooth_phase(shape, rng, strength=0.8, max_shift=2.0))
        yield torch.polar(magnitude, phase), torch.from_numpy(coil_maps(NUM_COILS, shape, rng))


def _scores(image: Tensor, maps: Tensor, acceleration: int, snr: float, seed: int, model: str) -> list[float]:
    noise = complex_noise(tuple(maps.shape), np.random.default_rng(seed), sigma=1 / snr / 2**0.5)
    mask = random_mask(int(image.shape[-1]), acceleration, seed=seed)
    masked = undersample(fft2c(maps * image + noise), mask)[None]
    reference = image.abs()[None]
    return [
        psnr(reconstruct(masked, mask, method=method, sens_maps=given, **options).magnitude, reference)
        for given in (None, maps)
        for method, options in (("unrolled", {"model": model}), ("cs-wavelet", {}))
    ]


if __name__ == "__main__":
    main()
