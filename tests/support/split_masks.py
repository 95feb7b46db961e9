"""Small masks with a fully sampled centre and enough samples outside it to split."""

from __future__ import annotations

import numpy as np

from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask, PatternMask


def small_columns(w: int = 40, seed: int = 1) -> ColumnMask:
    """A third of the columns, six in the centre."""
    return random_mask(w, 3, num_low_frequencies=6, seed=seed)


def small_pattern(h: int = 32, w: int = 40) -> PatternMask:
    """Two fifths of the samples, and a centre of 8x8."""
    pattern = np.random.default_rng(0).random((h, w)) < 0.4
    pattern[h // 2 - 4 : h // 2 + 4, w // 2 - 4 : w // 2 + 4] = True
    return PatternMask(pattern)
