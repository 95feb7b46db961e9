"""The observer against values written out: templates, contrasts, AUROC, invented lesions."""

from __future__ import annotations

import numpy as np
import pytest

from mri_recon_training.evaluation.lesions.inserts import Place, profile, with_lesions
from mri_recon_training.evaluation.lesions.observer import auroc, invented_excess, measured_contrasts, template, wins


@pytest.mark.parametrize("width", [2.5, 3.0, 5.0])
def test_the_filter_measures_the_height_of_a_lesion_on_any_constant(width: float) -> None:
    place = Place(21, 30, width)
    image = 0.4 + 0.3 * profile((45, 60), place)
    assert measured_contrasts(image, [place])[0] == pytest.approx(0.3, abs=1e-6)
    assert template(width).sum() == pytest.approx(0, abs=1e-12)
    assert template(width).shape[0] % 2 == 1


def test_noise_spreads_the_measure_as_the_filter_says() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((400, 21, 21))
    place = Place(10, 10, 3.0)
    measured = [measured_contrasts(one.astype(np.float32), [place])[0] for one in noise]
    assert np.std(measured) == pytest.approx(np.sqrt((template(3.0) ** 2).sum()), rel=0.1)


def test_auroc_counts_pairs_of_different_places() -> None:
    rng = np.random.default_rng(1)
    present, absent = rng.integers(0, 4, (5, 3)).astype(float), rng.integers(0, 4, (5, 3)).astype(float)
    scores = []
    for i in range(5):
        for j in range(5):
            if i != j:
                scores += [(p > a) + 0.5 * (p == a) for p in present[i] for a in absent[j]]
    assert auroc(wins(present, absent)) == pytest.approx(np.mean(scores))


def test_a_place_drawn_twice_is_not_compared_with_itself() -> None:
    won = np.array([[1.0, 0.25, 0.5], [0.75, 1.0, 0.0], [1.0, 0.5, 1.0]])
    assert auroc(won, np.array([2, 1, 0])) == pytest.approx((0.25 + 0.75) / 2)
    assert auroc(won) == pytest.approx((0.25 + 0.5 + 0.75 + 0 + 1 + 0.5) / 6)


def test_equal_scores_are_guessing_and_separate_ones_certain() -> None:
    same = np.ones((4, 2))
    assert auroc(wins(same, same)) == 0.5
    assert auroc(wins(same + 1, same)) == 1


def test_what_is_in_the_image_and_not_in_the_truth_is_invented() -> None:
    truth = np.full((60, 71), 0.3, np.float32)
    inside = np.ones(truth.shape, dtype=bool)
    there = [Place(20, 20, 3.0), Place(40, 50, 3.0)]
    image = with_lesions(truth, there, 0.2)
    found = invented_excess(image, truth, inside, 3.0, 0.2)
    assert np.argwhere(found).tolist() == [[20, 20], [40, 50]]
    assert found.max() == pytest.approx(0.2, abs=1e-6)
    only = invented_excess(image, with_lesions(truth, there[:1], 0.2), inside, 3.0, 0.2)
    assert np.argwhere(only).tolist() == [[40, 50]], "the other one is in the truth"
    assert not invented_excess(image, truth, inside, 3.0, -0.2).any(), "a bright spot is no dark lesion"
    assert not invented_excess(with_lesions(truth, there, 0.09), truth, inside, 3.0, 0.2).any(), "too faint"
    inside[:, 40:] = False
    assert np.argwhere(invented_excess(image, truth, inside, 3.0, 0.2)).tolist() == [[20, 20]]


def test_a_dark_detail_that_is_missing_is_not_invented() -> None:
    flat = np.full((50, 50), 0.3, np.float32)
    truth = with_lesions(flat, [Place(25, 25, 5.0)], -0.2)
    assert not invented_excess(flat, truth, np.ones(flat.shape, dtype=bool), 5.0, 0.2).any()
