from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from mri_recon.masks.draw import equispaced_mask
from mri_recon.models import Unet, UnetConfig
from mri_recon.models.checkpoint import ModelCard, save_checkpoint
from mri_recon.models.training_range import ANY_SAMPLING, RANDOM_COLUMNS, Envelope
from mri_recon_data.examples.slices import FolderSlices, RegistrySlices
from mri_recon_training.config import parse_config
from mri_recon_training.model_card import envelope_of, model_card, sources_of
from tests.support.fastmri_files import write_fastmri


def _undersampled(path: Path, acceleration: float) -> Path:
    write_fastmri(path, shape=(1, 2, 40, 64))
    with h5py.File(path, "a") as file:
        lines = equispaced_mask(64, acceleration).lines
        file["kspace"][...] = file["kspace"][...] * lines
        file["mask"] = lines.astype(np.float32)
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


def test_what_is_undersampled_is_judged_as_in_training(tmp_path: Path) -> None:
    """Columns beside the padding could not have been sampled, and a full file may have a mask."""
    files = []
    for name, acceleration in (("under", 4), ("full", 1)):
        path = write_fastmri(tmp_path / f"{name}.h5", shape=(1, 2, 40, 64))
        inside = np.isin(np.arange(64), np.arange(8, 56))
        lines = inside & (np.arange(64) % acceleration == 0)
        lines |= inside & (abs(np.arange(64) - 32) < 3)
        with h5py.File(path, "a") as file:
            file["kspace"][...] = file["kspace"][...] * (lines if name == "under" else inside)
            file["mask"] = lines.astype(np.float32)
            file.attrs["padding_left"], file.attrs["padding_right"] = 8, 56
        files.append(path)
    slices = FolderSlices.index(files[:1])
    mask = slices.read(0).mask
    assert mask is not None
    config = parse_config({"data": {"target": "ssdu", "sampling": {"acceleration": [2, 6]}}})
    envelope = envelope_of(config, slices)
    assert envelope.acceleration == (mask.realised_acceleration, mask.realised_acceleration)
    assert mask.support_width == 48
    assert envelope.departures(mask, num_coils=2) == []
    full = envelope_of(config, FolderSlices.index(files[1:]))
    assert full.acceleration == (2, 6)
    assert full.sampling == RANDOM_COLUMNS


def test_weights_remember_whom_earlier_ones_learned_from(tmp_path: Path) -> None:
    first = {"name": "brain-3T", "split": "train", "persons": ["ulf-patient-6a"]}
    seen = {"name": "brain-3T", "split": "validation", "persons": ["ulf-patient-6b"]}
    path = tmp_path / "first.safetensors"
    envelope = Envelope(acceleration=(2, 4), num_coils=(1, 2), anatomy="head")
    card = ModelCard(
        name="first",
        architecture="unet",
        config=UnetConfig(chans=4, num_pool_layers=2).model_dump(),
        description="a test",
        envelope=envelope,
        data=[first, seen],
        training={},
        loss_curve=[],
    )
    save_checkpoint(path, Unet(UnetConfig(chans=4, num_pool_layers=2)), card)
    config = parse_config({"run": {"weights": str(path)}, "data": {"hold_out": "ulf-patient-6a"}})
    rows = model_card(config, envelope, sources_of(config, RegistrySlices((), ())), [{"step": 1.0}]).data
    assert first in rows
    assert seen not in rows
    assert {"ulf-patient-6a", "ulf-volunteer"} <= {person for row in rows for person in row["persons"]}
    mine = parse_config({"run": {"weights": str(path)}, "data": {"root": "mine"}})
    assert sources_of(mine, FolderSlices(())) == [{"name": "mine", "kind": "user"}, first]


def test_undersampled_files_have_their_own_masks(tmp_path: Path) -> None:
    one, other = _undersampled(tmp_path / "a.h5", 3), _undersampled(tmp_path / "b.h5", 5)
    config = parse_config({"data": {"target": "ssdu"}})
    envelope = envelope_of(config, FolderSlices.index([one, other]))
    assert envelope.acceleration == (64 / 21, 64 / 13)
    assert envelope.sampling == ANY_SAMPLING
    assert envelope.departures(equispaced_mask(64, 4), num_coils=2) == []
    full = write_fastmri(tmp_path / "c.h5")
    assert envelope_of(config, FolderSlices.index([one, full])).acceleration == (2, 12)
