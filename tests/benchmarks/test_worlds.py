from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from benchmarks.networks.worlds import lines, phantom_scans
from mri_recon.io import Scan
from mri_recon_data import registry
from tests.support.evaluations import small_scan


def _rows(variant: str, *psnr: float) -> list[dict[str, Any]]:
    return [{"scan": scan, "world": "raw-4x", "variant": variant, "psnr": one} for scan, one in enumerate(psnr)]


def test_a_network_stands_beside_the_weight_that_is_best_in_the_mean() -> None:
    rows = [
        *_rows("zero-filled", 20, 20),
        *_rows("cg-sense 0.01", 21, 25),  # best in the mean, though not on the first scan
        *_rows("cg-sense 0.1", 24, 21),
        *_rows("cs-wavelet auto", 22, 23),
        *_rows("unrolled", 24, 24.5),
    ]
    _, _, row = lines(rows)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["raw-4x", "20.00", "23.00 (0.01)", "22.50 (auto)", "24.25", "+1.25", "1 of 2"]


def test_a_phantom_counts_for_no_gain_but_for_the_floor() -> None:
    rows = [
        {**one, "world": "phantom-2coil-4x"}
        for one in (*_rows("zero-filled", 20, 20), *_rows("cs-wavelet auto", 30, 30), *_rows("unet", 19, 21))
    ]
    _, _, row = lines(rows)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["phantom-2coil-4x", "20.00", "", "30.00 (auto)", "20.00", "", "1 of 2"]


def test_phantoms_of_the_validation_split_are_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    @dataclass
    class File:
        scan: Scan

        def load(self) -> Scan:
            return self.scan

    def files(**chosen: str) -> list[File]:
        asked.append(chosen)
        return [File(small_scan(0, width=31, slices=2)), File(small_scan(1))]

    monkeypatch.setattr(registry, "files", files)
    scans = list(phantom_scans())
    assert asked == [{"split": "validation", "kind": "phantom"}]
    assert [scan.kind for scan in scans] == ["phantom-1coil-4x", "phantom-1coil-8x"] * 3
    assert [scan.mask.seed for scan in scans] == [0, 0, 1, 1, 2, 2]
    assert [scan.mask.num_lines for scan in scans] == [8, 4, 8, 4, 8, 4]
    assert tuple(scans[0].reference.shape) == (21, 31)
