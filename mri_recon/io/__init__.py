"""Files in and out: every k-space format to one `Scan`, reconstructions and scans to fastMRI-style HDF5."""

from __future__ import annotations

from mri_recon.io.limits import DEFAULT_MAX_BYTES
from mri_recon.io.loading import load, load_noise
from mri_recon.io.mask_files import load_mask
from mri_recon.io.save import NOTICE, load_image, load_result, save, save_scan
from mri_recon.io.scan import Scan, sampled_pattern

__all__ = [
    "DEFAULT_MAX_BYTES",
    "NOTICE",
    "Scan",
    "load",
    "load_image",
    "load_mask",
    "load_noise",
    "load_result",
    "sampled_pattern",
    "save",
    "save_scan",
]
