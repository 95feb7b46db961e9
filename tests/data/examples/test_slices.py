from __future__ import annotations

from pathlib import Path

import h5py
import pytest
import torch

from mri_recon.errors import ConfigError, DataError
from mri_recon_data import registry
from mri_recon_data.examples import slices as slices_module
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.slices import FolderSlices, RegistrySlices, read_slices
from mri_recon_data.registry import SPLITS
from tests.support.fastmri_files import write_fastmri


def test_no_slices() -> None:
    with pytest.raises(DataError, match="expected at least one slice of fastMRI files, found none"):
        FolderSlices.index([])


def test_empty_slices_are_left_out_and_named(tmp_path: Path) -> None:
    paths = [write_fastmri(tmp_path / f"{name}.h5", shape=(4, 2, 24, 20), recon=(24, 20)) for name in "ab"]
    with h5py.File(paths[0], "a") as file:
        file["kspace"][0] = 0
        file["kspace"][3] = 0
        file["kspace"][2] = 0
        file["kspace"][2, 1, 3, 4] = 1  # one sample off the middle is data
    with h5py.File(paths[1], "a") as file:
        file["kspace"][1] = 0
    slices = FolderSlices.index(paths)
    assert slices.slices == tuple(
        (path, n) for path, kept in zip(paths, ([1, 2], [0, 2, 3]), strict=True) for n in kept
    )
    assert slices.skipped() == [
        "a.h5: slices 0, 3 hold no data (zeros only) and are left out",
        "b.h5: slice 1 holds no data (zeros only) and is left out",
    ]
    with h5py.File(paths[0], "a") as file:
        file["kspace"][...] = 0
    with pytest.raises(DataError, match="expected at least one slice of fastMRI files, found none but 4 empty ones"):
        FolderSlices.index(paths[:1])


def test_who_can_be_held_out() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.hold_out: expected one of the training persons ulf-.*, got 'ms-patient-20'"
    ):
        read_slices(DataConfig(hold_out="ms-patient-20"))  # a validation person
    with pytest.raises(ConfigError, match=r"data\.hold_out: expected the sets of the registry"):
        read_slices(DataConfig(hold_out="ulf-patient-6a", root="files"))


@pytest.mark.real_data
def test_a_person_held_out_is_nowhere(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {split: [file for file in registry.files(split=split) if "Fig" in file.name] for split in SPLITS}
    monkeypatch.setattr(slices_module, "registered_files", lambda split: files[split])  # the others take long to read
    training, validation = read_slices(DataConfig(hold_out="ulf-patient-6a"))
    assert isinstance(training, RegistrySlices)
    assert isinstance(validation, RegistrySlices)
    scans = {file: file.load() for file in files["train"] if file.kind == "raw"}
    others = [scan.kspace for file, scan in scans.items() if file.person != "ulf-patient-6a"]
    mine = [scan.kspace for file, scan in scans.items() if file.person == "ulf-patient-6a"]
    assert len(training.raw) == sum(kspace.shape[0] for kspace in others) > 0
    for raw in (*training.raw, *validation.raw):
        assert not any(torch.equal(raw.kspace, one) for kspace in mine for one in kspace)
    assert not training.images  # only this patient's 3 T images were among the files
    assert validation.raw
    assert validation.images
