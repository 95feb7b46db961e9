"""What is written: readable by anyone with h5py, whole or not there, and back through the front door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mri_recon.errors import FormatError, OutputError, ShapeError
from mri_recon.io import NOTICE, load, load_image, save, save_scan
from mri_recon.io.formats.ismrmrd import parse_header
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask, PatternMask
from mri_recon.reconstruction import Reconstruction


@pytest.fixture
def image(noise: Any) -> torch.Tensor:
    return torch.from_numpy(noise(3, 7, 5))


def test_a_reconstruction(image: torch.Tensor, noise: Any, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.h5", noise(3, 2, 7, 5), acquisition="AXT1", patient_id="p1", recon_size=(5, 5))
    scan = load(tmp_path / "scan.h5")
    mask = random_mask(5, 2, num_low_frequencies=1, seed=3)
    info = {
        "iterations": 7,
        "objective": np.array([2.0, 1.0]),
        "gap": torch.tensor(0.5),
        "bad": float("nan"),
        "x": Path("y"),
    }
    save(tmp_path / "out.h5", Reconstruction(image, "cs-wavelet", info), scan, mask)
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["reconstruction"].dtype == np.float32
        np.testing.assert_array_equal(file["reconstruction"], image.abs().numpy())
        np.testing.assert_array_equal(file["reconstruction_complex"], image.numpy())
        assert file.attrs["method"] == "cs-wavelet"
        assert json.loads(file.attrs["info"]) == {
            "iterations": 7,
            "objective": [2.0, 1.0],
            "gap": 0.5,
            "bad": None,
            "x": "y",
        }
        assert json.loads(file.attrs["mask"]) == mask.receipt()
        assert file.attrs["notice"] == NOTICE
        assert file.attrs["software"].startswith("mri-recon")
        assert file.attrs["recon_size"].tolist() == [5, 5]
        assert (file.attrs["source_file"], file.attrs["acquisition"], file.attrs["patient_id"]) == (
            "scan.h5",
            "AXT1",
            "p1",
        )
    np.testing.assert_array_equal(load_image(tmp_path / "out.h5"), image.abs().numpy())
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["out.h5", "scan.h5"]
    with pytest.raises(FormatError, match="expected k-space in out.h5, got a reconstruction"):
        load(tmp_path / "out.h5")
    with pytest.raises(FormatError, match="expected a dataset 'reconstruction' in scan.h5, found none"):
        load_image(tmp_path / "scan.h5")


def test_magnitudes_have_no_phase_to_write(image: torch.Tensor, tmp_path: Path) -> None:
    save(tmp_path / "out.h5", Reconstruction(image.abs(), "zero-filled"))
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == ["reconstruction"]
        assert "mask" not in file.attrs


def test_a_long_history_fits(image: torch.Tensor, tmp_path: Path) -> None:
    """HDF5 keeps at most 64 KiB of an attribute in an object's header; texts lie elsewhere."""
    save(tmp_path / "out.h5", Reconstruction(image, "cs-wavelet", {"objective": list(range(50_000))}))
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(json.loads(file.attrs["info"])["objective"]) == 50_000


@pytest.mark.parametrize("coils", [None, 1, 3])
def test_a_scan_there_and_back(noise: Any, tmp_path: Path, coils: int | None) -> None:
    kspace = noise(2, 9, 12) if coils is None else noise(2, coils, 9, 12)
    kspace[..., :1] = 0
    kspace[..., 10:] = 0
    target = np.abs(noise(2, 6, 8, seed=1))
    save_scan(
        tmp_path / "a.h5",
        torch.from_numpy(kspace),
        target=target,
        recon_size=(6, 8),
        padding=(1, 10),
        attributes={"simulated": True},
    )
    scan = load(tmp_path / "a.h5")
    np.testing.assert_array_equal(scan.kspace, kspace.reshape(2, coils or 1, 9, 12))
    np.testing.assert_array_equal(scan.target, target)
    assert scan.target_source == f"file: reconstruction_{'rss' if coils == 3 else 'esc'}"
    assert scan.recon_size == (6, 8)
    assert np.flatnonzero(scan.support).tolist() == list(range(1, 10))
    assert scan.meta["padding"] == [1, 10]
    assert scan.meta["simulated"] is True
    assert scan.meta["max"] == pytest.approx(target.max())
    assert scan.meta["norm"] == pytest.approx(np.linalg.norm(target), rel=1e-5)


@pytest.mark.parametrize("lines", [np.arange(12) % 3 == 0, np.random.default_rng(0).random((9, 12)) < 0.4])
def test_the_mask_there_and_back(noise: Any, tmp_path: Path, lines: Any) -> None:
    mask = ColumnMask(lines) if lines.ndim == 1 else PatternMask(lines)
    save_scan(tmp_path / "a.h5", noise(1, 2, 9, 12) * lines, mask=mask)
    found = load(tmp_path / "a.h5").mask
    np.testing.assert_array_equal(found.lines if isinstance(found, ColumnMask) else found.pattern, lines)


@pytest.mark.parametrize(("phase", "padding"), [(12, (0, 12)), (13, (1, 12)), (368, (18, 350))])
def test_the_header_that_is_written(noise: Any, tmp_path: Path, phase: int, padding: tuple[int, int]) -> None:
    save_scan(tmp_path / "a.h5", noise(1, 4, phase), padding=padding, recon_size=(3, 5))
    with h5py.File(tmp_path / "a.h5") as file:
        header = parse_header(file["ismrmrd_header"][()].decode(), where="test")
    assert header.padding == padding
    assert header.encoded_size == (4, phase)
    assert header.recon_size == (3, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kspace": np.ones((2, 9, 12))}, "expected complex k-space .* got float64"),
        ({"kspace": np.ones((9, 12), complex)}, r"expected complex k-space .* got complex128 \(9, 12\)"),
        ({"padding": (3, 13)}, "expected padding inside the 12 columns"),
        ({"target": np.ones((3, 9, 12))}, r"expected a real target \(2, h, w\)"),
        ({"target": np.ones((2, 9, 12), complex)}, "expected a real target"),
    ],
)
def test_arrays_that_do_not_fit(noise: Any, tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    given = {"kspace": noise(2, 9, 12), **arguments}
    with pytest.raises(ShapeError, match=message):
        save_scan(tmp_path / "a.h5", given.pop("kspace"), **given)
    assert not list(tmp_path.iterdir())


def test_an_image_of_another_rank(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"expected an image \(slice, h, w\) to save, got shape \(4, 4\)"):
        save(tmp_path / "a.h5", Reconstruction(torch.ones(4, 4), "unet"))


def test_a_failure_leaves_the_old_file(
    image: torch.Tensor, noise: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    save(path, Reconstruction(image, "unet"))
    before = path.read_bytes()

    def fail(self: h5py.Group, *args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", fail)
    with pytest.raises(OutputError, match="cannot write .*a.h5 .No space left on device"):
        save(path, Reconstruction(2 * image, "unet"))
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["a.h5"]


def test_folders_that_cannot_be_written_to(image: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write .*: choose a folder that exists"):
        save(tmp_path / "no" / "a.h5", Reconstruction(image, "unet"))
    with pytest.raises(OutputError, match="cannot write .*Is a directory"):
        save(tmp_path, Reconstruction(image, "unet"))
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}*"))


def test_a_result_is_readable_by_others(image: torch.Tensor, tmp_path: Path) -> None:
    save(tmp_path / "a.h5", Reconstruction(image, "unet"))
    assert (tmp_path / "a.h5").stat().st_mode & 0o777 == 0o644


def test_images_that_are_no_images(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["reconstruction"] = np.ones((4, 4))
    with pytest.raises(
        FormatError, match=r"expected real images \(slice, h, w\) in a.h5, got float64 of shape \(4, 4\)"
    ):
        load_image(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["reconstruction"] = h5py.ExternalLink("b.h5", "/x")
    with pytest.raises(FormatError, match="links are not followed"):
        load_image(tmp_path / "a.h5")
