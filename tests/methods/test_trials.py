"""The rule by which `auto` weighs its candidates."""

from __future__ import annotations

import numpy as np
import pytest

from mri_recon.methods.candidate import parse_candidates
from mri_recon.methods.trials import weigh

# Three candidates whose errors on six lines are independent.
GRAMS = np.tile(np.diag([1.0, 1.1, 3.0]), (6, 1, 1))


@pytest.mark.parametrize("how", ["mixture", "choice"])
def test_where_nothing_predicts_better_than_nothing_compressed_sensing_is_taken(how: str) -> None:
    candidates = parse_candidates("unet,unrolled,cs-wavelet:max_iters=9")
    assert weigh(candidates, GRAMS, np.full(6, 0.9), how).tolist() == [0, 0, 1]
    without = parse_candidates("unet,unrolled,cg-sense")
    assert weigh(without, GRAMS, np.full(6, 0.9), how).tolist() == [1, 0, 0]


def test_else_by_the_prediction() -> None:
    candidates = parse_candidates("unet,unrolled,cs-wavelet")
    assert weigh(candidates, GRAMS, np.full(6, 2.0), "choice").tolist() == [1, 0, 0]
    mixed = weigh(candidates, GRAMS, np.full(6, 2.0), "mixture")
    assert mixed == pytest.approx([1.1 / 2.1, 1 / 2.1, 0], abs=1e-6)  # the third is worse than nothing
