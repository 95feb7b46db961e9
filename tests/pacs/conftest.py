"""Results to send: a scan with an oblique place, or none, in every form that `send` takes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mri_recon.io import Geometry, load, save, save_scan
from mri_recon.masks.draw import random_mask
from mri_recon.reconstruction import Reconstruction, reconstruct
from mri_recon.transforms.fourier import fft2c
from tests.support.oblique import oblique

THREE = oblique(3)

pytest.importorskip("pydicom", reason="the extra 'pacs' is not installed")
pytest.importorskip("pynetdicom", reason="the extra 'pacs' is not installed")
pytest.importorskip("dicomweb_client", reason="the extra 'pacs' is not installed")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MRI_RECON_PACS_{name}", raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


def write_result(
    folder: Path, name: str, *, geometry: Geometry | None = THREE, num_slices: int = 3, trust: bool = False
) -> Path:
    """Save a reconstruction in a form; a name that ends with / is a folder of the series."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(num_slices, 1, 13, 10, dtype=torch.complex64, generator=generator)
    folder.mkdir(parents=True, exist_ok=True)
    scan_path = folder / "scan.h5"
    save_scan(scan_path, fft2c(image), recon_size=(9, 8), geometry=geometry, acquisition="AXT1", patient_id="p-1")
    scan = load(scan_path)
    mask = random_mask(scan.width, 1, seed=0, support=scan.support)
    result = reconstruct(scan.kspace, mask, method="zero-filled")
    if trust:
        bound = torch.rand(result.magnitude.shape, generator=generator)
        result = Reconstruction(result.image, result.method, result.info, bound)
    if not name.endswith("/"):
        save(folder / name, result, scan, mask)
        return folder / name
    save(folder / "series.dcm.zip", result, scan, mask)
    with zipfile.ZipFile(folder / "series.dcm.zip") as archive:
        archive.extractall(folder / name)
    return folder / name


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """`written("a.dcm.zip", geometry=..., num_slices=3, trust=False)`."""

    def write(name: str, **about: Any) -> Path:
        return write_result(tmp_path, name, **about)

    return write
