from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from mri_recon.results.averages import MIN_PERSONS, average, person_interval
from tests.support.evaluations import row

NUMBERS = st.floats(-1e3, 1e3)


def test_means_go_over_masks_then_scans_then_persons() -> None:
    """Two scans of one person with unequal numbers of masks, one of another: no scan and no mask counts twice."""
    rows = [
        row("a1", "m", 10.0, seed=0),
        row("a1", "m", 20.0, seed=1),
        row("a2", "m", 30.0),
        row("b", "m", 50.0),
    ]
    (mean,) = average(rows, {"a1": "anna", "a2": "anna", "b": "ben"})
    assert mean["psnr"] == ((10 + 20) / 2 + 30) / 2 / 2 + 50 / 2
    assert {person: values["psnr"] for person, values in mean["by_person"].items()} == {"anna": 22.5, "ben": 50}
    assert (mean["persons"], mean["scans"], mean["acceleration"], mean["method"]) == (2, 3, 4, "m")


def test_an_infinite_psnr_has_no_mean() -> None:
    (mean,) = average([row("a", "m", None), row("b", "m", 3.0)], {"a": "x", "b": "y"})
    assert mean["psnr"] is None
    assert mean["ssim"] == 0.5


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11])
def test_an_interval_over_persons_stands_from_ten_of_them(count: int) -> None:
    rows = [row(str(index), "m", float(index)) for index in range(count)]
    (mean,) = average(rows, {str(index): f"person {index}" for index in range(count)})
    assert (mean["intervals"]["psnr"] is None) == (count < 10)
    assert MIN_PERSONS == 10


@given(st.lists(NUMBERS, min_size=10, max_size=30))
def test_the_interval_over_persons_is_that_of_the_t_test(values: list[float]) -> None:
    expected = ttest_1samp(np.array(values), 0).confidence_interval(0.95) if np.std(values) > 1e-6 else None
    found = person_interval(values)
    assert found is not None
    if expected is not None:
        assert found == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)


def test_many_scans_of_few_persons_give_no_interval() -> None:
    rows = [row(str(index), "m", float(index)) for index in range(40)]
    (mean,) = average(rows, {str(index): f"person {index % 9}" for index in range(40)})
    assert mean["intervals"] == {"nmse": None, "psnr": None, "ssim": None}


def test_an_unknown_value_gives_no_interval() -> None:
    assert person_interval([1.0] * 10 + [None]) is None


def test_rows_of_masks_from_files_have_no_acceleration_and_stand_first() -> None:
    from_file = [{**row("a", name, value), "acceleration": None} for name, value in (("m", 3.0), ("n", 5.0))]
    means = average([row("a", "m", 1.0), *from_file], {"a": "anna"})
    assert [(one["acceleration"], one["psnr"]) for one in means] == [(None, 3), (None, 5), (4, 1)]
