from __future__ import annotations

from typing import Any

from benchmarks.networks.adaptation import lines


def _row(scan: str, before: float, after: float, *, kept: int, validation: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "scan": scan,
        "world": "neck-4x",
        "coils": 4,
        "rate": 1e-4,
        "kept_step": kept,
        "seconds": 60.0,
    }
    row |= {"psnr_before": before, "psnr_after": after, "ssim_before": 0.8, "ssim_after": 0.81}
    return row | {"validation_before": 2.0, "validation_after": validation}


def test_means_and_the_least_gain_of_a_world() -> None:
    rows = [_row("1", 30, 30.5, kept=90, validation=1.9), _row("2", 31, 30.9, kept=20, validation=1.98)]
    _, _, found = lines([*rows, _row("3", 32, 32, kept=0, validation=2.0)])
    cells = [cell.strip() for cell in found.strip("|").split("|")]
    assert cells == [
        *("neck-4x", "4", "0.0001", "3", "2", "31.00", "31.13", "+0.13", "-0.10"),
        *("0.8000", "0.8100", "2.0 %", "60"),
    ]
