"""Estimates of memory and time: true for the built-in methods, learning for the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mri_recon.methods import method_names
from mri_recon.service.estimates import Estimates

SHAPES = [(1, 1, 321, 320), (2, 6, 193, 210)]

_MEASURE = """
import json, sys, torch
import mri_recon as mr

torch.set_num_threads(1)

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

def now():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) * 1024

found = {}
for method, shape in json.loads(sys.argv[1]):
    mask = mr.random_mask(shape[-1], 4, seed=0)
    open("/proc/self/clear_refs", "w").write("5")
    before = now()
    y = torch.linspace(-1, 1, shape[2])[:, None] ** 2 + torch.linspace(-1, 1, shape[3]) ** 2
    kspace = mr.fourier.fft2c(((y < 0.5) + 0j).expand(shape).to(torch.complex64))
    kspace = mr.undersample(kspace + 0.01 * torch.randn(shape, dtype=torch.complex64), mask)
    options = {"max_iters": 5} if method in ("cg-sense", "cs-wavelet") else {}
    mr.reconstruct(kspace, mask, method=method, **options)
    found[f"{method} {shape}"] = peak() - before
print(json.dumps(found))
"""


@pytest.mark.slow  # every method on two scans, in a process of its own
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of the memory is read from /proc")
def test_no_method_takes_more_memory_than_estimated() -> None:
    cases = [(name, shape) for name in method_names() for shape in SHAPES]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, json.dumps(cases)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert len(measured) == len(cases)
    for name, shape in cases:
        estimate = Estimates.memory_bytes(name, shape)
        assert measured[f"{name} {list(shape)}"] <= estimate, (name, shape, estimate)
        assert estimate < 400 << 20  # and none is so generous that it would refuse a small scan


def test_bytes() -> None:
    assert Estimates.decoded_bytes((2, 3, 5, 7)) == 2 * 3 * 5 * 7 * 8
    one, two = (Estimates.memory_bytes("cs-wavelet", (n, 8, 151, 127)) for n in (1, 2))
    assert one < two < 2 * one
    assert Estimates.memory_bytes("of-another-package", (1, 1, 9, 9)) > Estimates.memory_bytes("unet", (1, 1, 9, 9))


def test_time_is_learnt() -> None:
    estimates, shape = Estimates(), (1, 8, 64, 64)
    assert estimates.seconds("of-another-package", shape) is None
    estimates.observe("of-another-package", shape, 2.0)
    assert estimates.seconds("of-another-package", shape) == pytest.approx(2)
    assert estimates.seconds("of-another-package", (3, 8, 64, 64)) == pytest.approx(6)
    built_in = estimates.seconds("unet", shape)
    assert built_in is not None
    estimates.observe("unet", shape, 100 * built_in)  # the machine is another one than ours
    assert estimates.seconds("unet", shape) == pytest.approx(100 * built_in)
    for _ in range(30):
        estimates.observe("unet", shape, built_in)
    assert estimates.seconds("unet", shape) == pytest.approx(built_in, rel=1e-3)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_time_that_is_none_changes_nothing(seconds: float) -> None:
    estimates = Estimates()
    before = estimates.seconds("unet", (1, 1, 9, 9))
    estimates.observe("unet", (1, 1, 9, 9), seconds)
    assert estimates.seconds("unet", (1, 1, 9, 9)) == before


def test_every_built_in_method_has_a_time_before_its_first_run() -> None:
    estimates = Estimates()
    assert all(estimates.seconds(name, (1, 1, 64, 64)) for name in ("zero-filled", "cg-sense", "cs-wavelet"))
    assert all(estimates.seconds(name, (1, 1, 64, 64)) for name in ("unet", "unrolled"))
