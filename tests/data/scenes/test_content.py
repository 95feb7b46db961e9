from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_recon_data.scenes.content import ContentConfig, vary_content


def _head(shape: tuple[int, int] = (61, 48)) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    inside = y**2 / 0.6 + x**2 / 0.4 < 1
    return (inside * (0.6 + 0.3 * np.sin(8 * x) * np.cos(6 * y))).astype(np.float32)


def test_without_a_probability_nothing_changes() -> None:
    image = _head()
    np.testing.assert_array_equal(vary_content(image, np.random.default_rng(0), ContentConfig()), image)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(24, 70), st.integers(24, 70)),
    content=st.builds(ContentConfig, contrast=st.floats(0, 1), shapes=st.floats(0, 1), bright_rim=st.floats(0, 1)),
)
def test_the_result_is_a_magnitude(seed: int, shape: tuple[int, int], content: ContentConfig) -> None:
    image = vary_content(_head(shape), np.random.default_rng(seed), content)
    assert image.shape == shape
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() < 20


def test_empty_slices_stay_finite() -> None:
    everything = ContentConfig(contrast=1, shapes=1, bright_rim=1)
    assert np.isfinite(vary_content(np.zeros((33, 40), np.float32), np.random.default_rng(0), everything)).all()


def test_contrast_keeps_the_air_dark_and_equal_tissue_equal() -> None:
    image = np.where(_head() > 0, 0.5, 0).astype(np.float32)
    changed = vary_content(image, np.random.default_rng(3), ContentConfig(contrast=1))
    assert not changed[image == 0].any()
    assert np.unique(changed[image > 0]).size == 1
    assert changed.max() != image.max()


def test_the_rim_is_bright_and_the_inside_stays() -> None:
    image = 0.5 * (_head() > 0).astype(np.float32)
    rims = [vary_content(image, np.random.default_rng(seed), ContentConfig(bright_rim=1)) for seed in range(8)]
    assert np.mean([rim.max() for rim in rims]) > 1.0
    for rim in rims:
        assert rim[27:34, 20:28] == pytest.approx(0.5)
        assert not rim[:3, :3].any()


def test_shapes_change_a_part_of_the_image() -> None:
    image = _head()
    changed = [vary_content(image, np.random.default_rng(seed), ContentConfig(shapes=1)) for seed in range(8)]
    shares = [float((np.abs(one - image) > 0.1).mean()) for one in changed]
    assert 0.02 < np.mean(shares) < 0.8


def test_the_generator_decides() -> None:
    everything = ContentConfig(contrast=1, shapes=1, bright_rim=1)
    first, again, other = (vary_content(_head(), np.random.default_rng(seed), everything) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
