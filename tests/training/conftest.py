"""A folder of small files in fastMRI's layout, and images like those of the registry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mri_recon.transforms.fourier import fft2c
from mri_recon_data.examples.raw_slice import RawSlice
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.scenes.images import ImageSlice
from tests.support.fastmri_files import write_fastmri


@pytest.fixture
def fastmri_folder(tmp_path: Path) -> Path:
    """Wide enough for two central lines at 8x, which coil maps need."""
    folder = tmp_path / "files"
    folder.mkdir()
    for person in range(4):
        shape, recon = (2, 3, 24, 56), (20, 56)
        write_fastmri(folder / f"file{person}.h5", shape=shape, recon=recon, patient=f"person{person}", seed=person)
    return folder


@pytest.fixture
def small_registry(monkeypatch: pytest.MonkeyPatch) -> RegistrySlices:
    """In place of the registry's persons: three images and a raw slice, for training and for validation."""
    y, x = np.mgrid[-1:1:52j, -1:1:44j]
    images = tuple(
        ImageSlice(
            ((y**2 / 0.8 + x**2 / 0.6 < 1) * (0.8 + 0.2 * np.sin(k * x) * np.cos(5 * y))).astype(np.float16), "t"
        )
        for k in (4, 6, 8)
    )
    kspace = fft2c(torch.from_numpy(images[0].magnitude.astype(np.complex64)))[None]
    slices = RegistrySlices((RawSlice(kspace, np.ones(44, dtype=bool)),), images)
    monkeypatch.setattr(RegistrySlices, "read", classmethod(lambda _cls, _split: slices))
    return slices
