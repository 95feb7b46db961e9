"""The default prior of `cs-wavelet`: what it reaches, what it costs, and which parts of its solver pay.

    python benchmarks/classical/default_prior.py           every problem
    python benchmarks/classical/default_prior.py --quick   the first three

SIMULATED problems with the true maps given, of one slice. Each line is one way to solve the same problem:

- "default": as users get it.
- "no blocks", "all coils", "fixed threshold", "residuals alone": with the diagonal in k-space as the preconditioner of
  all inner solves, with all coils in them, with a threshold of 0.01 max |A^H y| and the stop at a change of 5e-4 that
  went with it, and stopping only where both residuals are 1e-3, as in version 0.1.
- "converged": until residuals of 1e-5, at most 600 iterations; the objective and the image that the others are compared
  with.
- "bart pics": 100 iterations in its default mode (random shifts), at the weight of a grid with the highest PSNR by
  looking at the truth. Left out where a side is odd: its maps and images there lie elsewhere than ours.

Seconds are processor time of the whole call on one thread, the median of the repetitions, which alternate; "of default"
is the median of the ratios within a round. BART's have its start-up, reading and writing in them.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
import typer
from peers import Bart, Problem
from speed import full_simulation
from torch import Tensor

from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.methods import priors
from mri_recon.methods.cs_wavelet import cs_wavelet
from mri_recon.operators.preconditioner import circulant_inverse

PROBLEMS = (
    (320, 320, 8, 40.0, 4),
    (320, 320, 8, 200.0, 8),
    (151, 127, 8, 40.0, 4),
    (320, 320, 8, 40.0, 8),
    (320, 320, 8, 10.0, 4),
    (320, 320, 8, 200.0, 4),
    (256, 256, 4, 40.0, 4),
    (640, 368, 15, 40.0, 4),
)
"""Rows, columns, coils, SNR, acceleration."""

BART_WEIGHTS = (0.0003, 0.001, 0.003, 0.01, 0.03)


@dataclass
class Line:
    """One way to solve a problem."""

    seconds: float
    image: Tensor
    iterations: int | None = None
    objective: float | None = None
    ratio: float | None = None


def main(
    quick: Annotated[bool, typer.Option(help="The first three problems only")] = False,
    repetitions: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Print the table."""
    torch.set_num_threads(threads)
    typer.echo(f"SIMULATED; {threads} threads, {repetitions} calls, processor time")
    typer.echo(
        f"{'problem':30} {'solved':20}{'its':>5}{'s':>8}{'of default':>12}{'P/P* - 1':>10}{'image':>9}{'PSNR':>8}"
    )
    for shape in PROBLEMS[: 3 if quick else None]:
        _print(shape, repetitions, threads)


def _print(shape: tuple[int, int, int, float, int], repetitions: int, threads: int) -> None:
    h, w, coils, snr, acceleration = shape
    kspace, maps, truth = full_simulation(h, w, coils, snr=snr)
    mask = random_mask(w, acceleration, seed=0)
    sampled = undersample(kspace, mask)[None]

    def ours(options: dict[str, Any] | None = None, **replaced: Any) -> Callable[[], Line]:
        """Call `cs_wavelet` with other values of the module `priors`."""

        def solve() -> Line:
            with patch.multiple(priors, PRIORS=priors.PRIORS, **replaced):
                start = time.process_time()
                image, info = cs_wavelet(sampled, mask, maps[None], **(options or {}))
                return Line(time.process_time() - start, image[0], info["iterations"], info["objective"])

        return solve

    ways: dict[str, Callable[[], Line]] = {
        "default": ours(),
        "no blocks": ours(penalised_inverse=circulant_inverse),
        "all coils": ours(_LEFT_OUT=0.0),
        "fixed threshold": ours(_ADMM_THRESHOLD=_Fixed(), _LEAST_CHANGE=5e-4, _MOST_CHANGE=5e-4),
        "residuals alone": ours(_LEAST_CHANGE=0.0, _MOST_CHANGE=0.0),
    }
    if Bart.available() and h % 2 == w % 2 == 0:
        problem = Problem(sampled.numpy(), mask.tensor().numpy(), maps.numpy())
        ways["bart pics"] = _bart(problem, truth, threads)
    rounds = [{name: solve() for name, solve in ways.items()} for _ in range(repetitions + 1)][1:]  # the first warms up
    best = {
        name: replace(
            line,
            seconds=median([one[name].seconds for one in rounds]),
            ratio=median([one[name].seconds / one["default"].seconds for one in rounds]),
        )
        for name, line in rounds[0].items()
    }
    best["converged"] = ours(
        {"gap_tol": 0, "max_iters": 600}, _LEAST_CHANGE=0.0, _MOST_CHANGE=0.0, _ADMM_TOLERANCE=1e-5
    )()
    label = f"{h}x{w}x{coils}, SNR {snr:g}, R = {acceleration}"
    for name, line in best.items():
        typer.echo(f"{label:30} {name:20}" + _figures(line, best["default"], best["converged"], truth))
        label = ""


def _figures(line: Line, default: Line, converged: Line, truth: Tensor) -> str:
    its = "" if line.iterations is None else str(line.iterations)
    excess = distance = ""
    if line.objective is not None and converged.objective is not None and line is not converged:
        excess = f"{line.objective / converged.objective - 1:.1e}"
        distance = f"{float((line.image - converged.image).norm() / converged.image.norm()):.1e}"
    ratio = line.seconds / default.seconds if line.ratio is None else line.ratio
    return f"{its:>5}{line.seconds:8.2f}{ratio:12.2f}{excess:>10}{distance:>9}{_psnr(line.image, truth):8.2f}"


def _bart(problem: Problem, truth: Tensor, threads: int) -> Callable[[], Line]:
    """Find the weight by looking at the truth, and return the call at that weight."""
    bart = Bart(threads)
    bart.load(problem)

    def quality(weight: float) -> float:
        return _psnr(_tensor(bart.default(weight, 100)[1]), truth)

    weight = max(BART_WEIGHTS, key=quality)

    def solve() -> Line:
        start = _of_children()
        _, image = bart.default(weight, 100)
        return Line(_of_children() - start, _tensor(image), 100)

    return solve


class _Fixed:
    """Stands in for the factor of a threshold that follows lambda: times `sqrt(lambda / max)`, it is 0.01."""

    def __mul__(self, root: Tensor) -> Tensor:
        return torch.full_like(root, 0.01)


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _tensor(image: npt.NDArray[np.complex64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image))


def _psnr(image: Tensor, truth: Tensor) -> float:
    """PSNR of the magnitudes, the data range being the largest of the truth."""
    error = (image.abs() - truth).square().mean()
    return float(10 * torch.log10(truth.amax() ** 2 / error))


if __name__ == "__main__":
    typer.run(main)
