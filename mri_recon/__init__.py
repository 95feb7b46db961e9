"""Accelerated MRI reconstruction: k-space in, image out.

    import mri_recon as mr

    scan = mr.load("knee.h5")
    mask = mr.random_mask(scan.width, acceleration=4, seed=0, support=scan.support)
    result = mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method="cs-wavelet")
    print(mr.evaluate(result.image, scan.target))

Research only: not a medical device, not for diagnosis or treatment.
"""

from mri_recon.coils import rss, sens_maps_from_center
from mri_recon.compare import Comparison, compare
from mri_recon.errors import (
    Cancelled,
    CheckpointError,
    ConfigError,
    DataError,
    FormatError,
    MaskError,
    MethodError,
    MriReconError,
    ShapeError,
)
from mri_recon.fourier import fft2c, ifft2c
from mri_recon.io import Scan, load, load_mask, save
from mri_recon.masks import (
    ColumnMask,
    PatternMask,
    equispaced_mask,
    fastmri_random_mask,
    random_mask,
    undersample,
)
from mri_recon.methods import Reconstruction, method_names, reconstruct
from mri_recon.metrics import Metrics, evaluate
from mri_recon.progress import OnProgress, Progress

__all__ = [
    "Cancelled",
    "CheckpointError",
    "ColumnMask",
    "Comparison",
    "ConfigError",
    "DataError",
    "FormatError",
    "MaskError",
    "MethodError",
    "Metrics",
    "MriReconError",
    "OnProgress",
    "PatternMask",
    "Progress",
    "Reconstruction",
    "Scan",
    "ShapeError",
    "compare",
    "equispaced_mask",
    "evaluate",
    "fastmri_random_mask",
    "fft2c",
    "ifft2c",
    "load",
    "load_mask",
    "method_names",
    "random_mask",
    "reconstruct",
    "rss",
    "save",
    "sens_maps_from_center",
    "undersample",
]
