"""Reconstructions as files of images, by `Accept`: at once and from a job, read by the libraries of others."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
import scipy.io
import torch

import mri_recon as mr
from mri_recon.io import save_scan
from mri_recon.io.save import encode_result
from mri_recon.transforms.fourier import fft2c
from mri_recon_service.answers import image_files
from mri_recon_service.answers.image_files import IMAGE_FILES, installed_image_files
from tests.service.test_jobs import until_status
from tests.support.helpers import complex_randn
from tests.support.oblique import oblique
from tests.support.places import brightest_place, place_of

Post = Callable[..., httpx.Response]
Check = Callable[..., dict[str, Any]]

MEDIA = tuple(IMAGE_FILES)
MARK = (1, 5, 20)
PLANE = (15, 26)
FIELDS = {"method": "zero-filled", "acceleration": 1}


@pytest.fixture
def scan(tmp_path: Path) -> bytes:
    """Three oblique slices with one bright voxel, as a file."""
    image = 0.1 * complex_randn(3, 2, *PLANE, dtype=torch.complex64)
    image[MARK[0], :, MARK[1], MARK[2]] = 5 - 2j
    save_scan(tmp_path / "scan.h5", fft2c(image), geometry=oblique(3), acquisition="AXT1")
    return (tmp_path / "scan.h5").read_bytes()


def _needs(media: str) -> None:
    for library in ("pydicom", "nibabel", "ismrmrd"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    assert media in installed_image_files()


def _assert_place(media: str, content: bytes, folder: Path) -> None:
    """The bright voxel is at its place, by a library that this package does not write with."""
    path = folder / f"answer{IMAGE_FILES[media].suffix}"
    path.write_bytes(content)
    if media == "application/x-matlab-data":
        found = scipy.io.loadmat(path)
        assert found["reconstruction"].shape == (*PLANE, 3)
        assert np.unravel_index(np.abs(found["reconstruction"]).argmax(), (*PLANE, 3)) == (*MARK[1:], MARK[0])
        assert "provenance" in json.loads(str(found["metadata"][0]))
        return
    np.testing.assert_allclose(brightest_place(path), place_of(oblique(3), PLANE, *MARK), atol=1e-3)


@pytest.mark.parametrize("media", MEDIA)
def test_an_answer_at_once(media: str, client: httpx.Client, post: Post, scan: bytes, tmp_path: Path) -> None:
    _needs(media)
    answer = post(client, scan, name="scan.h5", accept=media, **FIELDS)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == media
    suffix = IMAGE_FILES[media].suffix
    assert f'filename="reconstruction{suffix}"' in answer.headers["content-disposition"]
    assert json.loads(answer.headers["x-mask-receipt"])["width"] == PLANE[1]
    assert json.loads(answer.headers["x-provenance"])["method"] == "zero-filled"
    assert ".h5" in answer.headers["x-left-out"]
    _assert_place(media, answer.content, tmp_path)


def test_a_job_in_every_format(client: httpx.Client, scan: bytes, tmp_path: Path) -> None:
    """One job, whatever its request asked for; the images equal those of the library."""
    _needs(MEDIA[0])
    answer = client.post(
        "/v1/reconstructions",
        files={"file": ("scan.h5", scan)},
        data={
            "method": "cs-wavelet",
            "max_iters": "5",
            "check": "holdout",
            "acceleration": "2",
            "num_low_frequencies": "6",
        },
        headers={"Prefer": "respond-async"},
    )
    assert answer.status_code == 202, answer.text
    here = answer.headers["location"]
    until_status(client, here, "succeeded")
    found = {media: client.get(f"{here}/result", headers={"Accept": media}) for media in MEDIA}
    for media, one in found.items():
        assert (one.status_code, one.headers["content-type"]) == (200, media), one.text
        assert one.headers["x-provenance"]
    with h5py.File(io.BytesIO(client.get(f"{here}/result").content)) as file:
        magnitude, trust = file["reconstruction"][()], file["trust_map"][()]
    import nibabel
    import pydicom

    (tmp_path / "a.nii").write_bytes(gzip.decompress(found["application/x-nifti"].content))
    volume: Any = nibabel.load(tmp_path / "a.nii")
    np.testing.assert_array_equal(np.moveaxis(np.asarray(volume.dataobj), -1, 0), magnitude)
    with zipfile.ZipFile(io.BytesIO(found["application/zip"].content)) as archive:
        files = {name: pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()}
    assert len(files) == 6  # the map of trust is a second series
    for folder, expected in (("DICOM", magnitude), ("TRUST", trust)):
        one = files[f"{folder}/IM000002"]
        np.testing.assert_allclose(one.pixel_array * float(one.RescaleSlope), expected[1], atol=float(one.RescaleSlope))
    with h5py.File(io.BytesIO(found["application/x-mrd"].content)) as file:
        assert set(file["dataset"]) == {"xml", "images_0", "images_1"}
    whole = pydicom.dcmread(io.BytesIO(found["application/dicom"].content))
    assert whole.NumberOfFrames == 3
    assert "R = 2 requested" in whole.DerivationDescription


def test_what_a_format_cannot_hold_is_refused_before_the_work(
    client: httpx.Client, post: Post, problem: Check, tmp_path: Path
) -> None:
    """Repeated slices have no affine; DICOM holds them, and a job's result too."""
    _needs(MEDIA[0])
    geometry = oblique(3).of_slices([0, 0, 1])
    save_scan(tmp_path / "scan.h5", np.ones((3, 1, 9, 12), np.complex64), geometry=geometry)
    content = (tmp_path / "scan.h5").read_bytes()
    told = problem(post(client, content, name="scan.h5", accept="application/x-nifti", **FIELDS), 406, "not-acceptable")
    assert "expected parallel slices at equal distances for NIfTI" in told["detail"]
    assert "application/x-nifti" not in told["valid"]
    assert "application/dicom" in told["valid"]
    answer = client.post(
        "/v1/reconstructions",
        files={"file": ("scan.h5", content)},
        data={key: str(value) for key, value in FIELDS.items()},
        headers={"Prefer": "respond-async"},
    )
    here = answer.headers["location"]
    until_status(client, here, "succeeded")
    for accept, status in (("application/x-nifti", 406), ("application/zip", 200)):
        assert client.get(f"{here}/result", headers={"Accept": accept}).status_code == status


def test_unverified_sides_are_told_in_a_header(client: httpx.Client, post: Post, tmp_path: Path) -> None:
    _needs(MEDIA[0])
    geometry = replace(oblique(2), sides_assumed=True)
    save_scan(tmp_path / "scan.h5", np.ones((2, 1, 9, 12), np.complex64), geometry=geometry)
    for media in ("application/dicom", "application/zip", "application/x-nifti", "application/x-mrd"):
        answer = post(client, (tmp_path / "scan.h5").read_bytes(), name="scan.h5", accept=media, **FIELDS)
        assert "Left and right, front and back are not verified" in answer.headers["x-left-out"]


def test_formats_without_their_library_are_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "find_spec", lambda name: None)
    assert installed_image_files() == ("application/x-mrd", "application/x-matlab-data")


def test_the_openapi_document_names_the_formats(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path, verb in (("/v1/reconstructions", "post"), ("/v1/jobs/{job_id}/result", "get")):
        content = paths[path][verb]["responses"]["200"]["content"]
        assert set(installed_image_files()) <= set(content)
    assert "a NIfTI volume" in paths["/v1/reconstructions"]["post"]["responses"]["200"]["description"]


@pytest.mark.parametrize("media", MEDIA)
def test_a_file_takes_a_bounded_number_of_images_in_memory(media: str) -> None:
    """At most six complex images beside the result, whatever the format."""
    _needs(media)
    image = torch.randn(4, 256, 256, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    result = mr.Reconstruction(image, "zero-filled", {})
    kspace = np.ones((4, 1, 256, 256), np.complex64)
    suffix = IMAGE_FILES[media].suffix
    encode_result(suffix, result)  # imports
    tracemalloc.start()
    try:
        encode_result(suffix, result)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * kspace.nbytes, f"{peak / kspace.nbytes:.1f} complex images"
