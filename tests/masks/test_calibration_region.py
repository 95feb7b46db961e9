from __future__ import annotations

import numpy as np
import pytest
import torch

from mri_recon.errors import MaskError
from mri_recon.masks.calibration_region import center_block
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import PatternMask


def test_centre_of_columns_is_the_receipts() -> None:
    mask = random_mask(101, 3, num_low_frequencies=9, seed=0)
    rows, columns = center_block(mask)
    assert rows == slice(None)
    assert columns == slice(46, 55)
    # Without the receipt, neighbours that were drawn by chance belong to the run as well.
    _, found = center_block(mask.tensor())
    assert found.start <= 46
    assert found.stop >= 55
    assert mask.lines[found].all()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([1, 0, 1, 1, 1, 0, 1], slice(2, 5)),
        ([1] * 6, slice(0, 6)),
        ([0, 0, 0, 1, 0, 0], slice(3, 4)),
        ([1], slice(0, 1)),
    ],
)
def test_centre_of_unknown_columns(lines: list[int], expected: slice) -> None:
    assert center_block(lines)[1] == expected
    assert center_block(torch.tensor(lines)[None, None])[1] == expected


def test_a_dead_column_inside_the_centre() -> None:
    support = np.ones(40, dtype=bool)
    support[20] = False
    mask = random_mask(40, 4, num_low_frequencies=8, seed=0, support=support)
    _, columns = center_block(mask)
    assert mask.lines[columns].all()
    assert columns == slice(16, 20)
    assert 20 - mask.center_start == 4  # four of the eight lines on each side


def test_of_equal_runs_between_dead_columns_the_one_with_dc_counts() -> None:
    support = np.ones(40, dtype=bool)
    support[[18, 21]] = False
    mask = random_mask(40, 4, num_low_frequencies=6, seed=0, support=support)
    assert mask.center_lines.tolist() == [17, 19, 20, 22, 23, 24]
    assert center_block(mask)[1] == slice(22, 25)
    support[24] = False
    mask = random_mask(40, 4, num_low_frequencies=5, seed=0, support=support)
    assert mask.center_lines.tolist() == [19, 20, 22, 23, 25]
    assert center_block(mask)[1] == slice(19, 21)


@pytest.mark.parametrize(("h", "w"), [(9, 8), (8, 11), (15, 15)])
def test_centre_of_a_pattern_is_its_largest_rectangle(h: int, w: int) -> None:
    def brute_force(pattern: np.ndarray) -> int:
        row, column = h // 2, w // 2
        areas = [
            (b - t) * (r - le)
            for t in range(row + 1)
            for b in range(row + 1, h + 1)
            for le in range(column + 1)
            for r in range(column + 1, w + 1)
            if pattern[t:b, le:r].all()
        ]
        return max(areas)

    for seed in range(8):
        pattern = np.random.default_rng(seed).random((h, w)) < 0.75
        pattern[h // 2 - 1 : h // 2 + 2, w // 2 - 2 : w // 2 + 1] = True
        rows, columns = center_block(PatternMask(pattern))
        assert rows.start <= h // 2 < rows.stop
        assert columns.start <= w // 2 < columns.stop
        assert pattern[rows, columns].all()
        assert pattern[rows, columns].size == brute_force(pattern)


def test_centre_of_a_poisson_disc_like_pattern() -> None:
    pattern = np.random.default_rng(0).random((46, 37)) < 0.1
    pattern[17:29, 12:24] = True
    rows, columns = center_block(pattern)
    assert (rows.start, columns.start) <= (17, 12)
    assert pattern[rows, columns].size >= 144


def test_no_centre() -> None:
    with pytest.raises(MaskError, match="leaves out column 3 of 7: sample a few central lines"):
        center_block([1, 1, 1, 0, 1, 1, 1])
    with pytest.raises(MaskError, match=r"does not sample \(2, 3\): pass sens_maps"):
        center_block(~np.eye(5, 7, k=1, dtype=bool))
    with pytest.raises(MaskError, match=r"\(phase,\) or \(readout, phase\), got shape \(2, 3, 4\)"):
        center_block(np.ones((2, 3, 4)))
