"""Sensitivities measured on phantoms: the fit against known coils and against ESPIRiT, and what is drawn from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import binary_erosion

from mri_recon.coils.espirit import espirit_maps
from mri_recon.errors import DataError
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data import registry
from mri_recon_data.simulation import measured_coils
from mri_recon_data.simulation.kspace import coil_maps
from mri_recon_data.simulation.measured_coils import (
    MeasuredArray,
    array_sources,
    fit_array,
    measured_arrays,
    measured_coil_maps,
)

ArrayC = npt.NDArray[np.complex64]
SIZE = 64


def _disc(radius: float) -> npt.NDArray[np.bool_]:
    y, x = np.indices((SIZE, SIZE)) - SIZE / 2
    return np.asarray(np.hypot(y, x) < radius)


def _array(num_coils: int, *, seed: int = 0, noise: float = 0.002) -> tuple[MeasuredArray, ArrayC]:
    """An array fitted to a simulated disc, and its true sensitivities."""
    rng = np.random.default_rng(seed)
    maps = coil_maps(num_coils, (SIZE, SIZE), rng)
    y, x = np.indices((SIZE, SIZE)) / SIZE
    phantom = _disc(22) * np.exp(1j * (3 * y - 2 * x * y))
    samples = rng.normal(scale=noise, size=(2, *maps.shape))
    images = maps * phantom + samples[0] + 1j * samples[1]
    return fit_array(fft2c(torch.from_numpy(images.astype(np.complex64)))), maps


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> tuple[tuple[MeasuredArray, ...], ...]:
    """An array of 6 coils in two slices and one of 3, in place of the registered ones."""
    found = ((_array(6)[0], _array(6, seed=1)[0]), (_array(3, seed=2)[0],))
    monkeypatch.setattr(measured_coils, "measured_arrays", lambda split="train": found)
    return found


def _difference(a: ArrayC, b: ArrayC) -> npt.NDArray[np.float64]:
    """Distance of unit vectors a pixel, each turned to the phase of the other."""
    inner = (np.conj(b) * a).sum(axis=0)
    return np.asarray(np.sqrt((np.abs(a - b * inner / np.abs(inner)) ** 2).sum(axis=0)))


def test_the_fit_finds_known_coils_inside_and_goes_on_smoothly_outside() -> None:
    array, truth = _array(8)
    maps = array.on_pixels((SIZE, SIZE))
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(axis=0), 1, atol=1e-5)
    error = _difference(maps, truth)
    assert error[_disc(20)].max() < 0.02
    assert error[_disc(28)].max() < 0.2  # a quarter beyond the phantom
    steps = np.sqrt((np.abs(np.diff(maps, axis=1)) ** 2).sum(axis=0))
    true_steps = np.sqrt((np.abs(np.diff(truth, axis=1)) ** 2).sum(axis=0))
    # The phase that all coils share is the array's own here, and the phantom's there.
    assert steps.max() < 2 * true_steps.max() + 0.02
    assert array.residual < 0.02


def test_the_noise_covariance_is_that_of_the_noise() -> None:
    rng = np.random.default_rng(0)
    mixing = np.eye(4) + 0.4 * (rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4)))
    white = rng.normal(size=(2, 4, 160, 160))
    noise = np.tensordot(mixing, white[0] + 1j * white[1], axes=1)
    y, x = np.indices((160, 160)) - 80
    maps = coil_maps(4, (160, 160), rng)
    images = 200 * maps * (np.hypot(y, x) < 60) + noise
    array = fit_array(fft2c(torch.from_numpy(images.astype(np.complex64))))
    expected = mixing @ mixing.conj().T
    expected /= np.trace(expected).real / 4
    assert np.linalg.norm(array.covariance - expected) < 0.15 * np.linalg.norm(expected)


def test_a_phantom_that_is_not_there_is_refused() -> None:
    rng = np.random.default_rng(0)
    empty = torch.from_numpy(rng.normal(size=(3, 32, 32)).astype(np.complex64))
    with pytest.raises(DataError, match="expected a phantom that fills a part of the image of array"):
        fit_array(empty)


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("num_coils", [None, 1, 2, 3, 5, 6])
@pytest.mark.parametrize("shape", [(96, 96), (65, 130), (41, 18)])
def test_what_is_drawn(shape: tuple[int, int], num_coils: int | None) -> None:
    for seed in range(6):
        maps, covariance = measured_coil_maps(shape, np.random.default_rng(seed), num_coils=num_coils)
        assert maps.dtype == covariance.dtype == np.complex64
        assert maps.shape[1:] == shape
        assert len(maps) == num_coils if num_coils is not None else 2 <= len(maps) <= 6
        np.testing.assert_allclose((np.abs(maps) ** 2).sum(axis=0), 1, atol=1e-5)
        assert covariance.shape == (len(maps), len(maps))
        np.testing.assert_allclose(covariance, covariance.conj().T, atol=1e-6)
        assert np.linalg.eigvalsh(covariance).min() > 0
        assert np.trace(covariance).real == pytest.approx(len(maps), rel=1e-5)
        again, _ = measured_coil_maps(shape, np.random.default_rng(seed), num_coils=num_coils)
        np.testing.assert_array_equal(maps, again)


@pytest.mark.usefixtures("arrays")
def test_draws_differ_and_are_smooth() -> None:
    rng = np.random.default_rng(0)
    drawn = [measured_coil_maps((128, 128), rng, num_coils=6)[0] for _ in range(8)]
    assert len({one.tobytes() for one in drawn}) == 8
    for maps in drawn:
        step = np.sqrt((np.abs(np.diff(maps, axis=1)) ** 2).sum(axis=0)).max()
        assert step < 0.1


def test_too_many_coils_are_refused(arrays: tuple[tuple[MeasuredArray, ...], ...]) -> None:
    assert arrays[0][0].num_coils == 6
    for wrong in (7, 0, -1):
        with pytest.raises(DataError, match=f"expected 1 to 6 coils of the measured arrays .*, got {wrong}"):
            measured_coil_maps((32, 32), np.random.default_rng(0), num_coils=wrong)


def test_splits_have_their_own_phantoms(real_data: Path) -> None:
    assert real_data.is_dir()
    coils = {split: sorted(one[0].num_coils for one in measured_arrays(split)) for split in ("train", "validation")}
    assert coils == {"train": [4, 8, 32], "validation": [2, 16]}
    with pytest.raises(DataError, match="expected phantoms with several coils in the split 'test'"):
        measured_arrays("test")


def test_the_fits_agree_with_espirit_inside_the_phantoms(real_data: Path) -> None:
    """Root mean square distance of unit vectors; the worst is 0.013, and outside nothing grows."""
    assert real_data.is_dir()
    for file in registry.files(kind="phantom"):
        scan = file.load()
        if scan.num_coils == 1:
            continue
        for number in {0, scan.num_slices - 1}:
            kspace = scan.kspace[number]
            array = fit_array(kspace)
            maps = array.on_pixels((kspace.shape[-2], kspace.shape[-1]))
            found = espirit_maps(kspace[None], torch.ones(scan.width, dtype=torch.bool), crop=0.9, soft_crop=False)
            reference = found.maps[0, 0].numpy()
            magnitude = ifft2c(kspace).abs().square().sum(dim=0).sqrt().numpy()
            inside = binary_erosion(magnitude > 0.3 * np.percentile(magnitude, 98), iterations=2)
            rows, columns = np.indices(maps.shape[1:])
            inside &= np.hypot(rows - array.center[0], columns - array.center[1]) < 0.51 * array.size
            inside &= np.abs(reference).sum(axis=0) > 0
            assert inside.sum() > 1500
            error = _difference(maps[:, inside], reference[:, inside])
            assert np.sqrt((error**2).mean()) < 0.015, file.name
            y, x = np.meshgrid(*[np.linspace(-0.8, 0.8, 65)] * 2, indexing="ij")
            power = np.sqrt((np.abs(array.evaluate(y, x)) ** 2).sum(axis=0))
            assert 0.8 < power.min() < power.max() < 2.5, file.name


@pytest.mark.real_data
def test_a_card_names_the_phantoms_with_several_coils(real_data: Path) -> None:
    rows = array_sources()
    assert [(row["name"], row["split"]) for row in rows] == [
        ("phantom-siemens-32ch", "train"),
        ("phantom-siemens-4ch", "train"),
        ("phantom-ge-8ch", "train"),
        ("phantom-siemens-16ch", "validation"),
        ("phantom-siemens-2ch", "validation"),
    ]
    for row in rows:
        assert row["persons"] == []
        assert row["licence"] == "MIT"
        assert row["citation"]
        assert row["source"]
