"""K-space simulated from one small disc."""

from __future__ import annotations

import numpy as np

from mri_recon_data.scenes.images import ImageSlice
from mri_recon_data.simulation.image_slice import Simulated, SimulationConfig, simulate_kspace


def _disc(shape: tuple[int, int] = (53, 48)) -> ImageSlice:
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    disc = (y**2 / 0.8 + x**2 / 0.5 < 1) * (1 + 0.3 * np.sin(9 * x) * np.cos(7 * y))
    return ImageSlice(disc.astype(np.float16), "test")


def simulated_disc(num_coils: int, seed: int = 0, **config: object) -> Simulated:
    settings = SimulationConfig(min_size=32, **config)  # type: ignore[arg-type]
    return simulate_kspace(_disc(), np.random.default_rng(seed), settings, num_coils=num_coils)
