"""Measure how much memory reconstructions take at most, and compare it with what the service estimates.

    python -m benchmarks.service.memory --cases 200 --seed 0 --json memory.json

Draws cases at random: methods, their options, sizes (odd and long ones too), coils, slices, noise, masks and batches. A
process of its own does a few of them, so that the first call in a process, which loads libraries and weights, is
measured as well as later ones. The peak is the largest resident set (`VmHWM` of Linux, reset before each case) less the
resident set before the input was made; freed memory is given back to the system in between, so that what one case left
is not taken for the next one's. Prints measured over estimated for each case, and exits with status 1 where one is
above 1. Other work on the machine makes it slower and changes nothing else.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

CASES_A_PROCESS = 4
_PRIORS = ("stationary", "stationary-synthesis", "cycle-spinning", "orthonormal", "tv")


def draw_cases(count: int, seed: int, methods: list[str], largest_bytes: int = 48 << 20) -> list[dict[str, Any]]:
    """Draw cases, in an order in which every method is as often the first of a process as it is a later one.

    Args:
        count: how many.
        seed: of the generator.
        methods: names to draw from.
        largest_bytes: most bytes of one k-space.
    """
    rng = np.random.default_rng(seed)
    cases: list[dict[str, Any]] = []
    while len(cases) < count:
        sides = np.exp(rng.uniform(np.log(64), np.log(512), 2)).astype(int)
        if rng.random() < 0.15:  # long
            sides = np.array([rng.integers(600, 900), rng.integers(64, 200)])
        shape = [int(rng.choice([1, 1, 2, 3, 6])), int(rng.choice([1, 1, 2, 4, 8, 15, 16, 32])), *sides.tolist()]
        if 8 * np.prod(shape) > largest_bytes:
            continue
        method = methods[len(cases) % len(methods)]
        case: dict[str, Any] = {"method": method, "shape": shape, "options": {}, "batch": 1}
        case["mask"] = str(rng.choice(["random", "random", "pattern"]))
        case["noise"] = float(rng.choice([0.01, 0.01, 1e-6]))  # with hardly any, solvers work in double precision
        case["size"] = float(rng.choice([0.5, 1.5]))  # within the field of view, and across its edges
        if method == "cs-wavelet":
            case["options"] = {"max_iters": 3}
            if rng.random() < 0.6:
                case["options"]["prior"] = str(rng.choice(_PRIORS))
            if case["options"].get("prior") != "tv" and rng.random() < 0.2:
                case["options"]["levels"] = int(rng.integers(1, 7))
        elif method == "cg-sense":
            case["options"] = {"max_iters": 5}
        elif method == "auto":  # more iterations take longer and no more memory
            case["options"] = {"candidates": "cs-wavelet:max_iters=3,unet,unrolled"}
        elif method in ("unet", "unrolled") and rng.random() < 0.4:
            if rng.random() < 0.25:
                case["options"] = {"adapt": 2}
            else:
                case["batch"] = int(rng.integers(2, 5))
        elif method == "zero-filled" and rng.random() < 0.4:
            case["options"] = {"combination": "adaptive"}
        cases.append(case)
    order = rng.permutation(count)
    return [cases[number] for number in order]


def measure(case: dict[str, Any]) -> int:
    """Do a case in this process and return the peak of its memory in bytes."""
    import torch

    import mri_recon as mr
    from mri_recon.masks.types import PatternMask
    from mri_recon.reconstruction import reconstruct_batch

    shape = tuple(case["shape"])
    if case["mask"] == "random":
        mask: Any = mr.random_mask(shape[-1], 4, seed=0)
    else:
        pattern = np.random.default_rng(0).random(shape[-2:]) < 0.2
        middle = tuple(slice(side // 2 - 10, side // 2 + 10) for side in shape[-2:])
        pattern[middle] = True
        mask = PatternMask(pattern)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    problems, scans = [], []  # a service holds the scan as well
    for number in range(case["batch"]):
        torch.manual_seed(number)
        y = torch.linspace(-1, 1, shape[2])[:, None] ** 2 + torch.linspace(-1, 1, shape[3]) ** 2
        kspace = torch.randn(shape, dtype=torch.complex64).mul_(case.get("noise", 0.01))
        for one in kspace:
            for coil, into in enumerate(one):
                into += mr.fft2c(((y < case.get("size", 0.5)) * (1 + 0.2 * coil)).to(torch.complex64))
        problems.append((mr.undersample(kspace, mask), mask))
        scans.append(kspace)
        del one, into, y
    if case["batch"] == 1:
        mr.reconstruct(*problems[0], method=case["method"], **case["options"])
    else:
        reconstruct_batch(problems, method=case["method"], **case["options"])
    return _status("VmHWM") - before


def estimate(case: dict[str, Any]) -> int:
    """Bytes that the service admits for a case: those of each request of a batch."""
    from mri_recon.methods.estimates import Estimates

    return case["batch"] * Estimates.memory_bytes(case["method"], case["shape"], case["options"])


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name + ":")) * 1024


def _child(threads: int) -> None:
    """Do the cases on standard input, after the imports that a service has done before its first work."""
    import torch

    from mri_recon.methods.table import get_method, method_names

    torch.set_num_threads(threads)
    for name in method_names():
        get_method(name)
    for number, case in enumerate(json.load(sys.stdin)):
        found = {"measured": measure(case), "estimated": estimate(case), "first": number == 0, **case}
        print(json.dumps(found), flush=True)


def run(cases: list[dict[str, Any]], a_process: int = CASES_A_PROCESS, threads: int = 1) -> list[dict[str, Any]]:
    """Measure cases in processes of their own, with this many threads."""
    found: list[dict[str, Any]] = []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for first in range(0, len(cases), a_process):
        command = [sys.executable, "-m", "benchmarks.service.memory", "--child", "--threads", str(threads)]
        text = json.dumps(cases[first : first + a_process])
        done = subprocess.run(command, input=text, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found += map(json.loads, done.stdout.splitlines())
    return found


def main() -> int:
    """Measure and print; the exit status is 1 where a case took more than its estimate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="slices that are computed at the same time [1]")
    parser.add_argument("--methods", help="comma-separated [all]")
    parser.add_argument("--json", type=Path, help="write the cases and figures here")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(arguments.threads)
        return 0
    from mri_recon.methods.table import method_names

    methods = arguments.methods.split(",") if arguments.methods else list(method_names())
    found = []
    cases = draw_cases(arguments.cases, arguments.seed, methods)
    for first in range(0, len(cases), CASES_A_PROCESS):
        for one in run(cases[first : first + CASES_A_PROCESS], threads=arguments.threads):
            found.append(one)
            ratio = one["measured"] / one["estimated"]
            shape = "x".join(map(str, one["shape"]))
            what = " ".join(f"{name}={value}" for name, value in one["options"].items())
            print(
                f"{ratio:5.2f}  {one['measured'] / 2**20:6.0f} of {one['estimated'] / 2**20:6.0f} MiB  "
                f"{one['method']:12} {shape:16} batch {one['batch']} {one['mask']:7} "
                f"{'first' if one['first'] else 'later'} {what}",
                flush=True,
            )
    ratios = np.array([one["measured"] / one["estimated"] for one in found])
    print(
        f"{len(found)} cases: measured / estimated {ratios.min():.2f} to {ratios.max():.2f}, median "
        f"{np.median(ratios):.2f}; {int((ratios > 1).sum())} above their estimate"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int((ratios > 1).any())


if __name__ == "__main__":
    sys.exit(main())
