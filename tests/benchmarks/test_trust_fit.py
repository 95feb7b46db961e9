"""The fit of the map of trust: known weights come back, and the widening covers what it says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.trust.fit import COVERAGE, Scored, bound_offset, fit_map, fit_weights, map_of, persons, widening


def _scored(subject: str, seed: int, *, scale: float = 1.0, excess: float = 1.0) -> Scored:
    """Errors whose 90th percentile is excess * sqrt(4 f_0^2 + f_3^2), f_0 and f_3 given."""
    rng = np.random.default_rng(seed)
    features = np.zeros((5, 6000))
    features[0], features[3] = rng.exponential(size=6000), 0.3
    size = excess * np.sqrt(4 * features[0] ** 2 + features[3] ** 2)
    errors = size * np.abs(rng.standard_normal(6000)) / 1.6449  # the 90th percentile of |N(0, 1)|
    squares = (features**2).mean(axis=1)
    return Scored("auto", "world-4x", subject, scale * features, scale * errors, squares, float((errors**2).mean()))


def test_known_weights_come_back_in_any_units() -> None:
    scans = [_scored("a", 0), _scored("b", 1, scale=1e4)]
    weights = fit_weights([one.features for one in scans], [one.errors for one in scans], COVERAGE)
    np.testing.assert_allclose(weights, [4, 0, 0, 1, 0], rtol=0.25, atol=1e-3)


def test_the_map_covers_a_subject_that_was_left_out() -> None:
    scans = [_scored("a", 0), _scored("b", 1, excess=1.5)]
    weights = fit_map(scans)
    covered = {one.subject: float((one.errors <= map_of(one.features, weights)).mean()) for one in scans}
    # Widened for the subject that a fit without it covers worst.
    assert covered["b"] >= COVERAGE - 0.01
    assert covered["a"] > covered["b"]


def test_the_widening_covers_what_was_wanted() -> None:
    one = _scored("a", 0)
    narrow = 0.5 * map_of(one.features, np.array([4.0, 0, 0, 1, 0]))
    factor = widening([(one.errors, narrow)], 0.9)
    assert factor == pytest.approx(2, rel=0.05)


def test_the_bound_holds_on_every_scan_it_was_made_from() -> None:
    scans = [_scored(subject, seed) for seed, subject in enumerate(("a", "b", "pictures", ""))]
    weights = np.array([4.0, 0, 0, 1, 0])
    assert [one.subject for one in persons(scans)] == ["a", "b"]
    offset = bound_offset(persons(scans), weights)
    for one in persons(scans):
        assert one.nmse <= float(weights @ one.squares) * 10**offset * (1 + 1e-9)
