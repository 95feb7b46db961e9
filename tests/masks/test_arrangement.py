from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mri_recon.masks.arrangement import column_arrangement
from mri_recon.masks.convert import column_mask_from_lines
from mri_recon.masks.draw import equispaced_mask, fastmri_random_mask, random_mask
from mri_recon.masks.types import ColumnMask


def _around_a_centre(width: int, centre: int, outside: npt.ArrayLike) -> ColumnMask:
    lines = np.zeros(width, dtype=bool)
    start = (width - centre + 1) // 2
    lines[start : start + centre] = True
    lines[np.asarray(outside)] = True
    return column_mask_from_lines(lines)


def _drawn(
    width: int, weights: npt.NDArray[np.float64], seed: int, *, centre: int = 10, share: float = 0.25
) -> ColumnMask:
    rng = np.random.default_rng(seed)
    start = (width - centre + 1) // 2
    weights = weights.copy()
    weights[start : start + centre] = 0
    return _around_a_centre(width, centre, rng.choice(width, round(share * width), False, weights / weights.sum()))


def test_random_masks_are_hardly_ever_called_anything_else() -> None:
    rng = np.random.default_rng(0)
    found = []
    for seed in range(3000):
        width, acceleration = int(rng.integers(64, 400)), float(rng.uniform(2, 12))
        found.append(column_arrangement(random_mask(width, acceleration, seed=seed)))
        found.append(column_arrangement(fastmri_random_mask(width, center_fraction=0.04, acceleration=2.5, seed=seed)))
    assert found.count("random") > len(found) * 0.998


def test_a_support_changes_nothing_for_random_masks() -> None:
    support = np.zeros(126, dtype=bool)
    support[5:122] = True
    found = [column_arrangement(random_mask(126, 3, seed=seed, support=support)) for seed in range(500)]
    assert found.count("random") >= 498


@pytest.mark.parametrize("acceleration", [2, 3.3, 4, 8])
@pytest.mark.parametrize("width", [127, 256, 320])
def test_equal_distances(width: int, acceleration: float) -> None:
    for seed in range(20):
        assert column_arrangement(equispaced_mask(width, acceleration, seed=seed)) == "equally spaced"


def test_whole_steps_that_go_on_through_the_centre() -> None:
    # Every fourth column counted from the first one, as scanners and fastMRI's equispaced masks have it.
    assert column_arrangement(_around_a_centre(368, 29, np.arange(1, 368, 4))) == "equally spaced"


def test_few_lines_tell_nothing() -> None:
    mask = _around_a_centre(64, 6, np.arange(4, 64, 10))
    assert np.count_nonzero(mask.lines) - mask.num_low_frequencies < 8
    assert column_arrangement(mask) == "random"


def test_full_sampling_is_not_an_arrangement() -> None:
    assert column_arrangement(column_mask_from_lines(np.ones(31, dtype=bool))) == "random"


def test_a_mask_without_a_centre_has_an_arrangement_too() -> None:
    lines = np.ones(64, dtype=bool)
    lines[32] = False
    assert column_arrangement(column_mask_from_lines(lines)) == "random"
    assert column_arrangement(ColumnMask(np.arange(64) % 3 == 0)) == "equally spaced"


@pytest.mark.parametrize("half", [slice(None, 160), slice(160, None)])
def test_lines_on_one_side_of_the_centre(half: slice) -> None:
    weights = np.zeros(320)
    weights[half] = 1
    assert column_arrangement(_drawn(320, weights, 0, share=0.15)) == "on one side"


def test_lines_that_thin_out() -> None:
    distance = np.abs(np.arange(320) - 160) / 161
    names = [column_arrangement(_drawn(320, (1 - distance) ** 3, seed)) for seed in range(20)]
    assert names.count("denser near the centre") >= 14
    assert set(names) <= {"denser near the centre", "random"}
    names = [column_arrangement(_drawn(320, distance**3, seed)) for seed in range(20)]
    assert names == ["denser far from the centre"] * 20


@pytest.mark.parametrize(("width", "acquired"), [(400, 256), (368, 322)])
def test_random_columns_among_columns_of_zeros_are_random(width: int, acquired: int) -> None:
    # As in a file that was zero-filled to a wider matrix and does not say so.
    start = (width - acquired) // 2
    found = []
    for seed in range(200):
        lines = np.zeros(width, dtype=bool)
        lines[start : start + acquired] = random_mask(acquired, 3, seed=seed).lines
        found.append(column_arrangement(column_mask_from_lines(lines)))
    assert found.count("random") >= 199


def test_columns_that_lie_on_one_side_because_no_others_could_be_sampled() -> None:
    support = np.arange(256) >= 90
    assert {column_arrangement(random_mask(256, 2, seed=seed, support=support)) for seed in range(100)} == {"random"}
    assert column_arrangement(ColumnMask(random_mask(256, 2, seed=0, support=support).lines)) == "on one side"


def test_a_line_that_is_missing_hides_no_equal_distances() -> None:
    support = np.arange(126) != 30
    for acceleration in (2, 3, 4):
        for seed in range(20):
            mask = equispaced_mask(126, acceleration, seed=seed, support=support)
            assert column_arrangement(mask) == "equally spaced"


@pytest.mark.parametrize("acceleration", [1.05, 1.1, 1.5])
def test_nearly_all_columns_are_not_equally_spaced(acceleration: float) -> None:
    found = [column_arrangement(random_mask(128, acceleration, seed=seed)) for seed in range(200)]
    assert "equally spaced" not in found
