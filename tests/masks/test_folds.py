"""Folds of held-out samples: disjoint, outside the centre, alike in their distances from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri_recon.errors import MaskError
from mri_recon.masks.convert import column_mask_from_lines
from mri_recon.masks.draw import random_mask
from mri_recon.masks.folds import LEAST_UNITS, hold_out_folds
from mri_recon.masks.types import ColumnMask, PatternMask


@given(width=st.integers(64, 257), acceleration=st.sampled_from([3.0, 4.0, 6.0]), seed=st.integers(0, 9))
def test_folds_hold_a_fifth_of_the_other_lines_and_never_the_centre(width: int, acceleration: float, seed: int) -> None:
    mask = random_mask(width, acceleration, seed=seed)
    others = mask.lines.copy()
    others[mask.center_lines] = False
    folds = hold_out_folds(mask, seed=seed)
    held = np.array([fold.held for fold in folds])
    assert not (held & ~others).any()
    assert held.sum(axis=0).max() <= 1  # no two folds share a line
    assert all(abs(int(fold.held.sum()) - others.sum() / 5) <= 1 for fold in folds)
    for fold in folds:
        assert isinstance(fold.shown, ColumnMask)
        np.testing.assert_array_equal(fold.shown.lines, mask.lines & ~fold.held)
        np.testing.assert_array_equal(fold.shown.center_lines, mask.center_lines)


def test_every_fold_holds_lines_near_and_far() -> None:
    mask = random_mask(200, 4, seed=3)
    distance = np.abs(np.arange(200) - 100)
    others = np.flatnonzero(mask.lines & ~np.isin(np.arange(200), mask.center_lines))
    median = np.median(distance[others])
    for fold in hold_out_folds(mask):
        far = int((distance[fold.held] > median).sum())
        assert abs(far - fold.held.sum() / 2) <= 1.5


def test_a_pattern_gives_up_samples_one_by_one() -> None:
    rng = np.random.default_rng(0)
    pattern = rng.random((31, 44)) < 0.2
    pattern[13:19, 19:26] = True
    mask = PatternMask(pattern)
    folds = hold_out_folds(mask, num_folds=5)
    total = np.sum([fold.held for fold in folds], axis=0)
    expected = pattern.copy()
    expected[13:19, 19:26] = False
    inside = total[12:20, 18:27]
    np.testing.assert_array_equal(total.astype(bool)[:12], expected[:12])
    assert total.max() == 1
    assert inside[1:7, 1:8].sum() == 0
    assert not (folds[0].shown.array & folds[0].held).any()


def test_equal_seeds_give_equal_folds() -> None:
    mask = random_mask(130, 4, seed=0)
    first, again, other = (hold_out_folds(mask, seed=seed) for seed in (4, 4, 5))
    assert all((a.held == b.held).all() for a, b in zip(first, again, strict=True))
    assert any((a.held != b.held).any() for a, b in zip(first, other, strict=True))


def test_dead_lines_are_never_held_out() -> None:
    mask = random_mask(130, 4, seed=0)
    dead = np.zeros(130, dtype=bool)
    dead[np.flatnonzero(mask.lines)[:3]] = True
    assert not any((fold.held & dead).any() for fold in hold_out_folds(mask, without_data=dead))


def test_without_a_centre_the_middle_of_k_space_stays() -> None:
    lines = np.zeros(60, dtype=bool)
    lines[1::3] = True  # leaves out column 30
    folds = hold_out_folds(column_mask_from_lines(lines), num_folds=5)
    held = np.any([fold.held for fold in folds], axis=0)
    assert not held[28:33].any()
    assert held.sum() == lines.sum() - lines[28:33].sum()


def test_too_few_lines_are_refused_with_their_number() -> None:
    lines = np.zeros(64, dtype=bool)
    lines[28:36] = True
    lines[[3, 50]] = True
    with pytest.raises(MaskError, match=f"at least {LEAST_UNITS} sampled lines outside .* got 2"):
        hold_out_folds(column_mask_from_lines(lines))


@pytest.mark.parametrize(("num_folds", "share"), [(0, 0.2), (6, 0.2), (1, 0.0), (3, 0.6), (1, float("nan"))])
def test_impossible_folds_are_refused(num_folds: int, share: float) -> None:
    with pytest.raises(MaskError, match="1 / share folds"):
        hold_out_folds(random_mask(128, 4, seed=0), num_folds=num_folds, share=share)
