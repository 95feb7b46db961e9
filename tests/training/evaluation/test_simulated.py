from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mri_recon.coils.combine import rss
from mri_recon.errors import DataError
from mri_recon.transforms.fourier import ifft2c
from mri_recon_data import registry
from mri_recon_training.evaluation.compare_scans import Masks, evaluate_scans
from mri_recon_training.evaluation.config import DEFAULT_SNR, SimulatedArray
from mri_recon_training.evaluation.simulated import simulated_scan, simulated_sources


def test_simulated_scans_are_of_the_splits_persons(real_data: Path) -> None:
    sources = simulated_sources("validation", SimulatedArray(8))
    files = registry.files(split="validation", kind="image")
    assert {source.person for source in sources} == {file.person for file in files}
    scan = sources[0].load()
    assert (scan.num_slices, scan.num_coils) == (1, 8)
    assert scan.fully_sampled
    assert scan.target is not None
    assert torch.equal(scan.kspace, sources[0].load().kspace), "the same file gives the same scan"
    assert not torch.equal(scan.kspace[0], sources[1].load().kspace[0])
    evaluation = evaluate_scans(
        sources[:1],
        Masks([4]),
        split="validation",
        kind="simulated",
        array=SimulatedArray(8),
        methods=["zero-filled"],
    )
    assert evaluation.rows[0]["file"].startswith("simulated 8 coils: images/")
    assert "Reference: the image without noise, SIMULATED k-space" in evaluation.convention
    assert next(iter(evaluation.labels.values())) == "ulf-patient-6b FLAIR, simulated, 8 coils"
    assert {source.world for source in sources} == {"head", "other anatomy, neck"}


def test_the_reference_is_the_image_without_noise(real_data: Path) -> None:
    """Away from the object the root sum of squares of noisy coils has a floor; the reference does not."""
    file = registry.files(split="validation", kind="image")[0]
    scan = simulated_scan(file, array=SimulatedArray(15), num_slices=2)
    assert scan.target is not None
    assert tuple(scan.kspace.shape) == (2, 15, *scan.target.shape[1:])
    noisy = rss(ifft2c(scan.kspace))
    dark, bright = scan.target < 0.01, scan.target > 0.5
    assert float(noisy[dark].mean()) == pytest.approx((2 * 15) ** 0.5 / DEFAULT_SNR, rel=0.1)
    assert float(scan.target[dark].mean()) < 0.01
    assert float((noisy - scan.target)[bright].abs().mean()) < 0.1


def test_one_image_whatever_the_coils(real_data: Path) -> None:
    file = registry.files(split="validation", kind="image")[0]
    one, four = (simulated_scan(file, array=SimulatedArray(coils)) for coils in (1, 4))
    assert one.target is not None
    assert four.target is not None
    assert torch.equal(one.target, four.target)
    # One coil sees the image itself, with its phase and noise.
    error = ifft2c(one.kspace)[:, 0].abs() - one.target
    assert float(error[one.target > 0.5].std()) == pytest.approx(1 / DEFAULT_SNR, rel=0.1)


@pytest.mark.parametrize(
    ("array", "num_slices", "message"),
    [
        (SimulatedArray(0), 1, "at least one coil to simulate, got 0"),
        (SimulatedArray(2), 0, "at least one slice to simulate, got 0"),
        (SimulatedArray(2, snr=0.0), 1, "an SNR above 0 to simulate, got 0"),
    ],
)
def test_nothing_cannot_be_simulated(array: SimulatedArray, num_slices: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        simulated_sources("validation", array, num_slices=num_slices)


def test_an_array_says_what_is_not_the_default() -> None:
    arrays = [SimulatedArray(1), SimulatedArray(8, 10.0), SimulatedArray(16, measured=True)]
    assert [array.text for array in arrays] == ["1 coil", "8 coils, SNR 10", "16 measured coils"]


def test_noise_has_the_given_snr_and_changes_nothing_else(real_data: Path) -> None:
    file = registry.files(split="validation", kind="image")[0]
    noisy, clean = (simulated_scan(file, array=SimulatedArray(2, snr)) for snr in (10.0, 1e6))
    assert clean.target is not None
    assert noisy.target is not None
    assert torch.equal(noisy.target, clean.target)
    noise = torch.view_as_real(noisy.kspace - clean.kspace)
    assert float(noise.std()) == pytest.approx(0.1, rel=0.02)
    assert noisy.meta["snr"] == 10


def test_measured_coils_have_correlated_noise(real_data: Path) -> None:
    file = registry.files(split="validation", kind="image")[0]
    measured, clean = (simulated_scan(file, array=SimulatedArray(16, snr, measured=True)) for snr in (40.0, 1e6))
    noise = (measured.kspace - clean.kspace)[0].flatten(1)
    covariance = torch.corrcoef(noise).abs() - torch.eye(16)
    assert float(covariance.max()) > 0.1
    assert clean.target is not None
    assert float((rss(ifft2c(clean.kspace)) - clean.target).abs().max()) < 1e-3, "the maps have a sum of squares of 1"
    with pytest.raises(DataError, match="expected 1 to 16 coils of the measured arrays"):
        simulated_sources("validation", SimulatedArray(17, measured=True))


def test_a_split_without_images_has_nothing_to_simulate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "files", lambda **_: [])
    with pytest.raises(DataError, match="leave --coils out"):
        simulated_sources("validation", SimulatedArray(2))
