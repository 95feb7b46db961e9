"""Weights of candidates: the optimum of those that are needed, and 0 for the others."""

from __future__ import annotations

import numpy as np
import pytest

from mri_recon.methods.holdout import least_on_simplex
from mri_recon.methods.weights import best_alone, kept_mixture, unit_errors

RNG = np.random.default_rng(0)


def grams(residuals: np.ndarray) -> np.ndarray:
    """(method, unit, sample) to (unit, method, method)."""
    found: np.ndarray = np.einsum("mus,nus->umn", residuals, residuals)
    return found


def kept(found: np.ndarray, *, energy: float = np.inf, least_gain: float = 1.0) -> np.ndarray:
    """Weights where every line has this energy; by default far more than any method's error."""
    return kept_mixture(found, np.full(len(found), energy), least_gain=least_gain)


def noise(scale: float, units: int = 20, samples: int = 50) -> np.ndarray:
    return scale * RNG.normal(size=(units, samples))


def test_errors_of_a_mixture() -> None:
    residuals = RNG.normal(size=(3, 7, 11))
    weights = np.array([0.5, 0.2, 0.3])
    expected = (np.tensordot(weights, residuals, 1) ** 2).sum(axis=1)
    assert unit_errors(grams(residuals), weights) == pytest.approx(expected)


def test_the_choice_is_the_least_error() -> None:
    found = grams(np.stack([noise(2), noise(1), noise(3)]))
    assert best_alone(found).tolist() == [0, 1, 0]


def test_independent_errors_are_averaged() -> None:
    found = kept(grams(np.stack([noise(1), noise(1), noise(2)])))
    assert found == pytest.approx([4 / 9, 4 / 9, 1 / 9], abs=0.05)


def test_what_adds_no_more_than_chance_gets_no_weight() -> None:
    good = noise(1)
    bad = 10 * noise(1) + good  # a tenth of its error helps by luck alone
    residuals = np.stack([good, bad, noise(10)])
    plain = least_on_simplex(grams(residuals).sum(axis=0))
    chosen = kept(grams(residuals))
    assert chosen.sum() == pytest.approx(1)
    assert np.count_nonzero(chosen) <= np.count_nonzero(plain)
    assert chosen[0] > 0.9
    assert kept(grams(residuals), least_gain=1e9).tolist() == [1, 0, 0]


def test_one_line_alone_is_no_reason() -> None:
    first, second = noise(1), noise(3)
    second[0] = 0.1 * first[0]
    first[0] *= 8  # on this line, and only there, the second is better
    found = kept(grams(np.stack([first, second])), least_gain=1.5)
    assert np.count_nonzero(found) == 1


def test_equal_methods_and_a_perfect_one() -> None:
    same = noise(1)
    assert kept(grams(np.stack([same, same]))).max() == 1
    assert kept(grams(np.stack([0 * same, same]))).tolist() == [1, 0]
    assert kept(grams(same[None])).tolist() == [1]


def test_units_do_not_matter() -> None:
    found = grams(np.stack([noise(1), noise(1.5), noise(4)]))
    assert kept(1e12 * found) == pytest.approx(kept(found), abs=1e-6)


def test_what_predicts_worse_than_nothing_gets_no_weight() -> None:
    good, bad = noise(1), noise(1.2)  # as independent errors, both would help each other
    found = grams(np.stack([good, bad]))
    assert kept(found).min() > 0.2
    energy = 50 * 1.1**2  # of a line: between the two errors
    assert kept(found, energy=energy).tolist() == [1, 0]
    assert kept(found, energy=10).tolist() == [1, 0]  # all are worse than nothing: the best alone
