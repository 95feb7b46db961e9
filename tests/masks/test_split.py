from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri_recon.errors import MaskError
from mri_recon.masks.draw import random_mask
from mri_recon.masks.split import num_outside, split_mask
from mri_recon.masks.types import BoolArray, ColumnMask, Mask, PatternMask
from tests.support.split_masks import small_columns, small_pattern


def _lines(mask: Mask) -> BoolArray:
    return mask.array


@given(w=st.integers(12, 60), center=st.integers(1, 4), share=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_columns_are_dealt_without_rest(w: int, center: int, share: float, seed: int) -> None:
    mask = random_mask(w, 2, num_low_frequencies=center, seed=seed)
    theta, held_out = split_mask(mask, share, np.random.default_rng(seed))
    assert not (_lines(theta) & _lines(held_out)).any()
    assert ((_lines(theta) | _lines(held_out)) == mask.lines).all()
    assert isinstance(theta, ColumnMask)
    assert theta.num_low_frequencies == center
    assert theta.support_width == mask.support_width
    assert mask.center_start is not None
    assert theta.lines[mask.center_start : mask.center_start + center].all()
    outside = mask.num_lines - center
    assert int(_lines(held_out).sum()) == min(outside - 1, max(1, round(share * outside)))
    again = split_mask(mask, share, np.random.default_rng(seed))
    assert (_lines(again[1]) == _lines(held_out)).all()


def test_every_line_outside_the_centre_is_held_out_as_often() -> None:
    mask = small_columns()
    rng = np.random.default_rng(0)
    count = sum(_lines(split_mask(mask, 0.4, rng)[1]).astype(int) for _ in range(500))
    outside = mask.lines.copy()
    assert mask.center_start is not None
    outside[mask.center_start : mask.center_start + 6] = False
    assert (count[~outside] == 0).all()
    expected = 500 * round(0.4 * outside.sum()) / outside.sum()
    assert np.abs(count[outside] - expected).max() < 5 * np.sqrt(500 * 0.25)


def test_points_of_a_pattern_are_dealt() -> None:
    mask = small_pattern()
    theta, held_out = split_mask(mask, 0.3, np.random.default_rng(0))
    assert isinstance(theta, PatternMask)
    assert not (theta.pattern & _lines(held_out)).any()
    assert ((theta.pattern | _lines(held_out)) == mask.pattern).all()
    assert theta.pattern[12:20, 16:24].all()
    assert 0.25 < _lines(held_out).sum() / mask.pattern.sum() < 0.3


def test_nothing_outside_the_centre() -> None:
    lines = np.zeros(20, dtype=bool)
    lines[8:13] = lines[2] = True
    with pytest.raises(MaskError, match="expected at least 2 sampled positions outside the dense centre .*, got 1"):
        split_mask(ColumnMask(lines), 0.4, np.random.default_rng(0))


@pytest.mark.parametrize("mask", [small_columns(), small_pattern()])
def test_what_is_to_be_kept_stays_with_the_network(mask: Mask) -> None:
    keep = np.zeros(mask.array.shape, dtype=np.bool_)
    keep[..., : mask.width // 3] = True
    before = num_outside(mask)
    assert num_outside(mask, keep=keep) == before - np.count_nonzero(mask.array & keep)
    for seed in range(20):
        theta, held_out = split_mask(mask, 0.5, np.random.default_rng(seed), keep=keep)
        assert not (held_out.array & keep).any()
        assert (theta.array & keep == mask.array & keep).all()
