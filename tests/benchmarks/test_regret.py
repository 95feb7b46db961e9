"""The tables of the regret of `auto`: what they average, and which scans and warnings they show."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.trust.fold_images import Images, predictions
from benchmarks.trust.regret import by_band, lines, rank, regrets
from mri_recon.methods.holdout import compare_predictions, hold_out
from tests.methods.test_holdout_check import masked


def _row(world: str, psnr: dict[str, float], errors: dict[str, float], mixed: dict[str, float]) -> dict[str, Any]:
    candidates = {
        name: {
            "error_db": errors[name],
            "uncertainty_db": 0.1,
            "psnr": value,
            "seconds": 2.0,
            "standard_errors_behind": max(0.0, errors[name]),
            "psnr_behind": 25 - value,
        }
        for name, value in psnr.items()
    }
    return {"scan": 0, "world": world, "held": 9, "candidates": candidates, "psnr": mixed}


ROWS = [
    _row("raw-4x", {"a": 30, "b": 28, "c": 20}, {"a": -3, "b": -2, "c": 3}, {"choice": 30, "mixture": 30.5}),
    _row("raw-4x", {"a": 30, "b": 28, "c": 20}, {"a": -1, "b": -2, "c": 1.5}, {"choice": 28, "mixture": 29.9}),
    _row("phantom-1coil-4x", {"a": 30, "b": 28, "c": 26}, {"a": -1, "b": 0, "c": 1}, {"choice": 30, "mixture": 29}),
]


def test_regret_and_rank() -> None:
    assert regrets(ROWS[0]) == {"choice": 0, "mixture": -0.5}
    assert rank(ROWS[0]) == pytest.approx(1)
    assert rank(ROWS[1]) == pytest.approx(0.5)


def test_the_tables() -> None:
    text = lines(ROWS)
    cells = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in text if "|" in row}
    assert cells["raw-4x"] == ["2", "0.75", "+1.00 (+2.00)", "-0.20 (+0.10)", "24"]
    assert cells["all but phantoms"] == cells["raw-4x"]
    assert cells["all"][0] == "3"
    assert cells["c"] == ["2 of 2", "0 of 1", "1 of 2", "0 of 1"]  # 2 are below 25 dB; 1 and 2 standard errors
    assert cells["a"] == ["0 of 0", "0 of 3", "0 of 0", "0 of 3"]
    assert cells["0"][0] in ("raw-4x", "phantom-1coil-4x")  # a scan that loses more than half a dB is shown


def test_two_bands_predict_no_worse_than_one() -> None:
    kspace, mask = masked((1, 1, 33, 61))
    data = hold_out(kspace, mask)

    class Held:
        pass

    scan: Any = Held()
    scan.kspace, scan.data = kspace, data
    generator = torch.Generator().manual_seed(0)
    folds = len(data.folds)
    first = torch.complex(*(torch.randn((folds, 33, 61), generator=generator) for _ in range(2)))
    found = [Images(first[:1], first, 1.0), Images(0 * first[:1], 0 * first, 1.0)]
    mixed, weights = by_band(scan, found)
    assert weights.sum(axis=0) == pytest.approx(1, abs=1e-4)
    assert mixed.shape == (1, 33, 61)
    errors = [compare_predictions(data, predictions(scan, one)).error for one in found]
    assert errors[1] == pytest.approx(1)
    assert weights[1].min() > 0.5  # noise predicts nothing
