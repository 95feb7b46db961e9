"""Small scans and rows for the tests of the evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mri_recon.io import Scan
from mri_recon.transforms.fourier import fft2c
from mri_recon_training.evaluation.compare_scans import Masks, evaluate_scans
from mri_recon_training.evaluation.results import Evaluation
from mri_recon_training.evaluation.sources import Source

METHODS = ["zero-filled", "cg-sense"]


def small_scan(seed: int, *, width: int = 30, slices: int = 1) -> Scan:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:21j, -1 : 1 : width * 1j]
    images = (y**2 + x**2 < 0.7) * np.linspace(1, 2, slices)[:, None, None, None] + 0.1 * rng.normal(
        size=(slices, 1, 21, width)
    )
    return Scan(
        samples=fft2c(torch.from_numpy(images)).to(torch.complex64).numpy(),
        reference=np.abs(images[:, 0]).astype(np.float32),
        target_source="rss of the full k-space",
        mask=None,
        support=np.ones(width, dtype=bool),
        recon_size=(21, width),
        meta={"file": f"{seed}.npy"},
    )


def small_sources() -> list[Source]:
    return [
        Source("set/a1", "anna", lambda: small_scan(0), label="anna T1", attribution="Anna; MIT.", world="near"),
        Source("set/a2", "anna", lambda: small_scan(1, width=25, slices=2), label="anna T2", world="near"),
        Source("set/b", "ben", lambda: small_scan(2), label="ben T1", attribution="Ben; CC0-1.0.", world="far"),
        Source("set/p", "carl", lambda: pytest.fail("a scan without a truth was read"), has_truth=False),
    ]


def small_evaluation(**changed: Any) -> Evaluation:
    masks = Masks([2, 4], [0, 5])
    return evaluate_scans(small_sources(), masks, **{"split": "validation", "methods": METHODS, **changed})


def row(
    file: str,
    method: str,
    psnr: float | None,
    *,
    seed: int = 0,
    acceleration: float = 4,
    ssim: float = 0.5,
    nmse: float = 0.1,
) -> dict[str, Any]:
    return {
        "file": file, "acceleration": acceleration, "seed": seed, "method": method,
        "nmse": nmse, "psnr": psnr, "ssim": ssim, "seconds": 1.0, "info": {},
    }  # fmt: skip
