from __future__ import annotations

import numpy as np
import pytest

from benchmarks.trust.crimes import CASES, HARMLESS, mirrored, padded
from benchmarks.trust.data_crimes import HARMLESS_NAME, findings, hit, margins, rates
from tests.io.data_crimes.scans import genuine

MISSED = {"Hann to 0.25 at the edge (weak)", "combined with phase, background kept"}
MISSED |= {"k-space linearly on a grid 1.5 times as fine"}


@pytest.mark.parametrize(("crime", "what"), [(crime, what) for crime in CASES for what in CASES[crime]])
def test_the_crimes_are_found_but_for_those_that_the_page_names(crime: str, what: str) -> None:
    found = findings(CASES[crime][what](genuine((1, 4, 97, 110))), "test")
    assert (crime in found) == (what not in MISSED)


@pytest.mark.parametrize("what", HARMLESS)
def test_what_acquisitions_do_is_not(what: str) -> None:
    assert set(findings(HARMLESS[what](genuine((2, 3, 160, 97))), "test")) <= {"undersampled"}


@pytest.mark.parametrize("width", [80, 81])
def test_padding_keeps_the_centre_and_completion_the_other_side(width: int) -> None:
    array = np.zeros((1, 1, 70, width))
    array[..., 35, width // 2] = 1
    wide = padded(array, 1.5)
    assert wide[..., wide.shape[-2] // 2, wide.shape[-1] // 2] == 1
    kspace = genuine((1, 1, 70, width))
    whole = mirrored(kspace, 0.75)
    first = width // 4 - 1
    np.testing.assert_array_equal(whole[..., first + 2 :], kspace[..., first + 2 :])
    partner = (2 * (width // 2) - first) % width
    np.testing.assert_array_equal(whole[0, 0, 20, first], np.conj(kspace[0, 0, 50, partner]))


def test_the_tables_count_and_take_extremes() -> None:
    row = {"kind": "raw", "scan": "a", "crime": "filtered", "what": "Hann", "found": ["filtered", "masked"]}
    missed = {**row, "found": ["masked"]}
    fine = {**row, "crime": HARMLESS_NAME, "what": "untouched", "found": ["undersampled"]}
    keys = ("symmetry", "edge_drop", "border", "zero_pixels", "mean_to_rms")
    fine["measures"] = dict.fromkeys(keys, 0.5)
    alarm = {**fine, "found": ["masked"], "measures": dict.fromkeys(keys, 0.25)}
    assert [hit(one) for one in (row, missed, fine, alarm)] == [True, False, False, True]
    assert rates([row, missed])[2] == "| filtered | Hann | 1 of 2 |"
    assert rates([fine, alarm])[2] == "| no crime | untouched | 1 of 2 |"
    lines = margins([row, fine, alarm])
    assert lines[2].endswith("| 0.5 |")
    assert lines[4].endswith("| 0.25 |")
