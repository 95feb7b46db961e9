"""Memory that `cs-wavelet` takes above torch's own, beside its bound.

    python benchmarks/classical/memory.py             the table of docs/results/benchmarks.md
    python benchmarks/classical/memory.py --only 3,4  some of its cases, counted from 0

Each case runs in a fresh process on one thread, after a small problem that loads the libraries and the compiled code.
"peak" is the largest resident set of Linux (`VmHWM`) from there on, less the one there: input, maps and result
are in it, and NumPy's and torch's memory alike. "live" is the same with an allocator that gives freed arrays back at
once: what glibc keeps of them is the difference. Maps are given. The bound is 4 times the k-space plus 12 complex
images a slice from 8 coils up, and 2 (3 L + 1) + 8 images of a slice for one coil, L levels. SIMULATED data.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

CASES: tuple[tuple[int, int, int, int, float, float], ...] = (
    (1, 320, 320, 8, 40.0, 4),
    (1, 320, 320, 8, 200.0, 8),
    (4, 320, 320, 8, 40.0, 4),
    (1, 640, 368, 15, 40.0, 4),
    (1, 320, 320, 1, 40.0, 4),
    (1, 311, 257, 1, 40.0, 4),
)
"""Slices, rows, columns, coils, SNR, acceleration."""

LEVELS = 4


def measure(case: tuple[int, int, int, int, float, float]) -> dict[str, Any]:
    """Reconstruct in this process: bytes of the peak above the memory before the input was made."""
    from mri_recon.methods.cs_wavelet import cs_wavelet

    torch.set_num_threads(1)
    slices, h, w, coils, snr, acceleration = case
    side = 192  # above `compiled_haar.MIN_SIDE`, so that the compiled code is loaded
    for small_coils in {1, min(coils, 4)}:
        kspace, maps, mask = _problem(1, side, side, small_coils, snr, acceleration)
        cs_wavelet(kspace, mask, maps if small_coils > 1 else None, max_iters=6)
    del kspace, maps, mask
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    kspace, maps, mask = _problem(slices, h, w, coils, snr, acceleration)
    made = _status("VmRSS") - before
    _, info = cs_wavelet(kspace, mask, maps if coils > 1 else None)
    return {"peak": _status("VmHWM") - before, "input": made, "iterations": info["iterations"]}


def _problem(slices: int, h: int, w: int, coils: int, snr: float, acceleration: float) -> tuple[Any, Any, Any]:
    """Discs of two sizes with smooth maps and noise; made in place, so that the peak is the reconstruction's."""
    import mri_recon as mr

    y, x = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)[None]
    image = ((x**2 + y**2 < 0.6).float() + 0.5 * ((x - 0.2) ** 2 + y**2 < 0.1).float()).to(torch.complex64)
    maps = torch.empty(coils, h, w, dtype=torch.complex64)
    for coil in range(coils):
        angle = 2 * np.pi * coil / coils
        maps[coil] = torch.exp(-((x - np.cos(angle)) ** 2) - (y - np.sin(angle)) ** 2)
    norm = torch.zeros(h, w)
    for one in maps:
        norm += one.abs().square()
    maps /= norm.sqrt_()
    mask = mr.random_mask(w, acceleration, seed=0)
    lines = mask.tensor()
    kspace = torch.randn(slices, coils, h, w, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    kspace.div_(snr)
    for one in kspace:
        for coil, into in enumerate(one):
            into += mr.fft2c(maps[coil] * image)
    kspace *= lines
    return kspace, maps, mask


def bound(case: tuple[int, int, int, int, float, float]) -> float:
    """Bytes of the bound."""
    slices, h, w, coils, *_ = case
    image = 8 * h * w
    if coils == 1:
        return image * (2 * (3 * LEVELS + 1) + 8)
    return 4 * slices * coils * image + 12 * slices * image


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name + ":")) * 1024


def main() -> None:
    """Print the table."""
    only = [int(number) for number in sys.argv[2].split(",")] if sys.argv[1:2] == ["--only"] else range(len(CASES))
    if len(sys.argv) == 2:
        print(json.dumps(measure(CASES[int(sys.argv[1])])))
        return
    print(
        f"{'slices x size x coils':24}{'SNR':>5}{'R':>3}{'its':>5}{'peak MB':>9}{'live':>7}{'input':>7}{'bound':>7}"
        f"{'live / bound':>14}"
    )
    for number in only:
        case = CASES[number]
        command = [sys.executable, str(Path(__file__).resolve()), str(number)]
        at_once = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
        usual, live = (
            json.loads(
                subprocess.run(
                    command,
                    env={**os.environ, "OMP_NUM_THREADS": "1", **own},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                ).stdout
            )
            for own in ({}, at_once)
        )
        slices, h, w, coils, snr, acceleration = case
        label, limit = f"{slices} x {h}x{w} x {coils}", bound(case)
        cells = "".join(f"{value / 1e6:7.1f}" for value in (live["peak"], live["input"], limit))
        print(
            f"{label:24}{snr:5g}{acceleration:3g}{live['iterations']:5d}{usual['peak'] / 1e6:9.1f}{cells}"
            f"{live['peak'] / limit:14.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
