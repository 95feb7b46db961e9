"""The embedded sample: what it claims to be, and that its script makes it."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from mri_recon import embedded_sample as sample
from mri_recon.errors import DataError
from mri_recon_data.cli import app
from mri_recon_data.simulation import make_sample


def test_size_and_content() -> None:
    path = sample.sample_path()
    assert path.stat().st_size < 12e6
    with h5py.File(path) as file:
        assert file["kspace"].shape == (4, 8, 151, 127)
        assert file["kspace"].dtype == np.complex64
        assert file["reconstruction_rss"].shape == (4, 151, 127)
        assert b"<receiverChannels>8</receiverChannels>" in file["ismrmrd_header"][()]
        # numpy's own FFT as the independent reference of the stored target
        coils = np.fft.fftshift(
            np.fft.ifft2(np.fft.ifftshift(file["kspace"][()], axes=(-2, -1)), norm="ortho"), axes=(-2, -1)
        )
        np.testing.assert_allclose(np.sqrt((abs(coils) ** 2).sum(1)), file["reconstruction_rss"][()], rtol=1e-4)


def test_it_says_what_it_is() -> None:
    with h5py.File(sample.sample_path()) as file:
        assert "not for clinical use; never trained on" in file.attrs["notice"]
        assert "McConnell Brain Imaging Centre" in file.attrs["copyright"]
        provenance = json.loads(file.attrs["provenance"])
    assert provenance["source"]["file"] == "images/colin27/ch2.nii.gz"
    assert "noisy" in provenance["reconstruction_rss"]


def test_noise_is_what_is_stated() -> None:
    """The corners of k-space hold little but noise, of 1/SNR of the mean signal, which is 1."""
    with h5py.File(sample.sample_path()) as file:
        corner = file["kspace"][:, :, :12, :12]
    assert corner.real.std() == pytest.approx(1 / make_sample.SNR, rel=0.15)
    assert corner.imag.std() == pytest.approx(1 / make_sample.SNR, rel=0.15)


def test_loops_obey_the_field_on_their_axis() -> None:
    """On the axis of a loop |B| = 2 pi R^2 / (R^2 + d^2)^(3/2), the textbook closed form."""
    angle = np.pi / 8
    centre = np.array([make_sample.FORMER[0] * np.cos(angle), make_sample.FORMER[1] * np.sin(angle), 0.0])
    inward = -centre / np.linalg.norm(centre)
    distance = np.array([0.0, 20.0, 90.0])
    points = centre + distance[:, None] * inward
    found = np.abs(make_sample.loop_sensitivities(points, segments=256)[0])
    radius = make_sample.LOOP_RADIUS
    np.testing.assert_allclose(found, 2 * np.pi * radius**2 / (radius**2 + distance**2) ** 1.5, rtol=1e-6)


def test_another_volume_is_refused() -> None:
    with pytest.raises(DataError, match=r"expected Colin27 of shape \(181, 217, 181\), got \(3, 5, 7\)"):
        make_sample.simulate_sample(np.zeros((3, 5, 7), dtype=np.uint8))


def test_a_missing_sample_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "SAMPLE_NAME", "absent.h5")
    with pytest.raises(DataError, match="reinstall the package"):
        sample.sample_path()


def test_the_command_prints_its_path() -> None:
    result = CliRunner().invoke(app, ["sample"])
    assert result.exit_code == 0
    assert Path(result.stdout.strip()) == sample.sample_path()


def test_the_script_makes_the_sample(real_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.h5"
    make_sample.write_sample(path, make_sample.read_volume())
    with h5py.File(path) as made, h5py.File(sample.sample_path()) as shipped:
        assert dict(made.attrs).keys() == dict(shipped.attrs).keys()
        mine, theirs = (json.loads(file.attrs["provenance"]) for file in (made, shipped))
        # The script had another place when the shipped file was made, whose SHA-256 is in saved results.
        assert {**mine, "made_by": ""} == {**theirs, "made_by": ""}
        assert made["ismrmrd_header"][()] == shipped["ismrmrd_header"][()]
        for name in ("kspace", "reconstruction_rss"):
            np.testing.assert_allclose(made[name][()], shipped[name][()], rtol=0, atol=1e-5 * abs(made[name][()]).max())
