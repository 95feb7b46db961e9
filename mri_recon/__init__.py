"""Accelerated MRI reconstruction: k-space in, image out.

    import mri_recon as mr

    scan = mr.sample()  # or mr.load("knee.h5")
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
    from mri_recon.coils.espirit import espirit_maps
    from mri_recon.coils.sensitivity_maps import sens_maps_from_center
    from mri_recon.embedded_sample import sample
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
    from mri_recon.io import Scan, load, load_mask, load_noise
    from mri_recon.io.save import save, save_scan
    from mri_recon.masks.convert import undersample
    from mri_recon.masks.draw import equispaced_mask, fastmri_random_mask, random_mask
    from mri_recon.masks.types import ColumnMask, PatternMask
    from mri_recon.methods.table import method_names, method_options
    from mri_recon.metrics import Metrics, evaluate
    from mri_recon.operators.sense import SenseOperator
    from mri_recon.progress import OnProgress, Progress
    from mri_recon.reconstruction import Reconstruction, reconstruct, reconstruct_batch
    from mri_recon.results.comparison import Comparison, compare
    from mri_recon.results.recipe import MaskChoice, Recipe, run_recipe
    from mri_recon.results.replay import Replay, replay
    from mri_recon.transforms.fourier import fft2c, ifft2c

__all__ = [
    "Cancelled",
    "CheckpointError",
    "ColumnMask",
    "Comparison",
    "ConfigError",
    "DataError",
    "FormatError",
    "MaskChoice",
    "MaskError",
    "MethodError",
    "Metrics",
    "MriReconError",
    "OnProgress",
    "OutputError",
    "PatternMask",
    "Progress",
    "Recipe",
    "Reconstruction",
    "Replay",
    "Scan",
    "SenseOperator",
    "ShapeError",
    "compare",
    "equispaced_mask",
    "espirit_maps",
    "evaluate",
    "fastmri_random_mask",
    "fft2c",
    "ifft2c",
    "load",
    "load_mask",
    "load_noise",
    "method_names",
    "method_options",
    "random_mask",
    "reconstruct",
    "reconstruct_batch",
    "replay",
    "rss",
    "run_recipe",
    "sample",
    "save",
    "save_scan",
    "sens_maps_from_center",
    "undersample",
]

_PUBLIC = {
    "mri_recon.coils.combine": ("rss",),
    "mri_recon.coils.espirit": ("espirit_maps",),
    "mri_recon.coils.sensitivity_maps": ("sens_maps_from_center",),
    "mri_recon.embedded_sample": ("sample",),
    "mri_recon.errors": (
        "Cancelled",
        "CheckpointError",
        "ConfigError",
        "DataError",
        "FormatError",
        "MaskError",
        "MethodError",
        "MriReconError",
        "OutputError",
        "ShapeError",
    ),
    "mri_recon.io": ("Scan", "load", "load_mask", "load_noise"),
    "mri_recon.io.save": ("save", "save_scan"),
    "mri_recon.masks.convert": ("undersample",),
    "mri_recon.masks.draw": ("equispaced_mask", "fastmri_random_mask", "random_mask"),
    "mri_recon.masks.types": ("ColumnMask", "PatternMask"),
    "mri_recon.methods.table": ("method_names", "method_options"),
    "mri_recon.metrics": ("Metrics", "evaluate"),
    "mri_recon.operators.sense": ("SenseOperator",),
    "mri_recon.progress": ("OnProgress", "Progress"),
    "mri_recon.reconstruction": ("Reconstruction", "reconstruct", "reconstruct_batch"),
    "mri_recon.results.comparison": ("Comparison", "compare"),
    "mri_recon.results.recipe": ("MaskChoice", "Recipe", "run_recipe"),
    "mri_recon.results.replay": ("Replay", "replay"),
    "mri_recon.transforms.fourier": ("fft2c", "ifft2c"),
}
"""The imports above for use at run time: module to the public names that come from it. A test compares the two."""

_HOMES = {name: module for module, names in _PUBLIC.items() for name in names}


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
