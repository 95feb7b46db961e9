"""Whole runs on files that were undersampled at the scanner: no truth anywhere, training and validation included."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mri_recon.errors import DataError
from mri_recon.masks.draw import random_mask
from mri_recon.models.checkpoint import load_checkpoint
from mri_recon.reconstruction import reconstruct
from mri_recon_training.run import run
from tests.support.fastmri_files import write_fastmri

TINY = {
    "unet": ["model.chans=4", "model.num_pool_layers=1", "model.channels_per_group=4"],
    "unrolled": [
        "model.architecture=unrolled",
        "model.num_cascades=1",
        "model.chans=4",
        "model.num_pool_layers=1",
        "model.channels_per_group=4",
    ],
}


@pytest.fixture
def undersampled(tmp_path: Path) -> Path:
    """Two persons, two coils, every file with the mask of its own."""
    folder = tmp_path / "files"
    folder.mkdir()
    for person in range(2):
        mask = random_mask(48, 2, num_low_frequencies=6, seed=person)
        path = write_fastmri(
            folder / f"file{person}.h5", shape=(1, 2, 24, 48), recon=(20, 48), patient=f"person{person}", seed=person
        )
        with h5py.File(path, "r+") as file:
            file["kspace"][...] = file["kspace"][...] * mask.lines
            file["mask"] = mask.lines.astype(np.uint8)
            del file["reconstruction_rss"]
    return folder


def _settings(folder: Path, data: Path, target: str, architecture: str) -> tuple[Path, list[str]]:
    config = folder / "config.toml"
    config.write_text("")
    return config, [
        *TINY[architecture],
        "run.name=tiny",
        f"run.folder={folder / 'runs'}",
        "run.steps=3",
        "run.threads=1",
        "run.validate_every=3",
        "optimizer.warmup=0",
        "optimizer.lr=1e-2",
        f"data.root={data}",
        f"data.target={target}",
        "data.rows=16",
        "data.workers=0",
        "data.validation_slices=1",
        "data.cs.max_iters=10",
        f"data.cs.cache={folder / 'solutions'}",
    ]


@pytest.mark.parametrize(("target", "architecture"), [("cs", "unet"), ("ssdu", "unrolled")])
def test_a_run_without_any_truth(target: str, architecture: str, undersampled: Path, tmp_path: Path) -> None:
    config, settings = _settings(tmp_path, undersampled, target, architecture)
    folder = run(config, settings)
    (record,) = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([record["psnr-undersampled"], record["train_loss"]]).all()
    assert record["psnr"] == record["psnr-undersampled"]
    weights = folder / "tiny.safetensors"
    assert any(p.abs().max() > 0 for name, p in load_checkpoint(weights).network.named_parameters() if "head" in name)
    mask = random_mask(48, 2, num_low_frequencies=6, seed=0)
    with h5py.File(undersampled / "file0.h5") as file:
        kspace = torch.from_numpy(file["kspace"][...])
    image = reconstruct(kspace, mask, method=architecture, model=str(weights)).image
    assert torch.isfinite(image.abs()).all()


def test_a_run_that_wants_the_truth(undersampled: Path, tmp_path: Path) -> None:
    config, settings = _settings(tmp_path, undersampled, "truth", "unet")
    with pytest.raises(DataError, match=r"data\.target truth: expected a fully sampled scan, got an undersampled one"):
        run(config, settings)


def test_a_run_that_meets_an_undersampled_file_among_full_ones(undersampled: Path, tmp_path: Path) -> None:
    """It is refused before the first step, though validation has full files only."""
    full = write_fastmri(undersampled / "full.h5", shape=(1, 2, 24, 48), recon=(20, 48), patient="full")
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["file0.h5"], "validation": [full.name]}))
    config, settings = _settings(tmp_path, undersampled, "truth", "unet")
    with pytest.raises(DataError, match=r"data\.target truth: expected a fully sampled scan, got an undersampled one"):
        run(config, [*settings, f"data.split_file={split}"])
