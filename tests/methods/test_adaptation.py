from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mri_recon.errors import Cancelled, MaskError, MethodError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask, Mask, PatternMask
from mri_recon.methods import adaptation
from mri_recon.methods.adaptation import LEAST_OUTSIDE, adapt_network, fixed_split
from mri_recon.models.checkpoint import load_named
from mri_recon.models.inference import network_measurement
from mri_recon.progress import Progress
from mri_recon.reconstruction import reconstruct, reconstruct_batch
from mri_recon.transforms.fourier import fft2c
from tests.support.helpers import complex_randn, phantom, smooth_maps
from tests.support.networks import tiny_network, tiny_weights

COLUMNS = random_mask(45, 2, num_low_frequencies=8, seed=1)


def _pattern(h: int = 26, w: int = 45) -> PatternMask:
    pattern = np.random.default_rng(0).random((h, w)) < 0.5
    pattern[h // 2 - 5 : h // 2 + 5, w // 2 - 5 : w // 2 + 5] = True
    return PatternMask(pattern)


MASKS = [pytest.param(COLUMNS, id="columns"), pytest.param(_pattern(), id="pattern")]


def _scan(slices: int, coils: int, h: int = 26, w: int = 45) -> Tensor:
    sizes = torch.linspace(1, 2, slices)[:, None, None, None]
    images = sizes * smooth_maps(coils, h, w) * phantom(h, w) + 0.01 * complex_randn(slices, coils, h, w)
    return fft2c(images).to(torch.complex64)


def _adapted(kspace: Tensor, mask: Mask, maps: Tensor, network: Any, **options: Any) -> tuple[dict[str, Tensor], Any]:
    adapted, report = adapt_network(network, kspace, mask, maps, **options)
    return adapted.state_dict(), report


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are judged at every step, and change quickly."""
    monkeypatch.setattr(adaptation, "_LEAST_BETWEEN", 1)
    monkeypatch.setattr(adaptation, "_CHECKS", 1000)
    monkeypatch.setattr(adaptation, "_LEARNING_RATE", 1e-3)
    monkeypatch.setattr(adaptation, "_LEAST_GAIN", 0.0)


@pytest.fixture
def never_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "_LEARNING_RATE", 0.0)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("seed", [0, 5])
def test_the_three_parts_have_nothing_in_common_and_the_centre_stays(mask: Mask, seed: int) -> None:
    split = fixed_split(undersample(_scan(1, 1), mask), mask, seed=seed)
    validation = split.validation.array
    assert validation.any()
    losses = []
    for number in range(1, 30):
        given, judged = (part.array for part in split.step(number))
        assert given.any()
        assert judged.any()
        assert not (validation & (given | judged)).any()
        assert not (given & judged).any()
        assert ((given | judged | validation) == mask.array).all()
        assert given[19:27].all() if given.ndim == 1 else given[8:18, 17:27].all()
        assert (given & split.keep == split.keep & mask.array).all()
        losses.append(judged)
    assert any((losses[0] != other).any() for other in losses[1:])


def test_lines_about_an_echo_off_the_centre_stay_in_the_input() -> None:
    """Maps and phase are read from them: they can be no validation lines."""
    lines = np.zeros(64, dtype=np.bool_)
    lines[29:35] = lines[44:52] = lines[2:28:3] = lines[56::2] = True
    mask = ColumnMask(lines)
    kspace = undersample(_scan(1, 1, 26, 64).roll(16, dims=-1), mask)
    split = fixed_split(kspace, mask, seed=0)
    assert split.keep[46:50].all()
    assert not (split.validation.array & split.keep).any()


@pytest.mark.parametrize("mask", MASKS)
def test_training_does_not_read_the_validation_samples(mask: Mask, every_step: None) -> None:
    """Other values there change which weights are kept, never the weights of a step."""
    kspace = undersample(_scan(2, 3), mask)
    maps = network_measurement(kspace, mask)[0].maps
    split = fixed_split(kspace, mask, seed=3)
    other = kspace + 5 * undersample(complex_randn(*kspace.shape).to(torch.complex64), split.validation)
    weights = []
    for scan in (kspace, other):
        learner = adaptation._Learner.of(tiny_network("cascade"), adaptation._Scan.of(scan, maps, split, None), 1e-3)
        for number in (1, 2):
            learner.step(number)
        weights.append((learner.average.state_dict(), learner.validation_error()))
    assert all(torch.equal(value, weights[1][0][name]) for name, value in weights[0][0].items())
    assert weights[0][1] != weights[1][1]


@pytest.mark.parametrize(
    ("architecture", "slices", "coils", "mask"),
    [
        ("cascade", 2, 1, COLUMNS),
        ("cascade", 1, 3, COLUMNS),
        ("cascade", 1, 3, _pattern()),
        ("unrolled", 1, 1, _pattern()),
        ("unet", 2, 3, COLUMNS),
    ],
)
def test_a_copy_that_predicts_held_out_samples_better(
    architecture: str, slices: int, coils: int, mask: Mask, every_step: None
) -> None:
    kspace = undersample(_scan(slices, coils), mask)
    maps = network_measurement(kspace, mask)[0].maps
    network = tiny_network(architecture)
    before = copy.deepcopy(network.state_dict())
    steps = list[int]()
    adapted, report = adapt_network(network, kspace, mask, maps, steps=5, seed=2, on_step=steps.append)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert adapted is not network
    assert not any(parameter.requires_grad for parameter in adapted.parameters())
    assert report["validation_after"] < report["validation_before"]
    assert 0 < report["kept_step"] <= report["steps"] <= 5
    assert steps == list(range(1, report["steps"] + 1))
    assert sum(report["lines"].values()) == np.count_nonzero(mask.array)
    assert json.loads(json.dumps(report)) == report


def test_equal_seeds_give_equal_weights(every_step: None) -> None:
    kspace = undersample(_scan(2, 1), COLUMNS)
    maps = network_measurement(kspace, COLUMNS)[0].maps
    one, again, other = (
        _adapted(kspace, COLUMNS, maps, tiny_network("cascade"), steps=3, seed=seed) for seed in (1, 1, 2)
    )
    assert all(torch.equal(value, again[0][name]) for name, value in one[0].items())
    assert any(not torch.equal(value, other[0][name]) for name, value in one[0].items())
    assert one[1]["validation_before"] == again[1]["validation_before"] != other[1]["validation_before"]


def test_a_band_of_rows_is_a_step(monkeypatch: pytest.MonkeyPatch, every_step: None) -> None:
    seen = list[tuple[int, ...]]()
    run: Callable[..., Tensor] = adaptation.run_network

    def watched(network: Any, measurement: Any, margin: int = 0) -> Tensor:
        seen.append(tuple(measurement.samples.shape))
        return run(network, measurement, margin)

    monkeypatch.setattr(adaptation, "run_network", watched)
    for mask, rows in ((COLUMNS, 64), (_pattern(91), 91)):
        seen.clear()
        kspace = undersample(_scan(1, 1, 91), mask)
        adapt_network(tiny_network("cascade"), kspace, mask, torch.ones_like(kspace), steps=1)
        assert seen == [(1, 1, 91, 45), (1, 1, rows, 45), (1, 1, 91, 45)]  # judged, a step, judged


def test_the_given_weights_stay_where_nothing_is_better(never_better: None, tmp_path: Path) -> None:
    model = tiny_weights("unrolled", tmp_path)
    kspace = undersample(_scan(1, 1), COLUMNS)
    plain = reconstruct(kspace, COLUMNS, method="unrolled", model=model)
    result = reconstruct(kspace, COLUMNS, method="unrolled", model=model, adapt=200)
    assert torch.equal(result.image, plain.image)
    report = result.info["adaptation"]
    assert report["kept_step"] == 0
    assert report["validation_before"] == report["validation_after"]
    assert report["steps"] == 80  # four times in a row without a gain
    assert any("adaptation did not help: in 80 steps" in warning for warning in result.warnings)
    assert "adaptation" not in plain.info


def test_a_small_gain_is_no_gain(every_step: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "_LEAST_GAIN", 0.5)
    kspace, network = undersample(_scan(1, 1), COLUMNS), tiny_network("cascade")
    adapted, report = adapt_network(network, kspace, COLUMNS, torch.ones_like(kspace), steps=3)
    assert adapted is network
    assert (report["kept_step"], report["validation_after"]) == (0, report["validation_before"])


@pytest.mark.parametrize("architecture", ["cascade", "unet"])
def test_the_option(architecture: str, tmp_path: Path, every_step: None) -> None:
    model = tiny_weights(architecture, tmp_path)
    method = "unet" if architecture == "unet" else "unrolled"
    kspace = undersample(_scan(2, 3), COLUMNS)
    loaded = load_named(model)
    before = copy.deepcopy(loaded.network.state_dict())

    def run(factor: float = 1.0, **options: Any) -> Any:
        return reconstruct(factor * kspace, COLUMNS, method=method, model=model, **options)

    plain, adapted = run(), run(adapt=3)
    assert all(torch.equal(value, before[name]) for name, value in load_named(model).network.state_dict().items())
    assert torch.equal(run(adapt=0, adapt_seed=3).image, plain.image)
    assert torch.equal(run(adapt=3).image, adapted.image)
    assert not torch.equal(adapted.image, plain.image)
    assert adapted.model == plain.model
    assert not [text for text in adapted.warnings if "adaptation" in text]
    large = run(1e6, adapt=3).image / 1e6
    assert (large - adapted.image).norm() < 1e-3 * adapted.image.norm()
    assert (large - adapted.image).norm() < 0.2 * (plain.image - adapted.image).norm()
    with torch.inference_mode():
        assert torch.equal(run(adapt=3).image, adapted.image)


def test_given_maps_and_noise(tmp_path: Path, every_step: None) -> None:
    model = tiny_weights("cascade", tmp_path)
    kspace, maps = undersample(_scan(1, 3), COLUMNS), smooth_maps(3, 26, 45).to(torch.complex64)
    common: dict[str, Any] = {"method": "unrolled", "model": model, "adapt": 3, "sens_maps": maps}
    results = [reconstruct(kspace, COLUMNS, **common, sigma=sigma) for sigma in (0.01, 0.3)]
    assert results[0].info["adaptation"]["validation_before"] != results[1].info["adaptation"]["validation_before"]


@pytest.mark.parametrize("found", [0, LEAST_OUTSIDE - 1])
def test_too_few_lines_outside_the_centre(found: int, tmp_path: Path) -> None:
    lines = np.zeros(45, dtype=np.bool_)
    lines[18:27] = True
    lines[: 2 * found : 2] = True
    mask = ColumnMask(lines)
    with pytest.raises(MaskError, match=rf"adapt: expected at least {LEAST_OUTSIDE} sampled lines .*, got {found}: "):
        reconstruct(
            undersample(_scan(1, 1), mask), mask, method="unrolled", model=tiny_weights("unrolled", tmp_path), adapt=5
        )


def test_a_scan_without_samples_outside_a_pattern_centre() -> None:
    pattern = np.zeros((26, 45), dtype=np.bool_)
    pattern[8:18, 17:27] = True
    kspace = undersample(_scan(1, 1), PatternMask(pattern))
    with pytest.raises(MaskError, match="sampled positions outside the fully sampled centre .*, got 0: sample more"):
        fixed_split(kspace, PatternMask(pattern), seed=0)


def test_a_loss_that_is_not_finite() -> None:
    kspace = undersample(_scan(1, 1), COLUMNS)
    network = tiny_network("cascade")
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    with pytest.raises(MethodError, match="adapt: expected a finite loss, got nan at step 1: leave adapt out"):
        adapt_network(network, kspace, COLUMNS, torch.ones_like(kspace), steps=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapt": -1}, "expected adapt to be a whole number >= 0 and <= 1000, got -1: 0 leaves the weights"),
        ({"adapt": 1001}, "expected adapt"),
        ({"adapt": 2.5}, "expected adapt"),
        ({"adapt": True}, "expected adapt"),
        ({"adapt_seed": -1}, "expected adapt_seed"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        reconstruct(undersample(_scan(1, 1), COLUMNS), COLUMNS, method="unrolled", **options)


def test_several_problems_at_once_are_not_adapted() -> None:
    problem = (undersample(_scan(1, 1), COLUMNS), COLUMNS)
    with pytest.raises(MethodError, match="options that several problems at once can have, got 'adapt': call reconst"):
        reconstruct_batch([problem, problem], method="unrolled", adapt=5)


def test_progress_and_stopping(tmp_path: Path, every_step: None) -> None:
    model = tiny_weights("cascade", tmp_path)
    kspace = undersample(_scan(2, 1), COLUMNS)
    seen = list[Progress]()
    result = reconstruct(kspace, COLUMNS, method="unrolled", model=model, adapt=5, on_progress=seen.append)
    steps = result.info["adaptation"]["steps"]
    adapting = [Progress("unrolled", "adapt", n, 5) for n in range(steps + 1)]
    assert seen[1:] == [*adapting, *(Progress("unrolled", "network", n, 2) for n in range(3))]

    def stop(progress: Progress) -> None:
        if (progress.stage, progress.iteration) == ("adapt", 2):
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        reconstruct(kspace, COLUMNS, method="unrolled", model=model, adapt=5, on_progress=stop)
