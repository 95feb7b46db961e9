"""Full k-space simulated from one slice of a magnitude image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mri_recon.transforms.fourier import fft2c
from mri_recon_data.scenes.content import ContentConfig, vary_content
from mri_recon_data.scenes.crop import fold_columns, fourier_crop, random_orientation
from mri_recon_data.scenes.images import ImageSlice
from mri_recon_data.simulation.arrays import draw_num_coils
from mri_recon_data.simulation.kspace import coil_maps, complex_noise, smooth_phase

__all__ = ["Simulated", "SimulationConfig", "simulate_kspace"]

_OBJECT = 0.1  # of bright tissue: brighter pixels belong to the object


class SimulationConfig(BaseModel):
    """Ranges and probabilities of k-space simulated from a magnitude image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: tuple[float, float] = Field(default=(0.55, 1.0), description="kept fraction of the matrix")
    min_size: int = Field(default=96, ge=16, description="smallest side after the resolution is lowered")
    gamma: tuple[float, float] = Field(default=(0.7, 1.5), description="contrast: magnitude ** gamma")
    air: float = Field(default=0.25, ge=0, description="largest added field of view along the phase axis")
    phase_strength: tuple[float, float] = Field(default=(0.0, 1.5), description="smooth phase, radians")
    max_shift: float = Field(default=3.0, ge=0, description="largest shift of the k-space centre, samples")
    multi_coil: float = Field(default=0.35, ge=0, le=1, description="probability of more than one coil")
    num_coils: tuple[int, int] = Field(default=(2, 32), description="log-uniform range of coils then")
    wrap: float = Field(default=0.15, ge=0, le=1, description="probability of an object that crosses the phase edge")
    tight: float = Field(
        default=0.0, ge=0, le=1, description="probability, for one coil, of a field of view narrower than a wide object"
    )
    tight_width: tuple[float, float] = Field(
        default=(0.75, 1.0), description="width of that field of view over the object's"
    )
    snr: tuple[float, float] = Field(default=(8.0, 400.0), description="log-uniform range of bright signal to sigma")
    content: ContentConfig = ContentConfig()


@dataclass(frozen=True)
class Simulated:
    """A simulated slice: full k-space and true maps, complex64 `(coil, h, w)`, and the image without noise `(h, w)`."""

    kspace: Tensor
    sens_maps: Tensor
    image: Tensor

    @property
    def clean_image(self) -> Tensor | None:
        """The image as the target of several coils. None for one coil: its reference is noisy, as a real one is."""
        return self.image if self.kspace.shape[0] > 1 else None


def simulate_kspace(
    source: ImageSlice, rng: np.random.Generator, config: SimulationConfig, *, num_coils: int | None = None
) -> Simulated:
    """Simulate full k-space of one slice; returns it with its coil maps and its image.

    Orientation, content, resolution, contrast, field of view, phase, coils and noise are drawn from `rng`; `num_coils`
    fixes the number of coils. y_c = F (S_c x + n_c), n_c complex white noise.
    """
    oriented = random_orientation(source.magnitude.astype(np.float32), rng)
    magnitude = torch.from_numpy(vary_content(oriented, rng, config.content))
    keep = rng.uniform(*config.resolution)
    size = tuple(min(side, max(config.min_size, round(side * keep))) for side in magnitude.shape)
    magnitude = fourier_crop(magnitude, (size[0], size[1])).abs()
    magnitude = magnitude ** float(rng.uniform(*config.gamma))
    padding = round(magnitude.shape[1] * rng.uniform(0, config.air)) if rng.random() < 0.3 else 0
    magnitude = torch.nn.functional.pad(magnitude, (padding // 2, padding - padding // 2))
    if rng.random() < config.wrap:
        magnitude = magnitude.roll(int(rng.integers(magnitude.shape[1])), dims=1)
    shape = (int(magnitude.shape[0]), int(magnitude.shape[1]))
    strength = float(rng.uniform(*config.phase_strength))
    phase = torch.from_numpy(smooth_phase(shape, rng, strength=strength, max_shift=config.max_shift))
    image = torch.polar(magnitude, phase)
    if num_coils is None:
        num_coils = draw_num_coils(rng, config.multi_coil, config.num_coils)
    # Folded parts have other coil sensitivities than the parts under them: no single set of maps would describe both.
    if config.tight and num_coils == 1 and rng.random() < config.tight:
        image = _narrow(image, rng, config)
        shape = (shape[0], int(image.shape[1]))
    maps = torch.from_numpy(coil_maps(num_coils, shape, rng))
    sigma = float(np.exp(-rng.uniform(*np.log(config.snr))))
    coil_images = maps * image + complex_noise((num_coils, *shape), rng, sigma=sigma)
    return Simulated(fft2c(coil_images), maps, image)


def _narrow(image: Tensor, rng: np.random.Generator, config: SimulationConfig) -> Tensor:
    """Narrow the field of view along the phase axis to less than the object, to no less than `min_size`."""
    columns = torch.nonzero(image.abs().amax(dim=0) > _OBJECT).flatten()
    if not len(columns):
        return image
    first, last = int(columns[0]), int(columns[-1])
    extent = last + 1 - first
    width = min(int(image.shape[1]), max(config.min_size, round(extent * float(rng.uniform(*config.tight_width)))))
    start = round(first + (extent - width) / 2 + 0.1 * extent * float(rng.uniform(-1, 1)))
    return fold_columns(image, start, width)
