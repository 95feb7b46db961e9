"""What the client sends and returns is what the library computes, and what the service serves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest

import mri_recon as mr
from mri_recon.errors import ConfigError, FormatError, OutputError, ShapeError
from mri_recon.progress import Progress
from mri_recon_service.answers.image_files import IMAGE_FILES
from mri_recon_service.answers.rendering import OFFERS
from mri_recon_service.client import DrawnMask, ScanBytes, ServiceError, formats
from mri_recon_service.uploads.upload import SUFFIXES
from tests.support.patience import PATIENCE
from tests.support.service import until

Kspace = Callable[..., Any]
SIZES = [(1, 1, 25, 36), (2, 3, 33, 21)]
MATLAB_TEXT = 116  # bytes at the head of a MATLAB file, with the second in which it was made


@pytest.fixture
def file(tmp_path: Path, kspace: Kspace, fastmri_file: Callable[..., Path]) -> Path:
    return fastmri_file(tmp_path / "scan.h5", kspace(2, 2, 25, 36))


def _magnitudes(path: Path) -> Any:
    with h5py.File(path) as file:
        return file["reconstruction"][()]


def _expected(array: Any, mask: Any, method: str = "cg-sense") -> mr.Reconstruction:
    return mr.reconstruct(mr.undersample(array, mask), mask, method=method)


@pytest.mark.parametrize("size", SIZES)
def test_an_array_is_reconstructed_as_by_the_library(service: Any, kspace: Kspace, size: tuple[int, ...]) -> None:
    array, seen = kspace(*size), []
    result = service.reconstruct(array, method="cg-sense", acceleration=3, seed=5, on_progress=seen.append)
    mask = mr.random_mask(size[-1], 3, seed=5)
    expected = _expected(array, mask)
    np.testing.assert_array_equal(result.image, expected.image.numpy())
    np.testing.assert_array_equal(result.mask, mask.lines)
    assert result.mask.dtype == bool
    assert (result.method, result.trust_map) == ("cg-sense", None)
    assert result.info["iterations"] == expected.info["iterations"]
    assert result.warnings == result.info["warnings"]
    assert result.receipt["lines"] == np.flatnonzero(mask.lines).tolist()
    assert result.provenance["method"] == "cg-sense"
    assert result.recon_size == size[2:]
    assert "cg-sense" in repr(result)
    assert all(isinstance(one, Progress) for one in seen)
    assert seen[-1].method == "cg-sense"


def test_a_single_coil_with_its_axes(service: Any, kspace: Kspace) -> None:
    array = kspace(1, 1, 25, 36)
    result = service.reconstruct(array[0, 0], method="zero-filled", acceleration=3, axes="readout phase")
    expected = _expected(array, mr.random_mask(36, 3, seed=0), "zero-filled")
    np.testing.assert_array_equal(result.image, expected.image.numpy())


def test_masks_of_every_kind(
    service: Any, kspace: Kspace, tmp_path: Path, fastmri_file: Callable[..., Path], npy: Callable[[Any], bytes]
) -> None:
    array = kspace(1, 2, 25, 36)
    drawn = service.mask(width=36, acceleration=4, seed=3, mask_kind="equispaced")
    assert drawn.lines.sum() == drawn.receipt["num_lines"]
    lines = mr.equispaced_mask(36, 4, seed=3).lines
    np.testing.assert_array_equal(drawn.lines, lines)
    (tmp_path / "mask.npy").write_bytes(npy(lines))
    under = fastmri_file(tmp_path / "under.h5", mr.undersample(array, lines).numpy(), lines)
    expected = _expected(array, mr.equispaced_mask(36, 4, seed=3), "zero-filled").image.numpy()
    for scan, mask in (
        (array, drawn),
        (array, lines),
        (array, lines.astype(np.float32)),
        (array, tmp_path / "mask.npy"),
        (array, str(tmp_path / "mask.npy")),
        (under, "file"),
        (under, None),
        (mr.undersample(array, lines).numpy(), "from-zeros"),
    ):
        result = service.reconstruct(scan, method="zero-filled", mask=mask)
        np.testing.assert_array_equal(result.mask, lines)
        np.testing.assert_array_equal(result.image, expected)


def test_every_format_is_the_services(service: Any, client: httpx.Client, file: Path, tmp_path: Path) -> None:
    result = service.reconstruct(file, method="cg-sense", acceleration=3)
    for suffix, media in formats.SUFFIXES["reconstruction"].items():
        if media not in OFFERS["reconstruction"]:
            continue
        path = tmp_path / f"out{suffix}"
        path.write_bytes(b"former")
        left_out = result.save(path)
        answer = client.get(f"/v1/jobs/{result.job.id}/result", headers={"Accept": media})
        assert left_out == answer.headers.get("x-left-out", "")
        head = MATLAB_TEXT if suffix == ".mat" else 0
        # Identifiers too: a PACS takes both for one image.
        assert path.read_bytes()[head:] == answer.content[head:], suffix
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), result.image)
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]


def test_the_table_of_formats_is_complete() -> None:
    """The client does not import the service: a test compares their tables."""
    offered = {*OFFERS["reconstruction"], *IMAGE_FILES}
    assert set(formats.SUFFIXES["reconstruction"].values()) == offered
    assert set(formats.SUFFIXES["comparison"].values()) == set(OFFERS["comparison"])
    assert set(formats.SUFFIXES["method"].values()) == offered - {"application/x-npy", "application/x-npz", "image/png"}
    for media, one in IMAGE_FILES.items():
        assert formats.SUFFIXES["reconstruction"][one.suffix] == media
    assert formats.media_type("A.NII.GZ", "reconstruction") == "application/x-nifti"
    assert formats.media_type("a.dcm.zip", "reconstruction") == "application/zip"


def test_a_comparison(service: Any, file: Path, kspace: Kspace, tmp_path: Path) -> None:
    found = service.compare(
        file, methods=["zero-filled", "cg-sense"], acceleration=3, options={"cg-sense": {"max_iters": 2}}
    )
    mask = mr.random_mask(36, 3, seed=0)
    expected = mr.compare(mr.load(file), mask, ["zero-filled", "cg-sense"], options={"cg-sense": {"max_iters": 2}})
    for name in ("zero-filled", "cg-sense"):
        np.testing.assert_array_equal(found.images[name], expected.magnitude(name).numpy())
    np.testing.assert_array_equal(found.reference, expected.target)
    assert [row["method"] for row in found.results] == ["zero-filled", "cg-sense"]
    assert found.results[1]["psnr"] == pytest.approx(expected.rows[1]["psnr"])
    assert found.results[1]["info"]["iterations"] == 2
    assert set(found.warnings) == set(found.provenance) == set(found.images)
    assert found.kspace.shape == (2, 25, 36)
    assert "dB" in repr(found)
    assert found.save(tmp_path / "c.json") == ""
    assert json.loads((tmp_path / "c.json").read_text())["results"][1]["psnr"] == found.results[1]["psnr"]
    assert found.save(tmp_path / "cg.h5", method="cg-sense") == ""
    np.testing.assert_allclose(_magnitudes(tmp_path / "cg.h5"), found.images["cg-sense"])
    phase = np.angle(expected.reconstructions["cg-sense"].image.numpy())
    assert np.abs(np.angle(np.exp(1j * (found.phases["cg-sense"] - phase)))).max() <= np.pi / 256 + 1e-6
    assert set(found.phases) == {"cg-sense"}
    with pytest.raises(OutputError, match=r"one of \.json, \.npz, got .*\.h5"):
        found.save(tmp_path / "c.h5")
    with pytest.raises(OutputError, match=r"one of \.h5, .*, got .*\.npz"):
        found.save(tmp_path / "c.npz", method="cg-sense")
    with pytest.raises(ServiceError) as caught:
        found.save(tmp_path / "unet.h5", method="unet")
    assert caught.value.code == "part-not-found"


def test_a_comparison_without_a_reference(
    service: Any, kspace: Kspace, tmp_path: Path, fastmri_file: Callable[..., Path]
) -> None:
    lines = mr.random_mask(36, 3, seed=0).lines
    under = fastmri_file(tmp_path / "u.h5", mr.undersample(kspace(1, 1, 25, 36), lines).numpy(), lines)
    found = service.compare(under, methods="zero-filled")
    assert found.reference is None
    assert found.results[0]["psnr"] is None
    assert repr(found).endswith("ComparisonResult(zero-filled)")


def test_what_is_answered_at_once(service: Any, file: Path, tmp_path: Path) -> None:
    assert service.ready(timeout=PATIENCE)
    assert [one["name"] for one in service.methods()] == mr.method_names()
    assert {one["name"] for one in service.models()} >= {"unet", "unrolled"}
    sample = service.sample()
    sample.save(tmp_path / "sample.h5")
    assert mr.load(tmp_path / "sample.h5").width == 127
    dry = service.validate(file, method="cg-sense", acceleration=3, max_iters=2)
    assert (dry["accepted"], dry["scan"]["coils"], dry["methods"][0]["method"]) == (True, 2, "cg-sense")
    refused = service.validate(file, methods=["zero-filled"])
    assert refused["problem"]["code"] == "missing-mask"


def test_a_scan_in_memory(service: Any, file: Path) -> None:
    one = service.reconstruct(ScanBytes(file.read_bytes(), "any.h5"), method="zero-filled", acceleration=3)
    two = service.reconstruct(str(file), method="zero-filled", acceleration=3)
    np.testing.assert_array_equal(one.image, two.image)
    assert one.job.id != two.job.id


def test_values_of_fields(service: Any, file: Path) -> None:
    dry = service.validate(file, method="cg-sense", acceleration=np.float32(3), seed=np.int64(2), max_iters=None)
    assert dry["mask"]["seed"] == 2
    with pytest.raises(ConfigError, match="acceleration: expected a text, a number, True or False, got list"):
        service.validate(file, method="cg-sense", acceleration=[3])
    with pytest.raises(ConfigError, match="expected the options of 'cg-sense' by name, got int"):
        service.compare(file, options={"cg-sense": 3})


def test_refusals_are_errors_with_their_members(service: Any, file: Path) -> None:
    with pytest.raises(ServiceError) as caught:
        service.reconstruct(file, method="cg-sense", acceleration=3, iterations=2)
    error = caught.value
    assert (error.code, error.status) == ("unknown-option", 422)
    assert "max_iters" in error.members["valid"]
    assert error.request_id is not None
    assert error.request_id in str(error)
    assert "iterations" in error.detail
    with pytest.raises(ServiceError, match="expected one of the methods zero-filled"):
        service.submit(file, method="compressed", acceleration=3)


@pytest.mark.parametrize(
    ("scan", "error", "message"),
    [
        ("nothing.h5", FormatError, "found nothing at"),
        (".", FormatError, "is a folder: name a file in it"),
        (np.zeros((3, 3), int), ShapeError, "expected k-space of real or complex numbers .* got int64"),
        (np.zeros(3, complex), ShapeError, r"two axes or more, got complex128 \(3,\)"),
        ([[1.0]], ConfigError, "expected a scan as a path, an array or ScanBytes, got list"),
    ],
)
def test_scans_that_are_none(
    service: Any, scan: Any, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        service.reconstruct(scan, method="zero-filled", acceleration=3)
    (tmp_path / "empty.h5").touch()
    with pytest.raises(FormatError, match="empty.h5 is empty"):
        service.reconstruct("empty.h5", method="zero-filled", acceleration=3)


def test_masks_that_are_none(service: Any, kspace: Kspace) -> None:
    for mask in (np.zeros((1, 2, 3), bool), np.array(["a"])):
        with pytest.raises(ShapeError, match="expected a mask of booleans or numbers"):
            service.reconstruct(kspace(1, 1, 25, 36), method="zero-filled", mask=mask)
    drawn = DrawnMask(np.ones(35, bool), {})
    with pytest.raises(ServiceError, match="35"):
        service.reconstruct(kspace(1, 1, 25, 36), method="zero-filled", mask=drawn)


def test_names_of_files_stay_here(service: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may tell of a patient: only its suffix is sent."""
    from mri_recon_service.client import scans

    named = file.rename(file.with_name("Doe^Jane.h5"))
    sent = []
    real = scans.open_parts

    def look(*args: Any) -> Any:
        sent.append(real(*args))
        return sent[-1]

    monkeypatch.setattr(scans, "open_parts", look)
    service.validate(named, method="zero-filled", acceleration=3)
    assert sent[0].files["file"].name == "scan.h5"


def test_files_that_cannot_be_written(service: Any, file: Path, tmp_path: Path) -> None:
    result = service.reconstruct(file, method="zero-filled", acceleration=3)
    before = file.read_bytes()
    (tmp_path / "link.h5").symlink_to(file)
    for path in (file, tmp_path / "link.h5"):
        with pytest.raises(OutputError, match="is the scan itself"):
            result.save(path)
    assert file.read_bytes() == before
    with pytest.raises(OutputError, match=r"one of \.h5, .*\.png, got .*\.tif"):
        result.save(tmp_path / "a.tif")
    with pytest.raises(OutputError, match="choose a folder that exists"):
        result.save(tmp_path / "none" / "a.h5")
    (tmp_path / "kept.nii.gz").write_bytes(b"former")
    result.job.delete()
    with pytest.raises(ServiceError, match="unknown or deleted"):
        result.save(tmp_path / "kept.nii.gz")
    assert (tmp_path / "kept.nii.gz").read_bytes() == b"former"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["kept.nii.gz", "link.h5", "scan.h5"]


def test_every_suffix_of_the_service_is_sent(service: Any, file: Path) -> None:
    for suffix in SUFFIXES:
        other = file.with_name(f"other{suffix}")
        other.write_bytes(b"no scan")
        with pytest.raises(ServiceError) as caught:
            service.validate(other, method="zero-filled", acceleration=3)
        assert caught.value.code == "invalid-file", suffix


def test_readiness_of_a_service_that_is_not(connect: Any, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mri_recon_service.problems import Problem
    from mri_recon_service.readiness import Readiness
    from mri_recon_service.settings import Settings

    def refuse(self: Any, *parts: Any) -> None:
        raise Problem("not-ready", "models are loading", headers={"Retry-After": "1"})

    with serve(Settings()) as server:
        service = connect(server)
        with monkeypatch.context() as patch:
            patch.setattr(Readiness, "check", refuse)
            assert not service.ready()
            assert not service.ready(timeout=0.1)
        until(service.ready)
