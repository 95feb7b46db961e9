"""A scan simulated from a user's images: marked everywhere it goes, and everything stays where it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mri_recon.cli.app import build_app
from mri_recon.errors import DataError, ShapeError
from mri_recon.io import convert, load, save
from mri_recon.io.conversion import KSPACE_SUFFIXES
from mri_recon.io.writers.result import SIMULATED
from mri_recon.masks.draw import random_mask
from mri_recon.reconstruction import reconstruct
from mri_recon.results.recipe import MaskChoice, Recipe, reconstruct_file
from mri_recon.results.summary import summarize
from mri_recon.transforms.fourier import ifft2c
from mri_recon_data.magnitudes.images import MagnitudeImages
from mri_recon_data.simulation import simulated_scan
from mri_recon_data.simulation.simulated_scan import ScanOptions, simulate_scan, write_scan
from tests.support.oblique import oblique
from tests.support.places import brightest_place, place_of

MARK = (1, 4, 17)  # slice, row, column


def _images(folder: Path, shape: tuple[int, int, int] = (3, 21, 26)) -> MagnitudeImages:
    """A block with one bright voxel off every middle."""
    magnitude = np.zeros(shape, dtype=np.float32)
    magnitude[:, 3:-3, 3:-3] = 100
    magnitude[MARK] = 900
    path = folder / "source.nii"
    path.write_bytes(b"the content of the source")
    geometry = replace(oblique(shape[0]), patient_position="FFP")
    return MagnitudeImages(magnitude, geometry, path.name, (path,), ("a note",), "t1_tse")


@pytest.mark.parametrize("num_coils", [1, 3])
@pytest.mark.parametrize("matrix", [None, (13, 20)])
def test_without_noise_the_images_come_back(num_coils: int, matrix: Any, tmp_path: Path) -> None:
    images = _images(tmp_path)
    made = simulate_scan(images, ScanOptions(num_coils, 1e9, matrix=matrix))
    assert made.kspace.shape == (3, num_coils, *(matrix or (21, 26)))
    image = ifft2c(torch.from_numpy(made.kspace)).abs().square().sum(dim=1).sqrt().numpy()
    np.testing.assert_allclose(image, made.image, atol=2e-3)
    if matrix is None:
        np.testing.assert_array_equal(made.image, images.magnitude)
        assert made.geometry == images.geometry
    else:
        assert made.geometry is not None
        assert made.geometry.voxel_size == pytest.approx((1.5 * 21 / 13, 2.0 * 26 / 20, 5.0))


def test_noise_and_phase_are_as_asked(tmp_path: Path) -> None:
    images = _images(tmp_path)
    made = simulate_scan(images, ScanOptions(1, 20, phase_strength=0.0))
    clean = simulate_scan(images, ScanOptions(1, 1e9, phase_strength=0.0))
    noise = (made.kspace - clean.kspace).ravel().view(np.float32)
    expected = float(np.percentile(images.magnitude, 99.5)) / 20
    assert noise.std() == pytest.approx(expected, rel=0.05)
    phases = np.angle(ifft2c(torch.from_numpy(simulate_scan(images, ScanOptions(1, 1e9)).kspace)).numpy()[0, 0, 3:-3])
    assert phases[:, 3:-3].std() > 0.2
    again, other = (simulate_scan(images, ScanOptions(2, seed=seed)).kspace for seed in (0, 1))
    np.testing.assert_array_equal(simulate_scan(images, ScanOptions(2)).kspace, again)
    assert not np.allclose(again, other)


@pytest.mark.parametrize("matrix", [None, (14, 19)])
@pytest.mark.parametrize("suffix", [".h5", ".dcm", ".dcm.zip", ".nii", ".nii.gz", ".mrd"])
def test_the_mark_stays_where_it_was_through_every_output(matrix: Any, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="the extra 'clinical' is not installed")
    pytest.importorskip("ismrmrd", reason="the package ismrmrd is not installed")
    images = _images(tmp_path)
    write_scan(tmp_path / "scan.h5", images, ScanOptions(4, 500, matrix=matrix))
    scan = load(tmp_path / "scan.h5")
    assert scan.geometry is not None
    assert scan.geometry.patient_position == "FFP"
    result = reconstruct(scan.kspace, random_mask(scan.width, 1, seed=0), method="zero-filled")
    save(tmp_path / f"out{suffix}", result, scan)
    assert images.geometry is not None
    expected = place_of(images.geometry, (21, 26), *MARK)
    # With fewer samples the voxels are larger, and the brightest one is the nearest.
    far = np.abs(brightest_place(tmp_path / f"out{suffix}") - expected).max()
    assert far < (1e-3 if matrix is None else 1.3)


def test_simulated_is_said_everywhere(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the extra 'clinical' is not installed")
    nibabel = pytest.importorskip("nibabel", reason="the extra 'clinical' is not installed")
    write_scan(tmp_path / "scan.h5", _images(tmp_path), ScanOptions(2))
    scan = load(tmp_path / "scan.h5")
    assert scan.meta["simulated"] is True
    assert "made from the magnitude images source.nii" in scan.meta["notice"]
    assert SIMULATED in scan.warnings
    assert ("warning", SIMULATED) in summarize(scan)
    with h5py.File(tmp_path / "scan.h5") as file:
        about = json.loads(file.attrs["provenance"])
        assert "patient_id" not in file.attrs
    assert (about["source"], about["seed"], about["notes"]) == ("source.nii", 0, ["a note"])
    assert len(about["files"][0]["sha256"]) == 64
    recipe = Recipe("zero-filled", {}, MaskChoice(acceleration=2.0, seed=0))
    for suffix in (".h5", ".dcm", ".nii", ".mrd", ".png", ".cfl", ".npz"):
        run = reconstruct_file(tmp_path / "scan.h5", recipe, tmp_path / f"out{suffix}")
        assert SIMULATED in run.reconstruction.warnings
        assert run.provenance is not None
        assert run.provenance.simulated
    data = pydicom.dcmread(tmp_path / "out.dcm")
    for text in (data.SeriesDescription, data.ImageComments, data.DerivationDescription):
        assert "SIMULATED" in text
    assert b"SIMULATED" in nibabel.load(tmp_path / "out.nii").header["descrip"].tobytes()
    assert SIMULATED in json.loads((tmp_path / "out.json").read_bytes())["Notice"]
    with h5py.File(tmp_path / "out.mrd") as file:
        assert b"SIMULATED" in file["dataset/images_0/attributes"][0]
    with h5py.File(tmp_path / "out.h5") as file:
        assert SIMULATED in file.attrs["notice"]
    assert SIMULATED.encode() in (tmp_path / "out.png").read_bytes()
    assert SIMULATED.encode() in (tmp_path / "out.hdr").read_bytes()
    assert json.loads(bytes(np.load(tmp_path / "out.npz")["metadata"]))["simulated"] is True
    convert(tmp_path / "out.h5", tmp_path / "again.dcm")
    assert "SIMULATED" in pydicom.dcmread(tmp_path / "again.dcm").SeriesDescription


@pytest.mark.parametrize("suffix", KSPACE_SUFFIXES)
def test_converted_kspace_stays_marked_or_says_that_it_does_not(suffix: str, tmp_path: Path) -> None:
    write_scan(tmp_path / "scan.h5", _images(tmp_path), ScanOptions(2))
    told = convert(tmp_path / "scan.h5", tmp_path / f"out{suffix}")
    back = load(tmp_path / f"out{suffix}")
    assert ("that it is SIMULATED" in told) != bool(back.meta.get("simulated"))
    assert bool(back.meta.get("simulated")) == (suffix in (".h5", ".hdf5", ".mrd"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_coils": 0}, "expected 1 to 128 coils, got 0"),
        ({"snr": 0.0}, "expected an SNR from 0.1 to 1e9, got 0"),
        ({"snr": float("nan")}, "expected an SNR"),
        ({"phase_strength": -1.0}, "expected a phase of 0 to 10 radians, got -1"),
        ({"seed": -1}, "expected a seed of at least 0"),
        ({"matrix": (22, 26)}, "expected a matrix of at most 21x26 .*, got 22x26"),
        ({"matrix": (0, 5)}, "got 0x5"),
    ],
)
def test_what_cannot_be_simulated(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=told):
        simulate_scan(_images(tmp_path), ScanOptions(**options))


def test_too_much_memory_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="3 slices of 8 coils take 104832: choose fewer"):
        simulate_scan(_images(tmp_path), max_bytes=100_000)


def test_sets_that_may_not_be_pictured_stay_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registered file is known by its content, whatever its name."""
    images = _images(tmp_path)
    real = simulated_scan.load_registry
    file = replace(
        next(one for one in real().files(kind="image") if one.no_pictures),
        sha256=simulated_scan.file_sha256(images.files[0]),
    )

    class One:
        def files(self, **_: Any) -> list[Any]:
            return [file]

    monkeypatch.setattr(simulated_scan, "load_registry", One)
    write_scan(tmp_path / "scan.h5", images, ScanOptions(2))
    scan = load(tmp_path / "scan.h5")
    result = reconstruct(scan.kspace, random_mask(26, 1, seed=0), method="zero-filled")
    with pytest.raises(DataError, match="may be pictured"):
        save(tmp_path / "out.png", result, scan)
    assert "no picture of it" in convert(tmp_path / "scan.h5", tmp_path / "a.npy")
    convert(tmp_path / "scan.h5", tmp_path / "a.mrd")
    assert load(tmp_path / "a.mrd").meta["no_pictures"] is True


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nibabel", reason="the extra 'clinical' is not installed")
    import nibabel
    from typer.testing import CliRunner

    volume = np.moveaxis(_images(tmp_path).magnitude, 0, -1)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([1.0, 2, 3, 1])), tmp_path / "t1.nii.gz")
    source, out = str(tmp_path / "t1.nii.gz"), str(tmp_path / "out.h5")

    def run(*more: str) -> Any:
        return CliRunner().invoke(build_app(), ["data", "simulate", source, *more])

    done = run(out, "--slices", "1:3", "--num-coils", "2", "--matrix", "16x20", "--snr", "30")
    assert (done.exit_code, "SIMULATED from" in done.output) == (0, True)
    assert load(out).samples.shape == (2, 2, 16, 20)
    for more, told in (
        ([out, "--matrix", "16"], "--matrix: expected ROWSxCOLUMNS"),
        ([out, "--slices", "2:2"], "--slices: expected slices from 0 to 2"),
        ([out, "--slices", "5"], "--slices: expected slices from 0 to 2"),
        ([str(tmp_path / "out.mrd")], "OUT: expected a name that ends in .h5 or .hdf5"),
        ([source], "OUT"),
    ):
        failed = run(*more)
        assert failed.exit_code != 0
        assert told in f"{failed.exception}{failed.output}"
