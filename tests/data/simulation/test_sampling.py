from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_recon.masks.arrangement import column_arrangement
from mri_recon.masks.calibration_region import center_block
from mri_recon_data.simulation.sampling import (
    SamplingConfig,
    WideSamplingConfig,
    draw_columns,
    draw_mask,
    draw_pattern,
    draw_support,
)

CONFIG = WideSamplingConfig(partial=0.5)


@settings(deadline=None, max_examples=100)
@given(width=st.integers(64, 400), seed=st.integers(0, 2**31), least=st.sampled_from([2, 3]))
def test_columns_lie_on_the_support_with_a_centre(width: int, seed: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    support = draw_support(width, rng, CONFIG)
    assert support[width // 2]
    assert np.count_nonzero(support) >= 0.62 * width
    mask = draw_columns(width, rng, CONFIG, support=support, least_center=least)
    assert not np.any(mask.lines & ~support)
    assert mask.support_width == np.count_nonzero(support)
    centre = center_block(mask)[1]
    assert centre.stop - centre.start >= least
    assert centre.start <= width // 2 < centre.stop
    assert mask.num_lines > centre.stop - centre.start
    # R is drawn from 1.5 to 12, and lines are whole: 64 columns at R = 11.7 have 5, which is 12.8.
    assert mask.support_width / 12 - 0.5 <= mask.num_lines <= mask.support_width / 1.5 + 0.5


def test_a_dead_column_inside_takes_no_line_from_the_centre() -> None:
    only = WideSamplingConfig(equispaced=0.0, variable_density=1.0)
    support = np.ones(128, dtype=bool)
    support[[62, 65]] = False
    for seed in range(20):
        mask = draw_columns(128, np.random.default_rng(seed), only, support=support, least_center=8)
        columns = np.flatnonzero(support)
        first = int(np.searchsorted(columns, mask.center_lines[0]))
        assert mask.center_lines.size == mask.num_low_frequencies >= 8
        np.testing.assert_array_equal(mask.center_lines, columns[first : first + mask.num_low_frequencies])
        assert 64 in mask.center_lines


def test_columns_of_every_arrangement() -> None:
    rng = np.random.default_rng(0)
    kinds = {draw_columns(256, rng, CONFIG).kind for _ in range(60)}
    assert kinds == {"random", "equispaced", "variable-density"}
    only = WideSamplingConfig(equispaced=1.0, variable_density=0.0, acceleration=(4.0, 4.0), default_center=1.0)
    assert column_arrangement(draw_columns(256, rng, only)) == "equally spaced"


def test_variable_density_is_denser_at_the_centre() -> None:
    config = WideSamplingConfig(equispaced=0.0, variable_density=1.0, acceleration=(4.0, 4.0), default_center=1.0)
    near = far = 0
    for seed in range(20):
        lines = draw_columns(256, np.random.default_rng(seed), config).lines.copy()
        lines[110:147] = False  # about the centre
        near += int(np.count_nonzero(lines[64:192]))
        far += int(np.count_nonzero(lines)) - int(np.count_nonzero(lines[64:192]))
    assert near > 1.5 * far


@settings(deadline=None, max_examples=30)
@given(height=st.integers(48, 140), width=st.integers(48, 140), seed=st.integers(0, 2**31))
def test_patterns_have_their_count_and_a_centre(height: int, width: int, seed: int) -> None:
    mask = draw_pattern((height, width), np.random.default_rng(seed), WideSamplingConfig())
    assert 1.45 < mask.realised_acceleration < 12.2
    rows, columns = center_block(mask)
    assert rows.stop - rows.start >= 6
    assert columns.stop - columns.start >= 6


def test_some_patterns_keep_their_points_apart() -> None:
    config = WideSamplingConfig(acceleration=(9.0, 9.0))
    shares = []
    for seed in range(20):
        pattern = draw_pattern((128, 128), np.random.default_rng(seed), config).pattern.copy()
        pattern[48:80, 48:80] = False
        pairs = np.count_nonzero(pattern[:, 1:] & pattern[:, :-1])
        shares.append(pairs / np.count_nonzero(pattern))
    assert min(shares) < 0.01  # Poisson disc: next to no neighbours
    assert max(shares) > 0.05  # independent points
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        WideSamplingConfig(pattern=-1)


def test_masks_cover_the_range_and_stay_on_the_support() -> None:
    support = np.ones(126, dtype=bool)
    support[:5] = support[121:] = support[70] = False
    rng = np.random.default_rng(0)
    masks = [draw_mask(126, rng, SamplingConfig(), support=support) for _ in range(200)]
    realised = [mask.realised_acceleration for mask in masks]
    assert min(realised) < 2.3
    assert max(realised) > 9
    assert all(not (mask.lines & ~support).any() for mask in masks)
    assert len({mask.num_low_frequencies for mask in masks}) > 3
