from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mri_recon.errors import ConfigError
from mri_recon.masks.draw import random_mask
from mri_recon.models.inference import image_scale
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.examples import worlds as worlds_module
from mri_recon_data.examples.acquisition import (
    AcquisitionConfig,
    acquire,
    draw_example,
    example_of_rows,
    example_of_slice,
    given_maps,
)
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.raw_slice import RawSlice
from mri_recon_data.examples.slices import FolderSlices, RegistrySlices
from mri_recon_data.examples.stream import ExampleStream
from mri_recon_data.examples.validation import validation_examples
from mri_recon_data.examples.validation_worlds import validation_scans
from mri_recon_data.examples.worlds import Worlds, WorldsConfig, picture_sources
from mri_recon_data.scenes.images import ImageSlice
from mri_recon_data.simulation.arrays import ReceiveArray, measured_array, modelled_maps

TWO_PICTURES = WorldsConfig(pictures=2, shares={"procedural": 0.3, "images": 0.5, "raw": 0.2})


def _magnitude(height: int = 120, width: int = 110) -> np.ndarray[tuple[int, int], np.dtype[np.float16]]:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    disc = ((x / 0.6) ** 2 + (y / 0.8) ** 2 < 1) * (0.7 + 0.3 * np.sin(25 * x + 9 * y) * np.cos(17 * y))
    return disc.astype(np.float16)


def _slices() -> RegistrySlices:
    support = np.ones(96, dtype=bool)
    support[:3] = False
    kspace = fft2c(torch.from_numpy(_magnitude(100, 96).astype(np.float32))[None].to(torch.complex64))
    kspace = kspace + 0.02 * torch.randn(
        kspace.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)
    )
    kspace[..., ~torch.from_numpy(support)] = 0
    images = [ImageSlice(_magnitude(), f"images/{name}") for name in ("studyforrest-t1w", "brain-ms", "neck-axial")]
    return RegistrySlices((RawSlice(kspace, support),), tuple(images))


def _stream(seed: int = 0) -> ExampleStream:
    config = DataConfig(rows=32, full_probability=0.0, worlds=TWO_PICTURES)
    return ExampleStream(_slices(), config, seed=seed, batch_size=1, steps=100)


def test_an_example_depends_on_seed_and_number_alone() -> None:
    first, again, other = _stream(3), _stream(3), _stream(4)
    for step in (7, 2, 11):  # in any order
        one, two = first[step][0], again[step][0]
        assert torch.equal(one.measurement.samples, two.measurement.samples)
        assert torch.equal(one.measurement.maps, two.measurement.maps)
        assert torch.equal(one.target, two.target)
    assert not torch.equal(first[7][0].target.flatten()[:32], other[7][0].target.flatten()[:32])


def test_examples_are_scaled_finite_and_varied() -> None:
    stream = _stream()
    coils, dims = set(), set()
    for step in range(60):
        (example,) = stream[step]
        measurement = example.measurement
        assert measurement.adjoint()[0].shape == example.target.shape
        assert bool(torch.isfinite(torch.view_as_real(example.target)).all())
        assert measurement.dims == (-2, -1) or example.target.shape[0] <= 32
        # What the network sees explains the samples: maps of unit norm, a zero-filled image of about unit brightness.
        assert 0.05 < float(image_scale(measurement.adjoint())) < 4
        energy = measurement.maps.abs().square().sum(dim=1)
        assert float(energy.max()) < 1.001
        coils.add(measurement.maps.shape[1])
        dims.add(measurement.dims)
    assert 1 in coils
    assert len(coils) > 4
    assert dims == {(-1,), (-2, -1)}


@pytest.mark.parametrize(("num_coils", "height", "width"), [(1, 97, 120), (6, 128, 111)])
def test_a_band_is_what_the_whole_slice_would_give(num_coils: int, height: int, width: int) -> None:
    magnitude = torch.from_numpy(_magnitude(height, width).astype(np.float32))
    image = torch.polar(magnitude, 0.02 * torch.arange(width).expand(height, -1))
    rng = np.random.default_rng(0)
    array = ReceiveArray(torch.ones((1, height, width), dtype=torch.complex64))
    if num_coils > 1:
        array = ReceiveArray(modelled_maps(num_coils, (height, width), rng))
    scan = acquire(image, random_mask(width, 3, seed=1), array, rng, sigma=0.02)
    whole = example_of_slice(scan)
    # As at inference: kernel and calibration block.
    config = AcquisitionConfig(kernel=(6, 6), calibration=(24, 24))
    band = example_of_rows(scan, np.random.default_rng(5), config, 40)
    start = int(np.random.default_rng(5).integers(height - 40 + 1))  # its first draw: the band holds the object
    rows = slice(start, start + 40)
    bright = magnitude[rows] > 0.1
    scale = float((band.target.abs()[bright] / whole.target.abs()[rows][bright]).median())
    assert scale == pytest.approx(1, rel=0.05)  # read from some rows
    torch.testing.assert_close(band.measurement.mask, whole.measurement.mask)
    torch.testing.assert_close(
        band.measurement.samples / scale, whole.measurement.samples[..., rows, :], rtol=1e-3, atol=1e-4
    )
    maps = (band.measurement.maps[0] - whole.measurement.maps[0][:, rows]).abs().amax(dim=0)
    assert float(maps[bright].max()) < 0.01
    assert band.measurement.sigma is not None
    assert whole.measurement.sigma is not None
    assert float(band.measurement.sigma / scale) == pytest.approx(float(whole.measurement.sigma), rel=0.1)
    difference = (band.target / scale - whole.target[rows]).abs()
    assert float(difference[bright].max()) < 0.01


def test_samples_are_those_of_the_image_and_its_noise() -> None:
    image = torch.from_numpy(_magnitude(90, 101).astype(np.float32)).to(torch.complex64)
    maps = modelled_maps(5, (90, 101), np.random.default_rng(1))
    torch.testing.assert_close(maps.abs().square().sum(dim=0), torch.ones(90, 101))
    mask = random_mask(101, 2, seed=3)
    scan = acquire(image, mask, ReceiveArray(maps), np.random.default_rng(2), sigma=0.1)
    noise = (scan.masked - fft2c(maps * image))[..., torch.from_numpy(mask.lines.copy())]
    assert float(noise.abs().square().mean().sqrt()) == pytest.approx(0.1, rel=0.03)
    assert not scan.masked[..., torch.from_numpy(~mask.lines)].any()
    factor = torch.linalg.cholesky(torch.eye(5, dtype=torch.complex64) * 0.5 + 0.5)
    colored = acquire(image, mask, ReceiveArray(maps, factor), np.random.default_rng(2), sigma=0.1)
    noise = (colored.masked - fft2c(maps * image))[..., torch.from_numpy(mask.lines.copy())].flatten(1)
    covariance = noise @ noise.mH / noise.shape[1] / 0.1**2
    assert float((covariance - factor @ factor.mH).abs().max()) < 0.1


def test_compressed_coils_are_combinations_and_keep_most_of_the_image() -> None:
    image = torch.from_numpy(_magnitude(90, 101).astype(np.float32)).to(torch.complex64)
    maps = modelled_maps(16, (90, 101), np.random.default_rng(1))
    mask = random_mask(101, 2, seed=3)
    scan = acquire(image, mask, ReceiveArray(maps), np.random.default_rng(2), sigma=1e-6, num_virtual=8)
    assert scan.maps.shape == (8, 90, 101)
    lines = torch.from_numpy(mask.lines.copy())
    torch.testing.assert_close(scan.masked[..., lines], fft2c(scan.maps * image)[..., lines], atol=1e-4, rtol=1e-3)
    kept = scan.maps.abs().square().sum(dim=0)
    assert float(kept.max()) < 1.001
    assert float(kept[image.abs() > 0.1].mean()) > 0.9


def test_an_asymmetric_echo_leaves_rows_empty_and_its_target_has_no_more() -> None:
    image = torch.from_numpy(_magnitude(90, 101).astype(np.float32)).to(torch.complex64)
    array = ReceiveArray(modelled_maps(3, (90, 101), np.random.default_rng(1)))
    scan = acquire(image, random_mask(101, 2), array, np.random.default_rng(2), sigma=0.1, readout=slice(20, None))
    assert not scan.masked[:, :20].any()
    assert scan.masked[:, 20:].any()
    assert float(fft2c(scan.image)[:20].abs().max()) < 1e-4


@pytest.mark.parametrize("several", [0.0, 1.0])
def test_given_maps_reach_the_network(several: float) -> None:
    config = AcquisitionConfig.model_validate(
        {"given": 1.0, "cropped": 0.0, "array": {"several": several, "compress": 0.0, "num_coils": (4, 4)}}
    )
    magnitude = torch.from_numpy(_magnitude().astype(np.float32))
    for seed in range(4):
        example = draw_example(magnitude, np.random.default_rng(seed), config, 32)
        assert example.measurement.maps.shape[1] == (4 if several else 1)
        assert bool(torch.isfinite(torch.view_as_real(example.target)).all())


def test_what_is_at_hand_shares_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds_module, "load_photographs", lambda: ())
    many = [ImageSlice(_magnitude(), "images/brain-ms")] * 9 + [ImageSlice(_magnitude(), "images/brain-3T")]
    config = WorldsConfig(shares={"procedural": 1.0, "photographs": 1.0, "raw": 1.0, "images": 2.0})
    worlds = Worlds.of((), many, config)
    assert {world.name: world.share for world in worlds.worlds} == pytest.approx(
        {"procedural": 1 / 3, "brain-ms": 2 / 3 * 3 / 4, "brain-3T": 2 / 3 / 4}
    )
    named = Worlds.of((), many, WorldsConfig(shares={"brain-3T": 1.0, "images": 1.0}))
    assert {world.name: world.share for world in named.worlds} == pytest.approx({"brain-ms": 0.5, "brain-3T": 0.5})


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"nosuch": 1.0}, r"data\.worlds\.shares: expected one of procedural, photographs, raw, images, brain-ms, got"),
        ({"raw": 1.0}, r"expected a share of data that are at hand, got none"),
        ({"procedural": -1.0}, r"data\.worlds\.shares\.procedural: expected a share of at least 0, got -1"),
    ],
)
def test_bad_shares(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Worlds.of((), [ImageSlice(_magnitude(), "images/brain-ms")], WorldsConfig(shares=shares))


@pytest.mark.parametrize("other", [{"target": "ssdu"}, {"problems": 3}])
def test_worlds_have_their_truth(other: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"data\.worlds: expected data\.target=truth and data\.problems=0"):
        DataConfig.model_validate({"worlds": {}, **other})
    assert DataConfig.model_validate({"worlds": {}, "root": "files", **other}).worlds is not None


def test_files_of_a_user_are_no_world() -> None:
    stream = ExampleStream(
        FolderSlices(()), DataConfig(root="files", worlds=TWO_PICTURES), seed=0, batch_size=1, steps=1
    )
    assert stream._worlds is None


def test_validation_by_world() -> None:
    config = DataConfig(worlds=TWO_PICTURES)
    examples = validation_examples(_slices(), config, seed=0)
    kinds = ["raw", "simulated-1coil", *(f"simulated-8coil-snr{snr}" for snr in (10, 40, 200)), "neck"]
    kinds += ["procedural", "rough-phase"]
    assert {name for name, _ in examples} == {f"{kind}-{r}x" for kind in kinds for r in (4, 8)}
    again = validation_examples(_slices(), config, seed=0)
    for (_, one), (_, two) in zip(examples, again, strict=True):
        assert torch.equal(one.measurement.samples, two.measurement.samples)
        assert torch.equal(one.target, two.target)
    for name, example in examples:
        assert example.measurement.maps.shape[1] == (
            8 if any(kind in name for kind in ("8coil", "proc", "rough")) else 4 if "neck" in name else 1
        )


def test_the_card_names_the_pictures() -> None:
    sources = picture_sources(WorldsConfig())
    assert [source["name"] for source in sources][:2] == ["procedural pictures", "scikit-image"]
    assert not picture_sources(WorldsConfig(shares={"images": 1.0}))
    assert all({"licence", "citation", "source", "split"} <= set(source) for source in sources)


@pytest.mark.real_data
def test_measured_arrays_have_unit_maps_and_their_noise(real_data: Path) -> None:
    rng = np.random.default_rng(0)
    colored = measured_array(6, (64, 80), rng, whiten=False)
    assert colored.noise is not None
    covariance = colored.noise @ colored.noise.mH
    assert float(covariance.diagonal().real.mean()) == pytest.approx(1, rel=1e-4)
    assert float((covariance - torch.diag(covariance.diagonal())).abs().max()) > 0.01
    white = measured_array(6, (64, 80), rng, whiten=True)
    assert white.noise is None
    for array in (colored, white):
        torch.testing.assert_close(array.maps.abs().square().sum(dim=0), torch.ones(64, 80))


def test_validation_scans_name_their_set() -> None:
    slices = _slices()
    scans = list(validation_scans(slices.raw, slices.images, seed=0))
    for scan in scans:
        if scan.kind.startswith("raw"):
            assert scan.source == "raw/brain-0.055T"
        elif scan.kind.startswith("procedural"):
            assert scan.source == ""
        else:
            assert scan.source in {image.source for image in slices.images}


@pytest.mark.real_data
def test_validation_has_the_measured_array_where_training_has_measured_coils(real_data: Path) -> None:
    worlds = WorldsConfig.model_validate({"acquisition": {"array": {"measured": 0.5}}})
    examples = dict(validation_examples(_slices(), DataConfig(worlds=worlds), seed=0))
    assert examples["measured-16coil-8x"].measurement.maps.shape[1] == 16


def test_an_asymmetric_echo_leaves_the_centre_of_small_patterns() -> None:
    config = AcquisitionConfig.model_validate(
        {
            "partial_echo": 1.0,
            "echo_share": (0.55, 0.55),
            "snr": (400.0, 400.0),
            "array": {"several": 1.0, "num_coils": (4, 4)},
            "sampling": {"pattern": 1.0, "pattern_size": (64, 64)},
        }
    )
    magnitude = torch.from_numpy(_magnitude().astype(np.float32))
    for seed in range(5):
        example = draw_example(magnitude, np.random.default_rng(seed), config, 64)
        assert example.measurement.dims == (-2, -1)


def test_given_maps_are_never_all_zero() -> None:
    config = AcquisitionConfig(cropped=1.0)
    image = torch.zeros(90, 101, dtype=torch.complex64)
    array = ReceiveArray(modelled_maps(4, (90, 101), np.random.default_rng(1)))
    mask = random_mask(101, 4, num_low_frequencies=3)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        scan = acquire(image, mask, array, rng, sigma=0.1)  # nothing but noise
        covered = given_maps(scan, rng, config).abs().sum(dim=0) > 0
        assert float(covered.float().mean()) > 0.04
