"""Small slices to draw training examples from, and their configuration."""

from __future__ import annotations

import numpy as np
import torch

from mri_recon.transforms.fourier import fft2c
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.raw_slice import RawSlice
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.scenes.images import ImageSlice

CONFIG = DataConfig.model_validate(
    {"rows": 16, "simulation": {"min_size": 24}, "sampling": {"acceleration": (2, 4)}, "validation_slices": 8}
)


def small_registry() -> RegistrySlices:
    rng = np.random.default_rng(0)
    image = np.zeros((60, 50), np.float16)
    image[10:50, 12:40] = rng.uniform(0.5, 1, (40, 28))
    support = np.ones(21, dtype=bool)
    support[[0, 20]] = False
    kspace = fft2c(torch.view_as_complex(torch.from_numpy(rng.normal(size=(1, 33, 21, 2)).astype(np.float32))))
    kspace[..., ~torch.from_numpy(support)] = 0
    return RegistrySlices(
        (RawSlice(kspace, support),),
        (ImageSlice(image, "images/studyforrest-t1w"), ImageSlice(image, "images/brain-ms")),
    )
