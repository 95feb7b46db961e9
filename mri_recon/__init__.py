"""Accelerated MRI reconstruction: k-space in, image out.

    import mri_recon as mr

    scan = mr.load("knee.h5")
    mask = mr.random_mask(scan.width, acceleration=4, seed=0, support=scan.support)
    result = mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method="cs-wavelet")
    print(mr.evaluate(result.image, scan.target))

A name is imported with its first use, so that `import mri_recon` loads neither torch nor NumPy (PEP 562).

Research only: not a medical device, not for diagnosis or treatment.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mri_recon.coils.combine import rss
    from mri_recon.coils.sensitivity_maps import sens_maps_from_center
    from mri_recon.errors import (
        Cancelled,
        CheckpointError,
        ConfigError,
        DataError,
        FormatError,
        MaskError,
        MethodError,
        MriReconError,
        OutputError,
        ShapeError,
    )
    from mri_recon.io import Scan, load, load_mask
    from mri_recon.io.save import save
    from mri_recon.masks.convert import undersample
    from mri_recon.masks.draw import equispaced_mask, fastmri_random_mask, random_mask
    from mri_recon.masks.types import ColumnMask, PatternMask
    from mri_recon.methods.table import method_names
    from mri_recon.metrics import Metrics, evaluate
    from mri_recon.progress import OnProgress, Progress
    from mri_recon.reconstruction import Reconstruction, reconstruct
    from mri_recon.results.comparison import Comparison, compare
    from mri_recon.transforms.fourier import fft2c, ifft2c

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
    "OutputError",
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

_HOMES = {
    "Cancelled": "mri_recon.errors",
    "CheckpointError": "mri_recon.errors",
    "ColumnMask": "mri_recon.masks.types",
    "Comparison": "mri_recon.results.comparison",
    "ConfigError": "mri_recon.errors",
    "DataError": "mri_recon.errors",
    "FormatError": "mri_recon.errors",
    "MaskError": "mri_recon.errors",
    "MethodError": "mri_recon.errors",
    "Metrics": "mri_recon.metrics",
    "MriReconError": "mri_recon.errors",
    "OnProgress": "mri_recon.progress",
    "OutputError": "mri_recon.errors",
    "PatternMask": "mri_recon.masks.types",
    "Progress": "mri_recon.progress",
    "Reconstruction": "mri_recon.reconstruction",
    "Scan": "mri_recon.io",
    "ShapeError": "mri_recon.errors",
    "compare": "mri_recon.results.comparison",
    "equispaced_mask": "mri_recon.masks.draw",
    "evaluate": "mri_recon.metrics",
    "fastmri_random_mask": "mri_recon.masks.draw",
    "fft2c": "mri_recon.transforms.fourier",
    "ifft2c": "mri_recon.transforms.fourier",
    "load": "mri_recon.io",
    "load_mask": "mri_recon.io",
    "method_names": "mri_recon.methods.table",
    "random_mask": "mri_recon.masks.draw",
    "reconstruct": "mri_recon.reconstruction",
    "rss": "mri_recon.coils.combine",
    "save": "mri_recon.io.save",
    "sens_maps_from_center": "mri_recon.coils.sensitivity_maps",
    "undersample": "mri_recon.masks.convert",
}
"""The module that each public name comes from."""


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value  # from now on the name is found without this function
        return value
    if not name.startswith("_"):
        module = f"{__name__}.{name}"
        try:
            return import_module(module)  # mri_recon.masks, say, without an import of its own
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
