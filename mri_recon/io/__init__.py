"""Read every k-space format into one `Scan`, and write reconstructions in the format of their suffix."""

from __future__ import annotations

from mri_recon.io.conversion import convert
from mri_recon.io.geometry import Geometry
from mri_recon.io.loading import load
from mri_recon.io.masks import load_mask
from mri_recon.io.noise import load_noise
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES
from mri_recon.io.save import (
    RESULT_SUFFIXES,
    check_holds,
    encode_result,
    files_beside,
    load_image,
    load_result,
    load_trust_map,
    save,
    save_scan,
)
from mri_recon.io.scan import Scan, sampled_pattern
from mri_recon.io.writers.result import NOTICE

__all__ = [
    "DEFAULT_MAX_BYTES",
    "NOTICE",
    "RESULT_SUFFIXES",
    "Geometry",
    "Scan",
    "check_holds",
    "convert",
    "encode_result",
    "files_beside",
    "load",
    "load_image",
    "load_mask",
    "load_noise",
    "load_result",
    "load_trust_map",
    "sampled_pattern",
    "save",
    "save_scan",
]
