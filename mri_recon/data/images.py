"""Registered magnitude images as slices on their true support, ready to be simulated from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mri_recon.data.simulate import fourier_crop
from mri_recon.errors import DataError

__all__ = ["MAX_SIZE", "ImageSlice", "load_slices"]

MAX_SIZE = 256
"""Largest side of a truth image: interpolated or zero-filled sources hold no more than that."""

# Fraction of the k-space extent that each set truly acquired, per axis of the stored image (see the registry's notes).
_SUPPORT = {"images/brain-ms": (0.65, 1.0), "images/brain-3T": (1.0, 1.0), "images/studyforrest-t1w": (1.0, 1.0, 1.0)}
_ANISOTROPIC = "brain-ms"


@dataclass(frozen=True)
class ImageSlice:
    """One slice: magnitude `(h, w)` in float16, scaled to a 99.5th percentile of 1 over its volume; and its set."""

    magnitude: npt.NDArray[np.float16]
    source: str


def load_slices(files: Sequence[tuple[str, Path]], *, max_size: int = MAX_SIZE) -> list[ImageSlice]:
    """Slices of registered magnitude files, Fourier-cropped to their true support, empty ones left out.

    Args:
        files: pairs of the file's path inside the registry (which names its set) and its path on disk.
        max_size: largest side kept.

    Raises:
        DataError: no file, or a file of an unknown set.
    """
    if not files:
        raise DataError("load_slices: expected at least one image file, got none: check the split and MRI_RECON_DATA")
    slices: list[ImageSlice] = []
    for name, path in files:
        source = "/".join(name.split("/")[:2])
        if source not in _SUPPORT:
            raise DataError(f"no image reader for {name}: expected a file under one of {', '.join(_SUPPORT)}")
        slices.extend(ImageSlice(plane, source) for plane in _planes(_read_volume(path), source, max_size))
    return slices


def _read_volume(path: Path) -> npt.NDArray[np.float32]:
    if path.name.endswith(".mat"):
        from scipy.io import loadmat

        return np.asarray(loadmat(path, variable_names=["image"])["image"], dtype=np.float32)
    import nibabel  # extra "data": only the registry's own sets need it

    return np.asarray(nibabel.load(path).dataobj, dtype=np.float32)  # type: ignore[attr-defined]


def _planes(volume: npt.NDArray[np.float32], source: str, max_size: int) -> Iterator[npt.NDArray[np.float16]]:
    scale = float(np.percentile(volume, 99.5)) or 1.0
    volume = volume / scale
    # An isotropic volume gives three orientations; thick-slice volumes only the plane they were acquired in.
    axes = (0, 1, 2) if len(_SUPPORT[source]) == 3 else (2,)
    for axis in axes:
        # Files store the first axis fastest: without this copy each plane would stride through the whole volume.
        for plane in np.ascontiguousarray(np.moveaxis(volume, axis, 0)):
            if (plane > 0.1).mean() < 0.1:  # air, or the last cap of the head
                continue
            height, width = (side * part for side, part in zip(plane.shape, _SUPPORT[source], strict=False))
            # Interpolated by one factor along both axes: keep the aspect. Acquired anisotropically: crop each axis.
            shrink = 1.0 if _ANISOTROPIC in source else min(1.0, max_size / max(height, width))
            size = (min(max_size, round(height * shrink)), min(max_size, round(width * shrink)))
            cropped = fourier_crop(torch.from_numpy(plane), size).abs()
            yield cropped.numpy().astype(np.float16)
