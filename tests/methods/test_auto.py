"""`auto`: what it takes, from what it is told, and where it falls back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mri_recon as mr
from mri_recon.errors import Cancelled, MaskError, MethodError
from mri_recon.masks.types import ColumnMask, PatternMask
from mri_recon.progress import Progress
from mri_recon.reconstruction import UsedModel
from mri_recon.transforms.fourier import ifft2c
from tests.methods.test_holdout_check import masked, scan
from tests.support.helpers import smooth_maps
from tests.support.methods import add_method
from tests.support.networks import tiny_weights

CHEAP = "cg-sense,cs-wavelet:max_iters=10"


@pytest.mark.parametrize("shape", [(1, 1, 33, 61), (2, 4, 40, 54)])
def test_the_image_is_the_mixture_it_says(shape: tuple[int, ...]) -> None:
    kspace, mask = masked(shape)
    found = mr.reconstruct(kspace, mask, method="auto", candidates=CHEAP)
    told = found.info["auto"]
    json.dumps(found.info)
    assert told["how"] == "mixture"
    assert list(told["weights"]) == CHEAP.split(",")
    assert sum(told["weights"].values()) == pytest.approx(1)
    assert set(told["predictions"]) == set(told["weights"])
    assert told["runner_up"] in told["weights"]
    assert told["runner_up"] in told["why"]
    images = {
        "cg-sense": mr.reconstruct(kspace, mask, method="cg-sense").image,
        "cs-wavelet:max_iters=10": mr.reconstruct(kspace, mask, method="cs-wavelet", max_iters=10).image,
    }
    expected = torch.stack([weight * images[label] for label, weight in told["weights"].items()]).sum(0)
    torch.testing.assert_close(found.image, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert set(found.info["reports"]) == {label for label, weight in told["weights"].items() if weight > 0}
    assert found.model is None
    assert found.models == ()


def test_the_choice_is_the_image_of_one() -> None:
    kspace, mask = masked((1, 4, 40, 54))
    found = mr.reconstruct(kspace, mask, method="auto", candidates=CHEAP, how="choice")
    told = found.info["auto"]
    (chosen,) = [label for label, weight in told["weights"].items() if weight == 1]
    errors = {label: one["error_db"] for label, one in told["predictions"].items()}
    assert errors[chosen] == min(errors.values())
    assert found.info["holdout"]["error_db"] >= errors[chosen] - 1e-6  # another may be chosen from the other folds
    method, _, _ = chosen.partition(":")
    options = {"max_iters": 10} if method == "cs-wavelet" else {}
    alone = mr.reconstruct(kspace, mask, method=method, **options).image
    torch.testing.assert_close(found.image, alone, rtol=0, atol=1e-4 * float(alone.abs().max()))


def test_it_is_repeatable_and_the_check_costs_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def counted(kspace: Tensor, mask: Any, **given: Any) -> Any:
        runs.append(1)
        return ifft2c(kspace)[:, 0], {}

    add_method(monkeypatch, "counted", counted)
    kspace, mask = masked((1, 1, 33, 61))
    options: dict[str, Any] = {"candidates": ("counted", "cs-wavelet:max_iters=5")}
    first = mr.reconstruct(kspace, mask, method="auto", **options)
    assert len(runs) <= 4
    second = mr.reconstruct(kspace, mask, method="auto", check="holdout", **options)
    assert torch.equal(first.image, second.image)
    assert len(runs) <= 8
    assert first.info["holdout"]["error_db"] == second.info["holdout"]["error_db"]


def _beside(kspace: Tensor, mask: Any, **_: Any) -> tuple[Tensor, dict[str, Any]]:
    image = ifft2c(kspace)[:, 0]
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(image.dtype)
    return image + 3 * image.abs().max() * noise, {}


def _fails(*_: Any, **__: Any) -> Any:
    raise MethodError("expected another day, got this one: wait")


def test_garbage_gets_no_weight_and_what_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    add_method(monkeypatch, "garbage", _beside)
    add_method(monkeypatch, "fails", _fails)
    kspace, mask = masked((1, 1, 33, 61))
    found = mr.reconstruct(kspace, mask, method="auto", candidates="garbage,fails,cs-wavelet:max_iters=10")
    told = found.info["auto"]
    assert told["weights"]["garbage"] <= 0.05
    assert told["left_out"] == {"fails": "expected another day, got this one: wait"}
    assert "auto left out fails: expected another day, got this one: wait" in found.warnings


def test_a_candidate_that_fails_on_all_lines_is_weighed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kspace, mask = masked((1, 3, 40, 54))

    def fails_on_the_whole(y: Tensor, m: ColumnMask, **given: Any) -> Any:
        if m.num_lines == mask.num_lines:
            raise MethodError("too many lines")
        from mri_recon.methods.cs_wavelet import cs_wavelet

        return cs_wavelet(y, m, given["sens_maps"], max_iters=10)

    add_method(monkeypatch, "picky", fails_on_the_whole)
    found = mr.reconstruct(kspace, mask, method="auto", candidates="picky,cg-sense")
    assert found.info["auto"]["weights"] == {"cg-sense": 1}
    assert found.info["auto"]["left_out"] == {"picky": "too many lines"}


def test_no_candidate_works(monkeypatch: pytest.MonkeyPatch) -> None:
    add_method(monkeypatch, "fails", _fails)
    kspace, mask = masked((1, 1, 33, 61))
    with pytest.raises(
        MethodError, match="expected a candidate that works on this scan, got fails: expected another day"
    ):
        mr.reconstruct(kspace, mask, method="auto", candidates="fails")


@pytest.mark.parametrize("coils", [1, 3])
def test_too_few_lines_fall_back_to_compressed_sensing(coils: int) -> None:
    mask = mr.random_mask(48, 4, num_low_frequencies=8, seed=0)
    kspace = mr.undersample(scan((1, coils, 30, 48)), mask)
    found = mr.reconstruct(kspace, mask, method="auto", candidates="cg-sense,zero-filled")
    alone = mr.reconstruct(kspace, mask, method="cs-wavelet").image
    torch.testing.assert_close(found.image, alone, rtol=0, atol=1e-4 * float(alone.abs().max()))
    assert found.info["auto"]["how"] == "fallback"
    assert found.info["auto"]["weights"] == {"cs-wavelet": 1}
    assert found.warnings[0].startswith("auto took cs-wavelet, because there are too few lines to test the candidates")
    assert "got 4" in found.warnings[0]
    assert "holdout" not in found.info
    with pytest.raises(MaskError, match="hold-out check: expected at least 6"):
        mr.reconstruct(kspace, mask, method="auto", check="holdout")


def test_networks_are_named_with_their_weights(tmp_path: Path) -> None:
    network = tiny_weights("unet", tmp_path)
    kspace, mask = masked((1, 1, 33, 61))
    label = f"unet:model={network}"
    found = mr.reconstruct(kspace, mask, method="auto", candidates=f"{label},cg-sense")
    alone = mr.reconstruct(kspace, mask, method="unet", model=network).model
    assert alone is not None
    assert found.models == (UsedModel("tiny", alone.sha256, label),)
    assert mr.reconstruct(kspace, mask, method="unet", model=network).models == (alone,)


def test_the_default_candidates(tmp_path: Path) -> None:
    kspace, mask = masked((1, 2, 40, 54))
    found = mr.reconstruct(kspace, mask, method="auto")
    assert list(found.info["auto"]["weights"]) == ["cs-wavelet", "unet", "unrolled"]
    assert [one.name for one in found.models] == ["unet", "unrolled"]


def test_a_pattern_and_given_maps() -> None:
    pattern = np.random.default_rng(2).random((33, 47)) < 0.4
    pattern[13:20, 19:28] = True
    mask = PatternMask(pattern)
    kspace = mr.undersample(scan((1, 3, 33, 47)), mask)
    maps = smooth_maps(3, 33, 47).to(torch.complex64)
    found = mr.reconstruct(kspace, mask, method="auto", candidates="zero-filled,cg-sense", sens_maps=maps)
    assert found.info["auto"]["weights"]["cg-sense"] > 0.5
    assert found.image.is_complex()


def test_empty_slices_are_left_out() -> None:
    kspace, mask = masked((3, 1, 33, 61))
    kspace[1] = 0
    found = mr.reconstruct(kspace, mask, method="auto", candidates=CHEAP)
    alone = mr.reconstruct(kspace[[0, 2]], mask, method="auto", candidates=CHEAP)
    torch.testing.assert_close(found.image[[0, 2]], alone.image, rtol=0, atol=1e-5)
    assert not found.image[1].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": "auto,cg-sense"}, "none of them auto"),
        ({"candidates": ",".join(f"cg-sense:reg_weight={n / 10}" for n in range(9))}, "at most 8 candidates"),
        ({"candidates": 3}, "expected candidates"),
        ({"how": "average"}, "one of mixture, choice"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    kspace, mask = masked((1, 1, 20, 61))
    with pytest.raises(MethodError, match=message):
        mr.reconstruct(kspace, mask, method="auto", **options)


def test_progress_counts_runs_and_can_stop() -> None:
    kspace, mask = masked((1, 1, 30, 54))
    told: list[Progress] = []
    mr.reconstruct(kspace, mask, method="auto", candidates=CHEAP, on_progress=told.append)
    runs = [one for one in told if one.stage == "candidates"]
    assert [one.iteration for one in runs] == sorted(one.iteration for one in runs)
    assert runs[-1].iteration == runs[-1].total
    assert {one.method for one in runs} == {"auto"}

    def stop(progress: Progress) -> None:
        if progress.stage == "candidates" and progress.iteration == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        mr.reconstruct(kspace, mask, method="auto", candidates=CHEAP, on_progress=stop)


def test_where_nothing_predicts_better_than_nothing_compressed_sensing_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(kspace: Tensor, mask: Any, **_: Any) -> tuple[Tensor, dict[str, Any]]:
        image = ifft2c(kspace)[:, 0]
        spikes = torch.zeros_like(image)
        spikes[:, 3, 5] = 2 * image.abs().max()
        return image + spikes, {}

    add_method(monkeypatch, "wrong", wrong)
    kspace, mask = masked((1, 1, 33, 61))
    alone = mr.reconstruct(kspace, mask, method="auto", candidates="wrong")
    assert alone.info["auto"]["predictions"]["wrong"]["error_db"] > 0
    assert any("it took wrong; more lines would be needed" in text for text in alone.warnings)
