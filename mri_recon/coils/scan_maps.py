"""Estimate the sensitivity maps of a scan once, for several methods."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mri_recon.coils.combine import rss
from mri_recon.coils.espirit import crop_weight, espirit_maps
from mri_recon.masks.types import Mask

__all__ = ["ScanMaps"]

_CROP = 0.8  # of `espirit_maps`


@dataclass(frozen=True)
class ScanMaps:
    """Hold the maps of a scan.

    Attributes:
        everywhere: maps like k-space, with sum |S|^2 = 1 at every pixel; or the maps of the user.
        cropped: the maps that fade to 0 outside the object, as the classical methods estimate them; None for one coil
            and for maps of the user, which all methods share.
    """

    everywhere: Tensor
    cropped: Tensor | None

    @classmethod
    def of(cls, kspace: Tensor, mask: Mask, sens_maps: Tensor | None = None) -> ScanMaps:
        """Estimate maps by ESPIRiT from the fully sampled centre, unless they are given.

        Both kinds come from one decomposition, and equal those of `estimate_maps`.

        Args:
            kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
            mask: the sampling mask.
            sens_maps: maps of the user, one slice or all slices of k-space; None to estimate them.

        Raises:
            MaskError: several coils, and the mask has no fully sampled centre.
            FormatError: calibration data that ESPIRiT cannot use.
        """
        if sens_maps is not None:
            return cls(sens_maps.expand(kspace.shape), None)
        if kspace.shape[1] == 1:
            return cls(torch.ones_like(kspace), None)
        found = espirit_maps(kspace, mask, crop=0.0, soft_crop=False)
        everywhere = found.maps[:, 0]
        return cls(everywhere, everywhere * crop_weight(found.eigenvalues, _CROP, soft=True))

    @property
    def seen(self) -> Tensor | None:
        """Root sum of squares of the cropped maps `(slice, h, w)`, by which classical images are weighted, or None."""
        return None if self.cropped is None else rss(self.cropped)
