from __future__ import annotations

from typing import Any

from benchmarks.networks.worlds import lines


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
