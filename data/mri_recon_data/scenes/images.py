"""Read registered magnitude images as slices on their true k-space support, to simulate scans from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mri_recon.errors import DataError
from mri_recon_data.registry import load_registry
from mri_recon_data.scenes.crop import fourier_crop

__all__ = ["MAX_SIZE", "ImageSlice", "is_isotropic", "load_slices"]

MAX_SIZE = 256
"""Largest side of a truth image: interpolated or zero-filled sources hold no more than that."""


@dataclass(frozen=True)
class _Support:
    """Part of k-space that a set truly acquired."""

    fractions: tuple[float, float] = (1.0, 1.0)
    """Of the extent along the rows and columns of a stored slice."""
    isotropic: bool = False
    """Whether the volume may be cut along all three axes, not only in the plane that was acquired."""
    keep_aspect: bool = True
    """False: the pixels were acquired anisotropic, and each axis is cropped by itself."""


# By the beginning of the file's name in the registry; where the power of k-space falls to the noise floor, per axis.
_SUPPORT = {
    "images/brain-ms": _Support((0.65, 1.0), keep_aspect=False),
    "images/brain-3T": _Support(),
    "images/studyforrest-t1w": _Support(isotropic=True),
    "images/head-child-mprage": _Support(isotropic=True),
    "images/head-axial": _Support((0.75, 0.9)),
    "images/brain-tumour": _Support((0.7, 1.0)),
    "images/neck-axial": _Support(),
    "images/other-anatomy/MR2_UNCR": _Support((0.45, 0.95)),
    "images/other-anatomy/MR-SIEMENS": _Support((0.35, 0.5)),
}


@dataclass(frozen=True)
class ImageSlice:
    """One slice: magnitude `(h, w)` in float16, scaled to a 99.5th percentile of 1 over its volume; and its set.

    No picture of it may be drawn where `no_pictures` is True.
    """

    magnitude: npt.NDArray[np.float16]
    source: str
    no_pictures: bool = False


def is_isotropic(source: str) -> bool:
    """Whether a set (`ImageSlice.source`) is a volume that is cut along all three axes."""
    return source in _SUPPORT and _SUPPORT[source].isotropic


def load_slices(files: Sequence[tuple[str, Path]], *, max_size: int = MAX_SIZE) -> list[ImageSlice]:
    """Read slices of registered magnitude files, Fourier-cropped to their true support; empty ones are left out.

    NIfTI, NRRD, MATLAB and DICOM files. The DICOM files of a set that is a series are the slices of one volume, which
    is read when all of them are there.

    Args:
        files: pairs of the file's path inside the registry (which names its set) and its path on disk.
        max_size: largest side kept.

    Raises:
        DataError: no file, a file of an unknown set, an incomplete series, or a reader that is not installed.
    """
    if not files:
        raise DataError("load_slices: expected at least one image file, got none: check the split and MRI_RECON_DATA")
    marked = {file.name: file for file in load_registry().files(kind="image") if file.no_pictures or file.series}
    volumes: dict[str, list[tuple[str, Path]]] = {}
    for name, path in files:
        series = name in marked and marked[name].series
        volumes.setdefault(_source(name) if series else name, []).append((name, path))
    slices: list[ImageSlice] = []
    for group in volumes.values():
        name = group[0][0]
        support, source = _support(name), _source(name)
        paths = [path for _, path in group]
        if name in marked and marked[name].series:
            expected = len(load_registry().files(name=marked[name].set_name))
            if len(paths) != expected:
                raise DataError(
                    f"{source}: expected all {expected} files of the series, got {len(paths)}: fetch it again"
                )
            volume = _read_series(paths)
        else:
            volume = _read_volume(paths[0])
        hidden = name in marked and marked[name].no_pictures
        slices.extend(ImageSlice(plane, source, hidden) for plane in _planes(volume, support, max_size))
    return slices


def _source(name: str) -> str:
    return "/".join(name.split("/")[:2])


def _support(name: str) -> _Support:
    for beginning, support in _SUPPORT.items():
        if name.startswith(beginning):
            return support
    sources = dict.fromkeys(_source(beginning) for beginning in _SUPPORT)
    raise DataError(f"no image reader for {name}: expected a file under one of {', '.join(sources)}")


def _read_volume(path: Path) -> npt.NDArray[np.float32]:
    """Read a volume `(h, w, slice)`, or in the order of its file where it is isotropic."""
    if path.name.endswith(".mat"):
        from scipy.io import loadmat

        return np.asarray(loadmat(path, variable_names=["image"])["image"], dtype=np.float32)
    try:  # extra "data": only the registry's own sets need these
        if path.name.endswith(".dcm"):
            return _read_series([path])
        if path.name.endswith(".nrrd"):
            import nrrd

            volume, _ = nrrd.read(str(path))
            return np.asarray(volume, dtype=np.float32)
        import nibabel
    except ImportError as error:
        raise DataError(f"{path.name}: image sets need the extra 'data': pip install 'mri-recon[data]'") from error
    return np.asarray(nibabel.load(path).dataobj, dtype=np.float32)  # type: ignore[attr-defined]


def _read_series(paths: Sequence[Path]) -> npt.NDArray[np.float32]:
    """Read the slices of a DICOM series as `(h, w, slice)`, ordered by position along the slice normal."""
    try:
        import pydicom
    except ImportError as error:
        raise DataError("DICOM image sets need the extra 'data': pip install 'mri-recon[data]'") from error

    found = []
    for path in paths:
        one = pydicom.dcmread(path)
        plane = one.pixel_array.astype(np.float32)
        plane = plane * float(one.get("RescaleSlope") or 1) + float(one.get("RescaleIntercept") or 0)
        found.append((_position(one) if len(paths) > 1 else 0.0, plane))
    return np.stack([plane for _, plane in sorted(found, key=lambda pair: pair[0])], axis=-1)


def _position(image: Any) -> float:
    row, column = np.reshape([float(value) for value in image.ImageOrientationPatient], (2, 3))
    return float(np.dot(np.cross(row, column), [float(value) for value in image.ImagePositionPatient]))


def _planes(volume: npt.NDArray[np.float32], support: _Support, max_size: int) -> Iterator[npt.NDArray[np.float16]]:
    scale = float(np.percentile(volume, 99.5)) or 1.0
    volume = volume / scale
    # An isotropic volume gives three orientations; thick-slice volumes only the plane they were acquired in.
    axes = (0, 1, 2) if support.isotropic else (2,)
    for axis in axes:
        # Files store the first axis fastest: without this copy each plane would stride through the whole volume.
        for plane in np.ascontiguousarray(np.moveaxis(volume, axis, 0)):
            if (plane > 0.1).mean() < 0.1:  # air, or the last cap of the head
                continue
            # Interpolated by one factor along both axes: keep the aspect. Acquired anisotropically: crop each axis.
            shrink = min(1.0, max_size / max(plane.shape)) if support.keep_aspect else 1.0
            height, width = (
                min(max_size, round(side * min(part, shrink)))
                for side, part in zip(plane.shape, support.fractions, strict=True)
            )
            cropped = fourier_crop(torch.from_numpy(plane), (height, width)).abs()
            yield cropped.numpy().astype(np.float16)
