"""Define the networks, run them on scans, and read and write their weights and model cards."""

from __future__ import annotations

from mri_recon.models.cascade import Cascade, CascadeConfig
from mri_recon.models.layers import run_continued
from mri_recon.models.unet import Unet, UnetConfig
from mri_recon.models.unrolled import Unrolled, UnrolledConfig
from mri_recon.operators.measurement import Measurement, concatenate, measure

__all__ = [
    "Cascade",
    "CascadeConfig",
    "Measurement",
    "Unet",
    "UnetConfig",
    "Unrolled",
    "UnrolledConfig",
    "concatenate",
    "measure",
    "run_continued",
]
