from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from mri_recon.coils.combine import combine
from mri_recon.coils.espirit import espirit_maps
from mri_recon.coils.phase import smooth_phase_map
from mri_recon.errors import ConfigError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import default_center_fraction
from mri_recon.models.inference import image_scale
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data.examples import batches
from mri_recon_data.examples.batches import Batch, BatchConfig, BatchSimulator
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.example import raw_example
from mri_recon_data.examples.raw_slice import RawSlice
from mri_recon_data.examples.slices import FolderSlices, RegistrySlices
from mri_recon_data.scenes.images import ImageSlice
from mri_recon_data.simulation.kspace import coil_maps, smooth_phase
from mri_recon_data.simulation.sampling import draw_mask

CPU = torch.device("cpu")
SHAPE = (57, 48)
WIDE = {"acceleration": (2, 3), "default_center": 0, "center_fraction": (0.25, 0.3)}


def _image(seed: int, shape: tuple[int, int] = SHAPE, source: str = "images/brain-ms") -> ImageSlice:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    disc = (y**2 / 0.8 + x**2 / 0.6 < 1) * (0.8 + 0.2 * np.sin(rng.uniform(4, 9) * x) * np.cos(rng.uniform(4, 9) * y))
    return ImageSlice(disc.astype(np.float16), source)


def _raw(seed: int, shape: tuple[int, int] = (33, 46)) -> RawSlice:
    rng = np.random.default_rng(seed)
    image = _image(seed, shape).magnitude.astype(np.float32) * np.exp(1j * smooth_phase(shape, rng, strength=0.5))
    support = np.ones(shape[1], dtype=bool)
    support[[0, 1, -1]] = False
    kspace = fft2c(torch.from_numpy(image).to(torch.complex64))[None]
    kspace[..., ~torch.from_numpy(support)] = 0
    return RawSlice(kspace, support)


def _images() -> RegistrySlices:
    volume = [_image(9, (44, 52), "images/studyforrest-t1w")]
    return RegistrySlices((), tuple([_image(seed) for seed in range(3)] + volume))


def _data(**changes: object) -> DataConfig:
    simulation = {"min_size": 32, **changes.pop("simulation", {})}  # type: ignore[dict-item]
    tables = {"rows": 16, "full_probability": 0.0, "sampling": {"acceleration": (2, 4)}, "simulation": simulation}
    return DataConfig.model_validate(tables | changes)


def _simulator(
    slices: RegistrySlices | None = None, data: DataConfig | None = None, *, maps: str = "center", seed: int = 0
) -> BatchSimulator:
    config = BatchConfig.model_validate({"where": "device", "maps": maps})
    return BatchSimulator(slices or _images(), data or _data(), config, seed=seed, device=CPU)


def _tensors(batch: Batch) -> Sequence[Tensor]:
    return batch.measurement.samples, batch.measurement.mask, batch.measurement.maps, batch.target


def _equal(one: Batch, other: Batch) -> bool:
    pairs = zip(_tensors(one), _tensors(other), strict=True)
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first, again, other = _simulator(), _simulator(), _simulator(seed=1)
    again.batch(3, range(4))  # what was made before does not matter
    assert _equal(first.batch(7, range(4)), again.batch(7, range(4)))
    assert not _equal(first.batch(7, range(4)), first.batch(8, range(4)))
    assert not _equal(first.batch(7, range(4)), other.batch(7, range(4)))


@pytest.mark.parametrize("multi_coil", [0.0, 1.0])
def test_processes_that_share_a_batch_make_the_same_items(multi_coil: float) -> None:
    slices = RegistrySlices((_raw(0), _raw(1)), _images().images)
    simulator = _simulator(slices, _data(simulation={"multi_coil": multi_coil}, raw_probability=0.3))
    for step in range(6):
        whole = simulator.batch(step, range(4))
        halves = [simulator.batch(step, items) for items in (range(2), range(2, 4))]
        for part, parts in zip(_tensors(whole), zip(*map(_tensors, halves), strict=True), strict=True):
            torch.testing.assert_close(torch.cat(parts), part, rtol=1e-5, atol=1e-6)


def test_items_of_a_batch_differ() -> None:
    batch = _simulator().batch(0, range(6))
    for i in range(6):
        for j in range(i):
            assert not torch.equal(batch.target[i], batch.target[j])


@pytest.mark.parametrize("num_coils", [1, 5])
def test_phase_and_coils_are_those_of_the_loader(num_coils: int) -> None:
    """The same generators give the same phase and the same maps, whichever of the two programs asks them."""
    shape, seeds, strengths = (21, 34), range(3), (0.3, 1.5, 0.0)
    phases = batches._smooth_phases(shape, [np.random.default_rng(s) for s in seeds], strengths, 3.0, CPU)
    for seed, strength, phase in zip(seeds, strengths, phases, strict=True):
        expected = smooth_phase(shape, np.random.default_rng(seed), strength=strength, max_shift=3.0)
        np.testing.assert_allclose(phase.numpy(), expected, atol=2e-5)
    maps = batches._coil_maps(num_coils, shape, [np.random.default_rng(s) for s in seeds], CPU)
    for seed, item in zip(seeds, maps, strict=True):
        np.testing.assert_allclose(item.numpy(), coil_maps(num_coils, shape, np.random.default_rng(seed)), atol=2e-5)
    torch.testing.assert_close(maps.abs().square().sum(1), torch.ones(3, *shape))


def test_masks_have_exactly_their_lines_and_their_own_acceleration() -> None:
    data = _data(sampling={"acceleration": (4, 4), "default_center": 1.0}, simulation={"resolution": (1, 1), "air": 0})
    batch = _simulator(data=data).batch(0, range(5))
    width = batch.target.shape[-1]
    assert batch.measurement.mask.shape == (5, 1, 1, width)
    assert batch.measurement.mask.sum(dim=-1).unique().tolist() == [round(width / 4)]
    center = round(width * default_center_fraction(4))
    assert torch.fft.fftshift(batch.measurement.mask, dim=-1)[..., (width - center + 1) // 2 :][..., :center].all()
    assert len({tuple(mask.flatten().tolist()) for mask in batch.measurement.mask}) > 1
    counts = _simulator(data=_data(sampling={"acceleration": (2, 4)})).batch(1, range(8)).measurement.mask.sum(dim=-1)
    assert len(counts.unique()) > 2


@pytest.mark.parametrize("num_coils", [1, 6])
def test_samples_are_the_masked_transform_of_the_target(num_coils: int) -> None:
    """y = P F S x up to noise, which is tiny here, and up to what maps from a windowed centre lose of several coils."""
    simulation = {"snr": (1e6, 1e6), "num_coils": (num_coils, num_coils), "multi_coil": float(num_coils > 1)}
    simulation |= {"resolution": (1, 1), "phase_strength": (0.5, 1.5)}
    batch = _simulator(data=_data(rows=64, simulation=simulation, sampling=WIDE)).batch(2, range(3))
    y = batch.measurement
    assert y.samples.shape[:2] == (3, num_coils)
    assert torch.equal(y.samples != 0, (y.mask != 0).expand_as(y.samples))
    coil_images = y.maps * batch.target[:, None]
    forward = y.mask * torch.fft.fft(coil_images, dim=-1, norm="ortho")
    error = (forward - y.samples).flatten(1).norm(dim=1) / y.samples.flatten(1).norm(dim=1)
    assert (error < (1e-4 if num_coils == 1 else 0.15)).all()
    torch.testing.assert_close(y.maps.abs().square().sum(1), torch.ones(batch.target.shape))


def test_examples_are_scaled_and_nearly_real() -> None:
    simulator = _simulator(data=_data(rows=64, simulation={"snr": (300, 400)}, sampling=WIDE))
    for step in range(4):
        batch = simulator.batch(step, range(3))
        scale = image_scale(batch.measurement.adjoint())
        torch.testing.assert_close(scale, torch.ones_like(scale))
        assert batch.target.imag.norm() < 0.5 * batch.target.norm()


@pytest.mark.parametrize("snr", [8.0, 50.0])
def test_noise_is_as_asked(snr: float) -> None:
    """Air alone, all columns sampled: what is left is noise of 1/snr in each part, before the scale of the item."""
    blank = RegistrySlices((), (ImageSlice(np.zeros((64, 64), np.float16), "images/brain-ms"),))
    simulation = {"snr": (snr, snr), "resolution": (1, 1), "air": 0.0, "multi_coil": 1.0, "num_coils": (4, 4)}
    kspace, _, _ = _simulator(blank, _data(simulation=simulation))._simulated(
        0, range(3), np.random.default_rng(0), [np.random.default_rng(i) for i in range(3)]
    )
    for item in kspace:
        assert float(item.real.std()) == pytest.approx(1 / snr, rel=0.03)
        assert float(item.imag.std()) == pytest.approx(1 / snr, rel=0.03)
    assert not torch.equal(kspace[0], kspace[1])


def test_a_band_is_cut_alike_from_samples_maps_and_target() -> None:
    simulation = {"snr": (1e6, 1e6), "multi_coil": 0.0}
    band = _simulator(data=_data(simulation=simulation)).batch(5, range(4))
    whole = _simulator(data=_data(rows=256, simulation=simulation)).batch(5, range(4))
    assert band.valid == (16, whole.valid[1])
    for i in range(4):
        starts = [s for s in range(whole.valid[0] - 15) if torch.equal(whole.target[i, s : s + 16], band.target[i])]
        assert len(starts) == 1
        rows = slice(starts[0], starts[0] + 16)
        assert torch.equal(whole.measurement.samples[i, :, rows], band.measurement.samples[i])
        assert torch.equal(whole.measurement.maps[i, :, rows], band.measurement.maps[i])


def test_full_examples_come_as_often_as_asked() -> None:
    simulator = _simulator(data=_data(full_probability=0.5))
    heights = [simulator.batch(step, range(1)).target.shape[1] for step in range(40)]
    assert 8 <= sum(height > 16 for height in heights) <= 32


def test_raw_slices_take_part_with_their_own_support() -> None:
    slices = RegistrySlices((_raw(0), _raw(1), _raw(2, (25, 46))), _images().images)
    simulator = _simulator(slices, _data(raw_probability=1.0, rows=256, sampling={"acceleration": (2, 2)}))
    shapes, mirrored = set(), set()
    for step in range(12):
        batch = simulator.batch(step, range(4))
        shapes.add(tuple(batch.target.shape))
        lines = torch.fft.fftshift(batch.measurement.mask[:, 0, 0], dim=-1)
        assert lines.sum(dim=-1).unique().tolist() == [round(43 / 2)]
        for item in lines:
            at_ends = (bool(item[:2].any()), bool(item[-2:].any()))
            assert at_ends != (True, True)  # two columns at one end and one at the other were not acquired
            mirrored.add(at_ends)
        # One coil: the target is the image of the full k-space, which the samples agree with.
        forward = batch.measurement.mask * torch.fft.fft(
            batch.measurement.maps * batch.target[:, None], dim=-1, norm="ortho"
        )
        torch.testing.assert_close(forward, batch.measurement.samples, rtol=1e-3, atol=1e-4)
    assert shapes == {(4, 33, 46), (4, 25, 46)}
    assert {(True, False), (False, True)} <= mirrored


def test_raw_slices_alone_are_a_training_set() -> None:
    batch = _simulator(RegistrySlices((_raw(0),), ())).batch(0, range(2))
    assert batch.target.shape == (2, 16, 46)


def test_statistics_are_the_loaders() -> None:
    """Coils, sizes and pools come as often as in the loader's examples, within what 200 draws can tell."""
    simulation = {"multi_coil": 0.35, "num_coils": (2, 4)}
    slices, data = _images(), _data(rows=256, simulation=simulation, sampling=WIDE, raw_probability=0)
    simulator = _simulator(slices, data)
    mine = [simulator.batch(step, range(1)).measurement.maps.shape for step in range(200)]
    problems = [slices.problem(np.random.default_rng(i), data) for i in range(200)]
    theirs = [raw_example(one.kspace, one.mask).measurement.maps.shape for one in problems]
    for coils in (1, 2, 3, 4):
        assert abs(sum(s[1] == coils for s in mine) - sum(s[1] == coils for s in theirs)) < 35
    for axis in (2, 3):
        means = [np.mean([shape[axis] for shape in shapes]) for shapes in (mine, theirs)]
        assert abs(means[0] - means[1]) < 2
        assert {min(shape[axis] for shape in shapes) for shapes in (mine, theirs)} == {32}


def test_espirit_maps_are_the_networks_at_inference() -> None:
    simulation = {"multi_coil": 1.0, "num_coils": (3, 3), "snr": (100, 100), "resolution": (1, 1)}
    data = _data(rows=256, simulation=simulation, sampling=WIDE)
    center, espirit = (_simulator(data=data, maps=maps).batch(0, range(2)) for maps in ("center", "espirit"))
    assert torch.equal(center.measurement.mask, espirit.measurement.mask)
    # The same draws again, by hand: first how many rows, then the slices and what becomes of them, then the masks.
    simulator, common = _simulator(data=data), np.random.default_rng([0, 0])
    common.random()
    rngs = [np.random.default_rng([0, 0, 1 + item]) for item in range(2)]
    kspace, _, _ = simulator._simulated(0, range(2), common, rngs)
    masks = [draw_mask(kspace.shape[-1], rng, data.sampling) for rng in rngs]
    for i, mask in enumerate(masks):
        masked = undersample(kspace[i : i + 1], mask)
        maps = espirit_maps(masked, mask, crop=0.0, soft_crop=False).maps[:, 0]
        phase = smooth_phase_map(masked, mask, maps)
        torch.testing.assert_close(espirit.measurement.maps[i : i + 1], maps * phase[:, None], rtol=1e-3, atol=1e-3)


def test_files_of_a_user_are_left_to_the_loader() -> None:
    with pytest.raises(ConfigError, match=r"batches\.where: expected loader for the files of data\.root, got device"):
        BatchSimulator(FolderSlices(()), _data(), BatchConfig(where="device"), seed=0, device=CPU)


@pytest.mark.parametrize("num_coils", [1, 4])
def test_targets_of_several_coils_have_no_noise(num_coils: int) -> None:
    simulation = {"multi_coil": float(num_coils > 1), "num_coils": (num_coils, num_coils), "snr": (10, 10)}
    data = _data(rows=256, simulation=simulation | {"resolution": (1, 1)}, sampling=WIDE)
    simulator, common = _simulator(data=data), np.random.default_rng([0, 0])
    batch = simulator.batch(0, range(2))
    common.random()  # rows
    rngs = [np.random.default_rng([0, 0, 1 + item]) for item in range(2)]
    kspace, maps, images = simulator._simulated(0, range(2), common, rngs)
    clean, noisy = images.abs(), combine(ifft2c(kspace), maps).abs()
    wanted, other = (clean, noisy) if num_coils > 1 else (noisy, clean)
    target = batch.target.abs()
    scale = (wanted.amax(dim=(1, 2)) / target.amax(dim=(1, 2)))[:, None, None]
    torch.testing.assert_close(target * scale, wanted, rtol=1e-4, atol=1e-4)
    assert (target * scale - other).norm() > 0.03 * other.norm()


@pytest.mark.parametrize(
    ("simulation", "key"), [({"content": {"shapes": 0.5}}, "content.shapes"), ({"tight": 0.5}, "tight")]
)
def test_what_is_simulated_by_the_loader_alone(simulation: dict[str, object], key: str) -> None:
    data = _data(simulation=simulation)
    with pytest.raises(ConfigError, match=rf"device knows data\.simulation\.{key}=0\.0 only, got 0\.5"):
        BatchSimulator(RegistrySlices((), ()), data, BatchConfig(where="device"), seed=0, device=CPU)


@pytest.mark.parametrize(("key", "value", "only"), [("target", "ssdu", "truth"), ("problems", 7, "0")])
def test_what_only_the_loader_knows(key: str, value: object, only: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"device knows data\.{key}={only} only, got {value}: set batches\.where=loader"
    ):
        _simulator(data=_data(**{key: value}))
