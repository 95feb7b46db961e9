"""The unrolled network on a real array, with more or less trust in the samples: data weights scaled, on a phantom.

    python benchmarks/networks/data_weights.py

The validation phantom of 16 coils, 128x128, one mask at R = 4 and 8. PSNR against the RSS of the full k-space, with
maps from the centre of the mask and from 24 lines, for other numbers of conjugate-gradient iterations and other factors
of every weight mu_k; beside it, CG-SENSE and compressed sensing with the same maps.
"""

from __future__ import annotations

from typing import cast

import torch
import typer
from torch import Tensor

from mri_recon.coils.combine import rss
from mri_recon.coils.sensitivity_maps import estimate_maps
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.metrics import evaluate
from mri_recon.models import Cascade
from mri_recon.models.cascade import StepWeights
from mri_recon.models.checkpoint import load_named
from mri_recon.models.inference import apply_network, network_measurement
from mri_recon.operators.measurement import Measurement
from mri_recon.reconstruction import reconstruct
from mri_recon.transforms.fourier import ifft2c
from mri_recon_data import registry

PHANTOM = "raw/phantoms/siemens-16ch-sphere/2024-02-06-160052.dat"
VARIANTS = {  # iterations of x_0, of every step; factor of every mu_k
    "as released": (10, 6, 1.0),
    "10 / 20 iterations": (10, 20, 1.0),
    "30 / 30 iterations": (30, 30, 1.0),
    "mu / 10, 10 / 20 iterations": (10, 20, 0.1),
    "mu / 100, 10 / 30 iterations": (10, 30, 0.01),
}


class Scaled(StepWeights):
    """Multiply the weights of another network by a factor."""

    factor: float = 1.0

    def forward(self, measurement: Measurement, start: Tensor) -> list[Tensor]:
        """Return the scaled mu of each step after the first."""
        return [self.factor * mu for mu in super().forward(measurement, start)]


def main() -> None:
    """Print the PSNR of every variant."""
    (phantom,) = [file for file in registry.files() if file.name == PHANTOM]
    kspace = torch.as_tensor(phantom.load().kspace).to(torch.complex64)[:1]
    reference, width = rss(ifft2c(kspace)), int(kspace.shape[-1])
    network = cast(Cascade, load_named("unrolled", device=torch.device("cpu")).network)
    config = network.config
    weights = Scaled(config.start_tau, [config.tau] * config.num_cascades, start_ratio=config.start_ratio)
    weights.load_state_dict(network.step_weights.state_dict())
    network.step_weights = weights
    wide = random_mask(width, 2, num_low_frequencies=24, seed=0)
    many = estimate_maps(undersample(kspace, wide), wide, everywhere=True)
    for acceleration in (4, 8):
        mask = random_mask(width, acceleration, seed=0)
        samples = undersample(kspace, mask)
        for lines, maps in ((mask.num_low_frequencies, None), (24, many)):
            print(f"R = {acceleration}, maps from {lines} lines")
            sense = reconstruct(samples, mask, method="cg-sense", sens_maps=maps, reg_weight=0.003).image
            print(f"  cg-sense: {evaluate(sense.abs(), reference).psnr:.2f} dB")
            sparse = reconstruct(samples, mask, method="cs-wavelet", sens_maps=maps).image
            print(f"  cs-wavelet: {evaluate(sparse.abs(), reference).psnr:.2f} dB")
            with torch.no_grad():
                measurement, _ = network_measurement(samples, mask, maps)
                for name, (start, step, factor) in VARIANTS.items():
                    network.config = config.model_copy(update={"start_iterations": start, "step_iterations": step})
                    weights.factor = factor
                    image = apply_network(network, measurement)
                    print(f"  unrolled, {name}: {evaluate(image.abs(), reference).psnr:.2f} dB")


if __name__ == "__main__":
    typer.run(main)
