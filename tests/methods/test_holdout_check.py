"""The hold-out check of `reconstruct`: its figures, its warning, what it refuses, and that it changes no image."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mri_recon as mr
from mri_recon.coils.prepare import prepare
from mri_recon.errors import MaskError, MethodError
from mri_recon.masks.folds import NUM_FOLDS
from mri_recon.masks.types import ColumnMask, Mask, PatternMask
from mri_recon.methods.checks import num_runs
from mri_recon.methods.holdout import Prediction, compare_predictions, difference_db, hold_out, predict
from mri_recon.methods.holdout_check import behind
from mri_recon.progress import Progress
from mri_recon.transforms.fourier import fft2c, ifft2c
from tests.support.helpers import smooth_maps
from tests.support.methods import add_method

SIGMA = 0.005


def scan(shape: tuple[int, ...], *, seed: int = 0) -> Tensor:
    """Full k-space (slice, coil, readout, phase) of blocks, with smooth maps and noise."""
    slices, coils, h, w = shape
    rng = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    image = ((y.abs() < 0.8) & (x.abs() < 0.7)) * (1 + 0.5 * torch.sign(torch.sin(9 * x) * torch.sin(7 * y)))
    images = torch.stack([image * (1 + 0.3 * number) for number in range(slices)]).to(torch.complex64)
    maps = smooth_maps(coils, h, w).to(torch.complex64) if coils > 1 else torch.ones(1, h, w, dtype=torch.complex64)
    noise = torch.complex(*(torch.randn((slices, coils, h, w), generator=rng) for _ in range(2)))
    return fft2c(maps * images[:, None]) + SIGMA / 2**0.5 * noise


def masked(shape: tuple[int, ...], acceleration: float = 2) -> tuple[Tensor, ColumnMask]:
    mask = mr.random_mask(shape[-1], acceleration, num_low_frequencies=12, seed=1)
    return mr.undersample(scan(shape), mask), mask


@pytest.mark.parametrize("shape", [(1, 1, 33, 61), (2, 4, 40, 54)])
@pytest.mark.parametrize("method", ["zero-filled", "cg-sense", "unrolled"])
def test_the_check_adds_figures_and_changes_no_image(shape: tuple[int, ...], method: str) -> None:
    kspace, mask = masked(shape)
    plain = mr.reconstruct(kspace, mask, method=method)
    found = mr.reconstruct(kspace, mask, method=method, check="holdout")
    assert torch.equal(found.image, plain.image)
    assert "holdout" not in plain.info
    report = found.info["holdout"]
    json.dumps(report)
    assert report["runs"] == num_runs("holdout") == 1 + NUM_FOLDS
    assert len(report["folds_db"]) == NUM_FOLDS
    assert 0 < report["held_lines"] < mask.num_lines - 12
    assert report["seconds"] > 0
    assert set(report["references"]) == {"zero-filled", "cg-sense"}
    for one in report["references"].values():
        assert one["behind_db"] == pytest.approx(report["error_db"] - one["error_db"])
        assert one["behind_uncertainty_db"] >= 0
    assert report["noise_floor_db"] < 0


def test_cg_sense_is_its_own_reference() -> None:
    kspace, mask = masked((2, 4, 40, 54))
    report = mr.reconstruct(kspace, mask, method="cg-sense", check="holdout").info["holdout"]
    assert report["references"]["cg-sense"]["behind_db"] == pytest.approx(0, abs=1e-3)
    assert report["references"]["zero-filled"]["behind_db"] != pytest.approx(0, abs=1e-3)


def test_maps_from_the_center_have_a_phase_of_their_own() -> None:
    kspace, mask = masked((1, 4, 40, 54))
    espirit, center = (
        mr.reconstruct(kspace, mask, method="cg-sense", maps=maps, check="holdout").info["holdout"]["error_db"]
        for maps in ("espirit", "center")
    )
    assert center == pytest.approx(espirit, abs=1.5)


@pytest.mark.parametrize("combination", ["rss", "adaptive"])
def test_magnitudes_get_the_phase_of_the_scan(combination: str) -> None:
    kspace, mask = masked((1, 4, 40, 54))
    found = mr.reconstruct(kspace, mask, method="zero-filled", combination=combination, check="holdout")
    report = found.info["holdout"]
    assert report["error_db"] == pytest.approx(report["references"]["zero-filled"]["error_db"], abs=0.7)


def _astray(kspace: Tensor, mask: Mask, **_: Any) -> tuple[Tensor, dict[str, Any]]:
    """An image that looks like one and has nothing to do with the scan."""
    image = ifft2c(kspace)[:, 0]
    return image + image.flip(-2), {"warnings": ["mine"]}


@pytest.mark.parametrize("coils", [1, 4])
def test_a_method_that_goes_wrong_gets_the_first_warning(monkeypatch: pytest.MonkeyPatch, coils: int) -> None:
    add_method(monkeypatch, "astray", _astray)
    kspace, mask = masked((1, coils, 40, 61))
    found = mr.reconstruct(kspace, mask, method="astray", check="holdout")
    first, *others = found.warnings
    if coils == 1:  # the flipped image adds nothing on the lines held out, which neither image has
        assert first == "mine"
        return
    assert first.startswith("hold-out check: astray predicts measured samples that it was not shown with an error")
    assert f"{found.info['holdout']['error_db']:.1f} dB" in first
    assert "cg-sense" in first
    assert "mine" in others
    assert mr.reconstruct(kspace, mask, method="cg-sense", check="holdout").warnings == ()


def test_behind_means_more_than_chance_on_the_same_lines() -> None:
    energies, folds = np.ones(8), np.arange(8) % 3
    lines = np.array([0.1, 5.0, 0.2, 0.3, 2.0, 0.1, 0.4, 0.2])
    reference = Prediction(lines, energies, folds, 0.01)
    always = Prediction(1.2 * lines, energies, folds, 0.01)  # 20 % worse on every line: certain
    worse, error = difference_db(always, reference)
    assert worse == pytest.approx(10 * math.log10(1.2))
    assert error == pytest.approx(0, abs=1e-9)
    assert reference.uncertainty_db > 1
    assert behind(always, reference)
    assert not behind(reference, always)
    assert not behind(reference, reference)
    changed = lines.copy()
    changed[1] = 8.0  # one line alone
    assert not behind(Prediction(changed, energies, folds, 0.01), reference)


def test_the_standard_error_of_a_difference_is_that_of_the_jackknife() -> None:
    one, other = np.array([0.1, 0.4, 0.3]), np.array([0.2, 0.1, 0.1])
    _, error = difference_db(*(Prediction(each, np.ones(3), np.zeros(3, dtype=int), 0.1) for each in (one, other)))
    left = 10 * np.log10([0.7 / 0.2, 0.4 / 0.3, 0.5 / 0.3])
    assert error == pytest.approx(np.sqrt(2 / 3 * ((left - left.mean()) ** 2).sum()))


def test_too_few_lines_are_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the method ran")

    add_method(monkeypatch, "never", never)
    mask = mr.random_mask(48, 4, num_low_frequencies=8, seed=0)
    kspace = mr.undersample(scan((1, 1, 30, 48)), mask)
    with pytest.raises(
        MaskError, match=r"hold-out check: expected at least 6 sampled lines .*got 4: leave the check out"
    ):
        mr.reconstruct(kspace, mask, method="never", check="holdout")


def test_an_unknown_check_is_refused() -> None:
    kspace, mask = masked((1, 1, 20, 48))
    with pytest.raises(MethodError, match="expected check to be one of holdout or None, got 'hold-out'"):
        mr.reconstruct(kspace, mask, method="zero-filled", check="hold-out")


def test_a_smaller_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    add_method(monkeypatch, "small", lambda kspace, mask, **_: (ifft2c(kspace)[:, 0, 1:-1], {}))
    kspace, mask = masked((1, 1, 20, 48))
    with pytest.raises(
        MethodError, match=r"'small': expected an image of the size of k-space, \(20, 48\), got \(18, 48\)"
    ):
        mr.reconstruct(kspace, mask, method="small", check="holdout")


def test_empty_slices_and_dead_lines_do_not_count() -> None:
    kspace, mask = masked((3, 3, 40, 54))
    dead = int(np.flatnonzero(mask.lines)[0])
    kspace[..., dead] = 0
    without = mr.reconstruct(kspace[[0, 2]], mask, method="cg-sense", check="holdout").info["holdout"]
    kspace[1] = 0
    with_empty = mr.reconstruct(kspace, mask, method="cg-sense", check="holdout").info["holdout"]
    for key in ("error_db", "uncertainty_db", "folds_db", "held_lines"):
        assert with_empty[key] == pytest.approx(without[key], abs=1e-4)


def test_a_pattern_counts_samples() -> None:
    pattern = np.random.default_rng(2).random((33, 47)) < 0.4
    pattern[13:20, 19:28] = True
    mask = PatternMask(pattern)
    kspace = mr.undersample(scan((1, 3, 33, 47)), mask)
    maps = smooth_maps(3, 33, 47).to(torch.complex64)
    found = mr.reconstruct(kspace, mask, method="cg-sense", sens_maps=maps, reg_weight=1e-3, check="holdout")
    assert found.info["holdout"]["held_samples"] == pytest.approx(0.6 * (pattern.sum() - 7 * 9), abs=3)
    assert found.info["holdout"]["error_db"] < -1


def test_an_echo_off_the_center_keeps_its_lines() -> None:
    kspace = torch.roll(scan((1, 1, 40, 64)), 14, dims=-1)
    lines = np.arange(64) % 3 == 0
    lines[26:54] = True
    mask = ColumnMask(lines)
    report = mr.reconstruct(mr.undersample(kspace, mask), mask, method="zero-filled", check="holdout").info["holdout"]
    assert report["error_db"] == pytest.approx(0, abs=1e-3)
    assert report["held_lines"] < 15


def test_preparation_comes_once_and_before_the_folds() -> None:
    kspace, mask = masked((1, 6, 40, 54))
    noise = torch.complex(*(torch.randn(6, 500, generator=torch.Generator().manual_seed(3)) for _ in range(2)))
    report = mr.reconstruct(
        kspace, mask, method="cg-sense", prewhiten=noise, num_virtual_coils=4, check="holdout"
    ).info["holdout"]
    prepared = prepare(kspace, mask, prewhiten=noise, num_virtual_coils=4)
    data = hold_out(prepared.kspace, mask)
    found = compare_predictions(data, predict(data, lambda y, m: mr.reconstruct(y, m, method="cg-sense").image))
    assert report["error_db"] == pytest.approx(found.error_db, abs=1e-3)


def test_given_maps_are_used_for_the_prediction() -> None:
    shape = (1, 4, 40, 54)
    kspace, mask = masked(shape)
    maps = smooth_maps(*shape[1:]).to(torch.complex64)
    right, wrong = (
        mr.reconstruct(kspace, mask, method="cg-sense", sens_maps=given, reg_weight=1e-3, check="holdout").info[
            "holdout"
        ]["error_db"]
        for given in (maps, maps.roll(1, 0))
    )
    assert right < -5
    assert wrong > right + 3


def test_the_check_tells_how_far_it_is_and_can_be_stopped() -> None:
    kspace, mask = masked((1, 1, 30, 54))
    told: list[Progress] = []
    mr.reconstruct(kspace, mask, method="cs-wavelet", max_iters=4, check="holdout", on_progress=told.append)
    checks = [one.iteration for one in told if one.stage == "check"]
    assert sorted(checks) == checks
    assert set(checks) == set(range(NUM_FOLDS + 1))
    assert len(checks) > NUM_FOLDS + 4  # also between the iterations of a fold

    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.stage == "check" and progress.iteration == 1:
            raise Stopped

    with pytest.raises(Stopped):
        mr.reconstruct(kspace, mask, method="cs-wavelet", max_iters=4, check="holdout", on_progress=stop)


def test_the_units_do_not_matter() -> None:
    kspace, mask = masked((1, 3, 33, 61))
    one, other = (
        mr.reconstruct(factor * kspace, mask, method="cg-sense", check="holdout").info["holdout"] for factor in (1, 1e6)
    )
    for key in ("error_db", "uncertainty_db", "noise_floor_db"):
        assert one[key] == pytest.approx(other[key], abs=1e-3)


def test_runs_cost() -> None:
    assert num_runs(None) == 1
    with pytest.raises(MethodError, match="got 'other'"):
        num_runs("other")
