from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mri_recon.errors import DataError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.split import split_mask
from mri_recon.masks.types import Mask
from mri_recon.methods.cs_wavelet import cs_wavelet
from mri_recon.models.inference import network_measurement, run_network
from mri_recon.operators.sense import SenseOperator
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.example import Example
from mri_recon_data.examples.raw_slice import RawSlice
from mri_recon_data.examples.slices import FolderSlices, RegistrySlices
from mri_recon_data.examples.stream import ExampleStream
from mri_recon_data.examples.targets import (
    CsConfig,
    Problem,
    SsduConfig,
    cs_example,
    make_example,
    ssdu_example,
)
from mri_recon_data.examples.validation import validation_examples
from mri_recon_data.scenes.images import ImageSlice
from mri_recon_training.losses import LossConfig, example_loss
from tests.support.fastmri_files import write_fastmri
from tests.support.helpers import complex_randn, phantom, smooth_maps
from tests.support.networks import tiny_network
from tests.support.split_masks import small_columns, small_pattern

CS = CsConfig(max_iters=60)
SSDU = SsduConfig()


def _kspace(num_coils: int, h: int = 32, w: int = 40, *, seed: int = 0, noise: float = 0.02) -> Tensor:
    images = smooth_maps(num_coils, h, w) * phantom(h, w) + noise * complex_randn(num_coils, h, w, seed=seed)
    return fft2c(images).to(torch.complex64)


COLUMNS = random_mask(24, 2, num_low_frequencies=4, seed=1)


def _lines(mask: Mask) -> np.ndarray:
    return mask.tensor().numpy()


# Compressed sensing


@pytest.mark.parametrize("num_coils", [1, 3])
@pytest.mark.parametrize("prior", ["stationary", "orthonormal"])
def test_the_target_is_the_minimiser_in_the_gauge_of_the_network(num_coils: int, prior: str) -> None:
    kspace, mask = _kspace(num_coils), small_columns()
    config = CsConfig(prior=prior, max_iters=60)  # type: ignore[arg-type]
    example = cs_example(kspace, mask, config)
    masked = undersample(kspace, mask)[None]
    maps, phase = (network_measurement(masked, mask)[0].maps, network_measurement(masked, mask)[1])
    plain = maps / phase[:, None]  # without the phase in them: what the coils are
    image, _ = cs_wavelet(
        masked, mask, None if num_coils == 1 else plain, prior=prior, gap_tol=1e-3, max_iters=60, final_step=False
    )
    torch.testing.assert_close(example.target, (image * phase.conj())[0], rtol=1e-3, atol=1e-3)
    assert example.valid == (32, 40)
    assert example.held_out is None


def test_the_target_has_the_least_objective_around() -> None:
    """P(x) = 1/2 ||A x - y||^2 + lambda sum w |Re W x| + |Im W x|, written out, is larger at the truth and nearby."""
    from mri_recon.transforms.stationary_wavelets import StationaryWaveletTransform

    kspace, mask = _kspace(1), small_columns()
    example = cs_example(kspace, mask, CsConfig(max_iters=300))
    masked = undersample(kspace, mask)[None]
    _, info = cs_wavelet(masked, mask, gap_tol=1e-3, max_iters=300, final_step=False)
    measurement, _ = network_measurement(masked, mask)
    transform = StationaryWaveletTransform(4, (32, 40), "haar")
    weights = torch.tensor([2.0] + [1.0] * (transform.num_bands - 1), dtype=torch.float64)

    def objective(x: Tensor) -> float:
        bands = transform.forward(x)
        penalty = (bands.real.abs() + bands.imag.abs()).flatten(2).sum(2, dtype=torch.float64) @ weights
        energy = (measurement.residual(x)).abs().square().sum()
        return float(0.5 * energy + info["reg_weight"] * info["sigma"] * penalty)

    least = objective(example.target[None])
    assert least == pytest.approx(info["objective"], rel=1e-4)
    assert info["relative_gap"] < 0.02
    for seed in range(3):
        step = complex_randn(1, 32, 40, seed=seed, dtype=torch.complex64)
        assert objective(example.target[None] + 1e-2 * step) > least
    assert objective(measurement.adjoint()) > 1.05 * least


@pytest.mark.parametrize("num_coils", [1, 2])
def test_what_was_not_sampled_is_not_read(num_coils: int) -> None:
    kspace, mask = _kspace(num_coils), small_columns()
    other = kspace + (~mask.tensor()) * _kspace(num_coils, seed=5)
    for target in ("cs", "ssdu"):
        first, second = (
            make_example(Problem(one, mask), target, CS, SSDU, np.random.default_rng(3))  # type: ignore[arg-type]
            for one in (kspace, other)
        )
        assert torch.equal(first.target, second.target)
        assert torch.equal(first.measurement.samples, second.measurement.samples)
    truths = [make_example(Problem(one, mask), "truth", CS, SSDU, np.random.default_rng(3)) for one in (kspace, other)]
    assert not torch.allclose(truths[0].target, truths[1].target, atol=1e-3)


def test_solutions_are_kept_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kspace, mask = _kspace(2), small_columns()
    config = CS.model_copy(update={"cache": str(tmp_path / "solutions")})
    first = cs_example(kspace, mask, config)
    assert torch.equal(first.target, cs_example(kspace, mask, CS).target)
    assert len(list((tmp_path / "solutions").iterdir())) == 1
    cs_example(kspace, small_columns(seed=2), config)
    cs_example(kspace * 2, mask, config)
    cs_example(kspace, mask, config.model_copy(update={"max_iters": 20}))
    assert len(list((tmp_path / "solutions").iterdir())) == 4
    monkeypatch.setattr("mri_recon_data.examples.targets.cs_wavelet", None)  # not to be called again
    assert torch.equal(cs_example(kspace, mask, config).target, first.target)


def test_a_damaged_solution_is_noticed(tmp_path: Path) -> None:
    config = CS.model_copy(update={"cache": str(tmp_path)})
    cs_example(_kspace(1), small_columns(), config)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"data\.cs\.cache: expected a solution in .*, got a damaged file: delete it"):
        cs_example(_kspace(1), small_columns(), config)


# Undersampled data alone


@pytest.mark.parametrize("num_coils", [1, 3])
@pytest.mark.parametrize("kind", ["columns", "pattern"])
def test_network_sees_theta_and_the_loss_lambda(num_coils: int, kind: str) -> None:
    """Measurements and loss written out with the library's operator."""
    kspace = _kspace(num_coils)
    mask: Mask = small_columns() if kind == "columns" else small_pattern()
    example = ssdu_example(kspace, mask, SSDU, np.random.default_rng(4))
    theta, held_out = split_mask(mask, 0.4, np.random.default_rng(4))
    assert example.held_out is not None
    maps = example.measurement.maps
    seen = SenseOperator(theta.tensor(), maps)
    torch.testing.assert_close(
        example.measurement.adjoint(), seen.adjoint(undersample(kspace, theta)[None]), rtol=1e-4, atol=1e-5
    )
    x = complex_randn(1, 32, 40, dtype=torch.complex64)
    judged = SenseOperator(held_out.tensor(), maps)
    y = undersample(kspace, held_out)
    residual = y - judged.forward(x)[0]
    expected = residual.abs().sum() / y.abs().sum() + residual.norm() / y.norm()
    torch.testing.assert_close(example_loss(x, example, LossConfig()), expected, rtol=1e-4, atol=1e-5)
    half = example_loss(x, example, LossConfig(held_out_l1=0.5, held_out_l2=0.0))
    torch.testing.assert_close(half, 0.5 * residual.abs().sum() / y.abs().sum(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["unet", "unrolled"])
@pytest.mark.parametrize("num_coils", [1, 3])
def test_neither_loss_nor_gradients_know_the_truth(architecture: str, num_coils: int) -> None:
    kspace, mask = _kspace(num_coils), small_columns()
    other = kspace + (~mask.tensor()) * 10 * _kspace(num_coils, seed=5)
    results = []
    for one in (kspace, other):
        network = tiny_network(architecture)
        example = ssdu_example(one, mask, SSDU, np.random.default_rng(4))
        example = Example(example.measurement, example.target + len(results), example.valid, example.held_out)
        loss = example_loss(run_network(network, example.measurement), example, LossConfig())
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        assert sum(float(g.abs().sum()) for g in gradients) > 0
        results.append((loss.detach(), *gradients))
    assert len(results[0]) == len(results[1])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_the_right_image_has_no_loss() -> None:
    kspace = fft2c(phantom(32, 40)).to(torch.complex64)[None]
    example = ssdu_example(kspace, small_columns(), SSDU, np.random.default_rng(4))
    truth = make_example(Problem(kspace, small_columns()), "truth", CS, SSDU, np.random.default_rng(4)).target[None]
    assert float(example_loss(truth, example, LossConfig())) < 1e-5
    assert float(example_loss(example.measurement.adjoint(), example, LossConfig())) > 1.9


def test_samples_that_are_all_zero_do_not_divide() -> None:
    kspace = torch.zeros(1, 32, 40, dtype=torch.complex64)
    kspace[0, 16, 20] = 1
    example = ssdu_example(kspace, small_columns(), SSDU, np.random.default_rng(4))
    assert torch.isfinite(example_loss(torch.zeros(1, 32, 40, dtype=torch.complex64), example, LossConfig()))


# Streams


def _registry_like() -> RegistrySlices:
    rng = np.random.default_rng(0)
    image = np.zeros((60, 50), np.float16)
    image[10:50, 12:40] = rng.uniform(0.5, 1, (40, 28))
    raw = _kspace(1, 33, 31)
    return RegistrySlices((RawSlice(raw, np.ones(31, dtype=bool)),), (ImageSlice(image, "images/studyforrest-t1w"),))


def _config(target: str, **changes: object) -> DataConfig:
    tables = {
        "target": target, "rows": 16, "simulation": {"min_size": 40},
        "sampling": {"acceleration": (2, 3), "center_fraction": (0.1, 0.2)},
        "cs": {"max_iters": 20}, "full_probability": 0.0, "validation_slices": 2,
    }  # fmt: skip
    return DataConfig.model_validate(tables | changes)


@pytest.fixture
def undersampled_folder(tmp_path: Path) -> Path:
    """Two prospectively undersampled files, their masks beside the k-space: one of columns, one of points."""
    for person, mask in enumerate((COLUMNS, small_pattern(40, 24))):
        path = write_fastmri(tmp_path / f"file{person}.h5", patient=f"person{person}", seed=person)
        with h5py.File(path, "r+") as file:
            file["kspace"][...] = file["kspace"][...] * _lines(mask)
            file["mask"] = _lines(mask).astype(np.uint8)
            del file["reconstruction_rss"]
    return tmp_path


@pytest.mark.parametrize("target", ["cs", "ssdu"])
@pytest.mark.parametrize("source", ["registry", "folder", "undersampled"])
def test_a_stream_of_every_source(target: str, source: str, fastmri_folder: Path, undersampled_folder: Path) -> None:
    folder = fastmri_folder if source == "folder" else undersampled_folder
    slices = _registry_like() if source == "registry" else FolderSlices.index(sorted(folder.glob("*.h5")))
    streams = [ExampleStream(slices, _config(target), seed=seed, batch_size=2, steps=4) for seed in (3, 3, 4)]
    for step in range(3):
        for example, again, other in zip(*(stream[step] for stream in streams), strict=True):
            assert torch.equal(example.target, again.target)
            assert torch.equal(example.measurement.samples, again.measurement.samples)
            assert source == "undersampled" or not torch.equal(example.target[:9, :9], other.target[:9, :9])
            assert (example.held_out is None) == (target == "cs")
            output = run_network(tiny_network("unrolled"), example.measurement)
            assert torch.isfinite(example_loss(output, example, LossConfig()).detach())
            if example.held_out is not None:
                assert again.held_out is not None
                assert torch.equal(example.held_out.samples, again.held_out.samples)
                assert example.held_out.samples.shape == example.measurement.samples.shape
                assert example.held_out.samples.abs().max() > 0
            pattern = example.measurement.dims == (-2, -1)
            assert example.target.shape[0] == (40 if pattern else 16)


def test_a_band_is_cut_alike_from_what_is_held_out() -> None:
    whole, band = (
        ExampleStream(_registry_like(), _config("ssdu", rows=rows), seed=0, batch_size=1, steps=1)[0][0]
        for rows in (100, 16)
    )
    assert whole.held_out is not None
    assert band.held_out is not None
    start = next(i for i in range(100) if torch.equal(whole.target[i], band.target[0]))
    rows = slice(start, start + 16)
    assert torch.equal(band.held_out.samples, whole.held_out.samples[..., rows, :])
    assert torch.equal(band.measurement.samples, whole.measurement.samples[..., rows, :])


def test_a_fixed_set_of_problems_comes_back(tmp_path: Path) -> None:
    config = _config("cs", problems=2, cs={"max_iters": 20, "cache": str(tmp_path)}, raw_probability=0.0)
    stream = ExampleStream(_registry_like(), config, seed=0, batch_size=1, steps=12)
    widths = {stream[step][0].target.shape[1] for step in range(12)}
    assert len(widths) <= 2
    assert len(list(tmp_path.iterdir())) == 2
    # The bands and the splits of one problem differ from step to step.
    ssdu = ExampleStream(_registry_like(), _config("ssdu", problems=1), seed=0, batch_size=1, steps=6)
    masks = [ssdu[step][0].measurement.mask for step in range(6)]
    assert len({mask.numel() for mask in masks}) == 1
    assert any(not torch.equal(masks[0], mask) for mask in masks)


def test_the_truth_of_an_undersampled_file(undersampled_folder: Path) -> None:
    slices = FolderSlices.index(sorted(undersampled_folder.glob("*.h5")))
    with pytest.raises(DataError, match="expected a fully sampled scan, got an undersampled one, which has no truth"):
        ExampleStream(slices, _config("truth"), seed=0, batch_size=1, steps=1)[0]
    with pytest.raises(DataError, match="which has no truth"):
        validation_examples(slices, _config("truth"), seed=0)


def test_an_undersampled_file_without_a_mask(undersampled_folder: Path) -> None:
    path = undersampled_folder / "file0.h5"
    with h5py.File(path, "r+") as file:
        del file["mask"]
    with pytest.raises(
        DataError, match=r"expected full k-space or a mask in file0\.h5, got undersampled k-space alone"
    ):
        ExampleStream(FolderSlices.index([path]), _config("ssdu"), seed=0, batch_size=1, steps=1)[0]


@pytest.mark.parametrize("target", ["cs", "ssdu"])
def test_validation_without_a_truth_knows_more_lines_than_the_network(target: str, undersampled_folder: Path) -> None:
    slices = FolderSlices.index([undersampled_folder / "file0.h5"])
    examples = validation_examples(slices, _config(target), seed=0)
    assert [name for name, _ in examples] == ["undersampled"] * 2
    for _, example in examples:
        assert example.held_out is not None
        assert not (example.measurement.mask * example.held_out.mask).any()
        assert example.measurement.mask.sum() + example.held_out.mask.sum() == COLUMNS.num_lines
        assert example.valid == (20, 24)
        zero_filled = example.measurement.adjoint()[0] + example.held_out.adjoint()[0]
        assert (example.target - zero_filled).norm() < 0.5 * zero_filled.norm()


@pytest.mark.parametrize("target", ["truth", "cs", "ssdu"])
def test_validation_of_full_files_is_against_the_truth(target: str, tmp_path: Path) -> None:
    # Wide enough that the centre at 8x has the two lines that maps need.
    slices = FolderSlices.index([write_fastmri(tmp_path / "wide.h5", shape=(2, 2, 30, 50), recon=(20, 40))])
    examples = validation_examples(slices, _config(target), seed=0)
    truth = validation_examples(slices, _config("truth"), seed=0)
    assert [name for name, _ in examples] == ["raw-4x", "raw-8x"] * 2
    for (_, example), (_, expected) in zip(examples, truth, strict=True):
        assert torch.equal(example.target, expected.target)
        assert torch.equal(example.measurement.samples, expected.measurement.samples)


def test_masks_leave_lines_to_hold_out() -> None:
    config = _config(
        "ssdu", sampling={"acceleration": (12, 12), "default_center": 0.0, "center_fraction": (0.08, 0.08)}
    )
    kspace = _kspace(1, 32, 100)
    slices = RegistrySlices((RawSlice(kspace, np.ones(100, dtype=bool)),), ())
    for step in range(5):
        (example,) = ExampleStream(slices, config, seed=0, batch_size=1, steps=5)[step]
        assert example.held_out is not None
        assert example.held_out.mask.sum() >= 1


@pytest.mark.parametrize(
    "wrong", [{"target": "label"}, {"ssdu": {"held_out": 0.0}}, {"cs": {"prior": "cycle-spinning"}}, {"problems": -1}]
)
def test_impossible_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DataConfig.model_validate(wrong)


# Learning


def _overfit(example: Example, steps: int = 100) -> tuple[Tensor, float, float]:
    """Train a small network on one example; its image, the first and the last loss."""
    torch.manual_seed(0)
    network = tiny_network("unrolled", chans=8, num_cascades=3, patch=1)
    for refinement in network.refinements:  # type: ignore[union-attr]
        nn.init.zeros_(refinement.head.weight)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        image = run_network(network, example.measurement)
        loss = example_loss(image, example, LossConfig(ssim=0.0))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return image.detach()[0], losses[0], losses[-1]


@pytest.mark.parametrize("target", ["truth", "cs", "ssdu"])
def test_a_network_learns_one_example(target: str) -> None:
    kspace, mask = _kspace(1, 24, 32), random_mask(32, 2, num_low_frequencies=6, seed=1)
    problem = Problem(kspace, mask)
    example = make_example(problem, target, CsConfig(), SSDU, np.random.default_rng(0))  # type: ignore[arg-type]
    image, first, last = _overfit(example)
    assert last < 0.3 * first, (first, last)
    if target != "ssdu":
        start = example.measurement.adjoint()[0]
        assert (image - example.target).norm() < 0.4 * (start - example.target).norm()
