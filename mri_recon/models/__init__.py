"""Networks only: tensors in, tensors out. What surrounds a network (scaling, coils) is in `mri_recon.learned`."""

from __future__ import annotations

from mri_recon.models.unet import Unet, UnetConfig

__all__ = ["Unet", "UnetConfig"]
