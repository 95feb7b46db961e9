from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mri_recon.errors import MaskError
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask, PatternMask


def test_the_receipt_of_columns() -> None:
    mask = random_mask(41, 4, center_fraction=0.1, seed=5)
    receipt = json.loads(json.dumps(mask.receipt()))
    assert receipt["kind"] == "random"
    assert (receipt["width"], receipt["support_width"], receipt["num_lines"], receipt["seed"]) == (41, 41, 10, 5)
    assert (receipt["requested_acceleration"], receipt["realised_acceleration"]) == (4, 4.1)
    assert receipt["center_fraction_realised"] == 4 / 41
    rebuilt = np.zeros(41, dtype=bool)
    rebuilt[receipt["lines"]] = True
    np.testing.assert_array_equal(rebuilt, mask.lines)


def test_the_receipt_of_a_pattern() -> None:
    pattern = np.eye(5, 7, dtype=bool)
    mask = PatternMask(pattern, source="disc.npy")
    receipt = json.loads(json.dumps(mask.receipt()))
    assert (receipt["shape"], receipt["width"], receipt["num_samples"]) == ([5, 7], 7, 5)
    assert (receipt["kind"], receipt["source"], receipt["realised_acceleration"]) == ("pattern", "disc.npy", 7)
    assert receipt["sha256"] != PatternMask(~pattern).receipt()["sha256"]
    assert mask == PatternMask(pattern, source="disc.npy")
    assert mask != PatternMask(~pattern, source="disc.npy")
    assert hash(mask) == hash(PatternMask(pattern))
    assert mask.tensor().shape == (5, 7)
    assert mask.tensor().dtype == torch.bool


def test_masks_cannot_be_changed_from_outside() -> None:
    lines = np.ones(5, dtype=bool)
    mask = ColumnMask(lines)
    lines[0] = False
    mask.tensor()[1] = False
    assert mask.lines.all()
    with pytest.raises(ValueError, match="read-only"):
        mask.lines[0] = False
    with pytest.raises(ValueError, match="read-only"):
        PatternMask(np.ones((2, 3), dtype=bool)).pattern[0, 0] = False


def test_records_refuse_nonsense() -> None:
    with pytest.raises(MaskError, match=r"1-D boolean array, got bool of shape \(2, 3\)"):
        ColumnMask(np.ones((2, 3), dtype=bool))
    with pytest.raises(MaskError, match="1-D boolean array, got float64"):
        ColumnMask(np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(MaskError, match="got 3 columns, none sampled"):
        ColumnMask(np.zeros(3, dtype=bool))
    with pytest.raises(MaskError, match="between the 3 sampled lines and the 3 columns, got support_width=2"):
        ColumnMask(np.ones(3, dtype=bool), support_width=2)
    with pytest.raises(MaskError, match=r"2-D boolean pattern .*got shape \(3,\)"):
        PatternMask(np.ones(3, dtype=bool))
    with pytest.raises(MaskError, match="all-False pattern"):
        PatternMask(np.zeros((3, 4), dtype=bool))
