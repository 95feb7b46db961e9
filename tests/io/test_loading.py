from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from mri_recon.errors import FormatError
from mri_recon.io import load_noise


@pytest.mark.parametrize("suffix", ["npy", "npz", "mat", "h5"])
def test_noise_samples(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = (rng.normal(size=(3, 50)) + 1j * rng.normal(size=(3, 50))).astype(np.complex64)
    path = tmp_path / f"noise.{suffix}"
    if suffix == "npy":
        np.save(path, noise)
    elif suffix == "npz":
        np.savez(path, noise=noise, other=np.ones(3))
    elif suffix == "mat":
        scipy.io.savemat(path, {"noise": noise, "other": np.ones(3)})
    else:
        with h5py.File(path, "w") as file:
            file["noise"] = noise
    loaded = load_noise(path)
    np.testing.assert_array_equal(loaded.numpy(), noise)


def test_files_without_noise_samples(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="found nothing at"):
        load_noise(tmp_path / "none.npy")
    np.savez(tmp_path / "other.npz", kspace=np.ones((3, 5), dtype=complex))
    with pytest.raises(FormatError, match="expected an array 'noise' in other.npz, found: 'kspace'"):
        load_noise(tmp_path / "other.npz")
    np.save(tmp_path / "volume.npy", np.ones((2, 3, 4, 5), dtype=complex))
    with pytest.raises(FormatError, match=r"volume.npy of shape \(2, 3, 4, 5\)"):
        load_noise(tmp_path / "volume.npy")
    np.save(tmp_path / "real.npy", np.ones((3, 5)))
    with pytest.raises(FormatError, match="expected complex"):
        load_noise(tmp_path / "real.npy")
