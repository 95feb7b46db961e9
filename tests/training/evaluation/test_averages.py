from __future__ import annotations

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri_recon_training.evaluation.averages import (
    Spread,
    best_classical,
    differences,
    losses,
    pooled,
    pooled_differences,
    scan_summaries,
    spread,
)
from tests.support.evaluations import METHODS, row, small_evaluation

NUMBERS = st.floats(-1e3, 1e3)


def test_means_keep_the_order_of_methods() -> None:
    means = small_evaluation().means()
    assert [(mean["acceleration"], mean["method"]) for mean in means if mean["world"] == "near"] == [
        (2, "zero-filled"), (2, "cg-sense"), (4, "zero-filled"), (4, "cg-sense"),
    ]  # fmt: skip


@given(st.lists(NUMBERS, min_size=1))
def test_mask_variability_is_the_range_around_the_mean(values: list[float]) -> None:
    found = spread(values)
    assert found is not None
    assert (found.low, found.high, found.masks) == (min(values), max(values), len(values))
    assert found.mean == fmean(values)


@pytest.mark.parametrize("values", [[], [None], [1.0, None]])
def test_no_variability_of_what_is_not_known(values: list[float | None]) -> None:
    assert spread(values) is None


def test_a_summary_a_scan_acceleration_and_method() -> None:
    rows = [
        row("a", "m", 1.0, seed=0),
        row("a", "m", 3.0, seed=1),
        row("a", "m", 9.0, acceleration=8),
        row("b", "m", 5),
    ]
    summaries = scan_summaries(rows)
    assert [(one["file"], one["acceleration"], one["psnr"]) for one in summaries] == [
        ("a", 4, Spread(2, 1, 3, 2)), ("a", 8, Spread(9, 9, 9, 1)), ("b", 4, Spread(5, 5, 5, 1)),
    ]  # fmt: skip


def test_the_best_classical_method_is_the_best_in_the_mean_over_masks() -> None:
    rows = [
        row("a", "zero-filled", 30.0, seed=0, nmse=0.3),
        row("a", "zero-filled", 10.0, seed=1, nmse=0.1),
        row("a", "cs-wavelet", 22.0, seed=0, nmse=0.4),
        row("a", "cs-wavelet", 21.0, seed=1, nmse=0.1),
        row("a", "unet", 90.0, seed=0),
    ]
    assert best_classical(rows, "psnr") == "cs-wavelet"
    assert best_classical(rows, "nmse") == "zero-filled", "the smaller NMSE is the better one"
    assert best_classical(rows[4:], "psnr") is None


def test_differences_pair_the_same_mask() -> None:
    """The classical side's own ups and downs over masks cancel."""
    rows = [
        row("a", "zero-filled", 10.0, seed=0),
        row("a", "cs-wavelet", 20.0, seed=0),
        row("a", "cs-wavelet", 26.0, seed=1),
        row("a", "unet", 21.0, seed=0),
        row("a", "unet", 29.0, seed=1),
        row("b", "cs-wavelet", 20.0, acceleration=8),
        row("b", "unet", 18.0, acceleration=8),
    ]
    first, second = differences(rows, "psnr")
    assert (first.file, first.acceleration, first.method, first.against) == ("a", 4, "unet", "cs-wavelet")
    assert first.spread == Spread(2, 1, 3, 2)
    assert (second.file, second.acceleration, second.spread) == ("b", 8, Spread(-2, -2, -2, 1))
    assert first.as_dict()["spread"] == {"mean": 2, "low": 1, "high": 3, "masks": 2}


def test_differences_leave_out_what_cannot_be_compared() -> None:
    rows = [row("a", "zero-filled", 10.0), row("a", "unet", None)]
    assert differences(rows, "psnr") == []
    assert differences([row("a", "unet", 10.0)], "psnr") == []
    assert differences([row("a", "zero-filled", 1.0, seed=0), row("a", "unet", 10.0, seed=1)], "psnr") == []


def test_a_pooled_value_has_the_variability_of_the_mean_and_not_of_the_scans() -> None:
    """Scans far apart, masks that move them oppositely: the mean over scans moves little."""
    values = [("a", 0, 10.0), ("a", 1, 12.0), ("b", 0, 32.0), ("b", 1, 30.0)]
    assert pooled(values, {"a": "x", "b": "y"}) == Spread(21, 21, 21, 2)
    three = [*values, ("c", 0, 40.0), ("c", 1, 40.0)]
    assert pooled(three, {"a": "x", "b": "x", "c": "y"}) == Spread(30.5, 30.5, 30.5, 2)


def test_a_pooled_value_leaves_out_a_seed_that_a_scan_lacks() -> None:
    values = [("a", 0, 10.0), ("a", 1, 90.0), ("b", 0, 20.0)]
    assert pooled(values, {"a": "x", "b": "y"}) == Spread(15, 15, 15, 1)
    assert pooled([("a", 0, None)], {"a": "x"}) is None
    assert pooled([], {}) is None


def test_pooled_differences_take_each_scans_own_best() -> None:
    rows = [
        row("a", "zero-filled", 10.0), row("a", "cs-wavelet", 20.0), row("a", "unet", 23.0),
        row("b", "zero-filled", 20.0), row("b", "cs-wavelet", 10.0), row("b", "unet", 21.0),
    ]  # fmt: skip
    assert pooled_differences(rows, {"a": "x", "b": "y"}, "psnr") == {(4, "unet"): Spread(2, 2, 2, 1)}


def test_where_a_method_loses_is_said() -> None:
    methods = ["zero-filled", "cs-wavelet", "unet"]
    rows = [
        row("a", "zero-filled", 20.0),
        row("a", "cs-wavelet", 22.0, ssim=0.4),
        row("a", "unet", 21.0, ssim=0.6),
        row("a", "cs-wavelet", 22.0, seed=1),
        row("a", "unet", 24.0, seed=1),
        row("b", "zero-filled", 20.0),
        row("b", "cs-wavelet", 22.0),
        row("b", "unet", 23.0),
    ]
    first, second = losses(rows, methods)
    assert first == {
        "file": "a", "acceleration": 4, "method": "cs-wavelet", "simpler": "zero-filled", "metric": "ssim",
        "lost": 1, "masks": 1, "mean": pytest.approx(-0.1), "worst": pytest.approx(-0.1),
    }  # fmt: skip
    assert second == {
        "file": "a", "acceleration": 4, "method": "unet", "simpler": "cs-wavelet", "metric": "psnr",
        "lost": 1, "masks": 2, "mean": 0.5, "worst": -1.0,
    }  # fmt: skip
    assert losses(rows[5:], methods) == []


def test_losses_of_an_evaluation_are_those_of_its_rows() -> None:
    rows = small_evaluation().rows
    lost = sum(one["lost"] for one in losses(rows, METHODS) if one["metric"] == "psnr")
    by = {(r["file"], r["acceleration"], r["seed"], r["method"]): r["psnr"] for r in rows}
    assert lost == sum(value < by[(*key[:3], "zero-filled")] for key, value in by.items() if key[3] == "cg-sense")
    assert lost > 0
