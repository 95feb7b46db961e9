from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from mri_recon.data.dataset import FolderSlices, RegistrySlices
from mri_recon.envelope import ANY_SAMPLING, RANDOM_COLUMNS
from mri_recon.masks import equispaced_mask
from mri_recon.training.card import envelope_of
from mri_recon.training.config import parse_config
from tests.fastmri_files import write_fastmri


def _undersampled(path: Path, acceleration: float) -> Path:
    write_fastmri(path, shape=(1, 2, 40, 64))
    with h5py.File(path, "a") as file:
        file["mask"] = equispaced_mask(64, acceleration).lines.astype(np.float32)
    return path


def test_of_simulated_scans() -> None:
    data = {"sampling": {"acceleration": [3, 7]}, "simulation": {"multi_coil": 0, "snr": [10, 50]}}
    envelope = envelope_of(parse_config({"data": data}), RegistrySlices((), ()))
    assert envelope.acceleration == (3, 7)
    assert envelope.center_fraction == (0.03, 0.1)
    assert envelope.num_coils == (1, 1)
    assert envelope.sampling == RANDOM_COLUMNS


def test_the_default_centre_counts_where_it_is_the_widest_or_narrowest() -> None:
    data = {"sampling": {"acceleration": [2, 7], "center_fraction": [0.05, 0.06]}}
    assert envelope_of(parse_config({"data": data}), RegistrySlices((), ())).center_fraction == (0.04, 0.08)


def test_of_full_files(tmp_path: Path) -> None:
    slices = FolderSlices.index(
        [write_fastmri(tmp_path / "a.h5"), write_fastmri(tmp_path / "b.h5", shape=(1, 5, 40, 24))]
    )
    envelope = envelope_of(parse_config({"data": {"sampling": {"acceleration": [2, 4]}}}), slices)
    assert envelope.acceleration == (2, 4)
    assert envelope.num_coils == (3, 5)
    assert envelope.sampling == RANDOM_COLUMNS
    assert envelope.center_fraction == (0.03, 0.1)


def test_undersampled_files_have_their_own_masks(tmp_path: Path) -> None:
    one, other = _undersampled(tmp_path / "a.h5", 3), _undersampled(tmp_path / "b.h5", 5)
    config = parse_config({"data": {"target": "ssdu"}})
    envelope = envelope_of(config, FolderSlices.index([one, other]))
    assert envelope.acceleration == (64 / 21, 64 / 13)
    assert envelope.sampling == ANY_SAMPLING
    assert envelope.departures(equispaced_mask(64, 4), num_coils=2) == []
    full = write_fastmri(tmp_path / "c.h5")
    assert envelope_of(config, FolderSlices.index([one, full])).acceleration == (2, 12)
