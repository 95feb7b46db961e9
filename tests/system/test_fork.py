"""A process that is forked after a reconstruction reconstructs, too: it waited for ever for OpenMP's threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import multiprocessing, sys
import numpy as np, torch
import mri_recon as mr

torch.set_num_threads(2)
y, x = np.mgrid[-1:1:64j, -1:1:60j]
images = ((y**2 + x**2 < 0.7) * np.exp(1j * x))[None, None] * np.ones((1, 2, 1, 1))
mask = mr.random_mask(60, 2, num_low_frequencies=12)
kspace = mr.undersample(torch.from_numpy(images).to(torch.complex64), mask)

def work(method):
    options = {"max_iters": 5} if method == "cs-wavelet" else {}
    image = mr.reconstruct(kspace, mask, method=method, **options).image
    return torch.get_num_threads(), image.numpy()

methods = sys.argv[2].split(",")
if sys.argv[1] == "after":
    expected = [work(method) for method in methods]
    assert all(threads == 2 for threads, _ in expected)
with multiprocessing.get_context(sys.argv[3]).Pool(1) as pool:
    found = [pool.apply_async(work, (method,)).get(timeout=70) for method in methods]
if sys.argv[1] == "after":
    for (_, one), (_, other) in zip(expected, found):
        assert np.abs(one - other).max() <= 1e-4 * np.abs(one).max()
    assert torch.get_num_threads() == 2
print(*{threads for threads, _ in found})
"""


def _threads(when: str, methods: str, start: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, when, methods, start],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_a_reconstruction() -> None:
    assert _threads("after", "zero-filled,cg-sense,cs-wavelet,unet,unrolled", "fork") == "1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_before_a_reconstruction_all_threads_stay() -> None:
    assert _threads("before", "zero-filled", "fork") == "2"
