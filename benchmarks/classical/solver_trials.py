"""Iterations of several solvers to a true suboptimality, for the orthonormal problem of `speed.py`.

    python benchmarks/classical/solver_trials.py [--weight 0.001] [--snr 40] [--most 60]

Counts applications of `A^H A`, the costly part, until `P(x) - P* <= level P*`. Plain versions for comparison; the one
that is kept is `mri_recon.solvers.fista.fista`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
import typer
from classical import simulate
from torch import Tensor

from mri_recon.masks.convert import as_mask
from mri_recon.operators.data_term import SenseDataTerm
from mri_recon.operators.sense import SenseOperator
from mri_recon.solvers.fista import soft_threshold
from mri_recon.transforms.wavelets import WaveletTransform

LEVELS = (0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Trial:
    """`P(x) = 1/2 <x, H x> - Re <b, x> + 1/2 ||y||^2 + lambda ||x||_1` in wavelet coefficients."""

    apply: Callable[[Tensor], Tensor]
    b: Tensor
    energy: float
    lam: float

    def value(self, x: Tensor, hx: Tensor) -> float:
        return 0.5 * self.energy + 0.5 * inner(x, hx) - inner(self.b, x) + self.lam * float(x.abs().double().sum())


def inner(a: Tensor, b: Tensor) -> float:
    return float((a.conj() * b).real.sum(dtype=torch.float64))


def fista(trial: Trial, scale: Tensor | float = 1.0, start: Tensor | None = None) -> Iterator[float]:
    """Restarted FISTA; `scale` multiplies the steps of single coefficients."""
    x = torch.zeros_like(trial.b) if start is None else start
    hx, t, beta = trial.apply(x), 1.0, 0.0
    x_old, hx_old = x, hx
    while True:
        z, hz = x + beta * (x - x_old), hx + beta * (hx - hx_old)
        new = soft_threshold(z + scale * (trial.b - hz), trial.lam * torch.as_tensor(scale))
        h_new = trial.apply(new)
        if inner((z - new) / scale, new - x) > 0:
            t = 1.0
        t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
        beta, t = (t - 1) / t_next, t_next
        x_old, hx_old, x, hx = x, hx, new, h_new
        yield trial.value(x, hx)


def pogm(trial: Trial) -> Iterator[float]:
    """Proximal optimised gradient method without restart (Taylor, Hendrickx and Glineur 2017)."""
    x = w = z = torch.zeros_like(trial.b)
    theta, gamma = 1.0, 1.0
    while True:
        w_new = x + trial.b - trial.apply(x)
        theta_new = (1 + math.sqrt(4 * theta**2 + 1)) / 2
        gamma_new = (2 * theta + theta_new - 1) / theta_new
        z_new = (
            w_new
            + (theta - 1) / theta_new * (w_new - w)
            + theta / theta_new * (w_new - x)
            + (theta - 1) / (gamma * theta_new) * (z - x)
        )
        x, w, z = soft_threshold(z_new, trial.lam * gamma_new), w_new, z_new
        theta, gamma = theta_new, gamma_new
        yield trial.value(x, trial.apply(x))


def sparsa(trial: Trial) -> Iterator[float]:
    """Barzilai-Borwein steps, not worse than the worst of the last five values (Wright et al. 2009)."""
    x = torch.zeros_like(trial.b)
    hx, curvature = trial.apply(x), 1.0
    values = [trial.value(x, hx)]
    while True:
        new = soft_threshold(x + (trial.b - hx) / curvature, trial.lam / curvature)
        h_new = trial.apply(new)
        value = trial.value(new, h_new)
        if value > max(values[-5:]):
            curvature = min(1.0, 2 * curvature)
            values.append(values[-1])
        else:
            d = new - x
            curvature = max(0.05, min(1.0, inner(d, h_new - hx) / inner(d, d)))
            x, hx = new, h_new
            values.append(value)
        yield values[-1]


def admm(trial: Trial, penalty: float = 0.1) -> Iterator[float]:
    """Split in the coefficients; one step of steepest descent on the quadratic an iteration."""
    u = trial.b.clone()
    z, dual = soft_threshold(u, trial.lam / penalty), torch.zeros_like(trial.b)
    while True:
        r = trial.b + penalty * (z - dual) - trial.apply(u) - penalty * u
        hr = trial.apply(r) + penalty * r
        u = u + inner(r, r) / inner(r, hr) * r
        z = soft_threshold(u + dual, trial.lam / penalty)
        dual = dual + u - z
        yield trial.value(z, trial.apply(z))


def conjugate_gradients(trial: Trial, steps: int) -> Tensor:
    x, r = torch.zeros_like(trial.b), trial.b.clone()
    p, energy = r, inner(r, r)
    for _ in range(steps):
        hp = trial.apply(p)
        size = energy / inner(p, hp)
        x, r = x + size * p, r - size * hp
        energy, old = inner(r, r), energy
        p = r + energy / old * p
    return x


def finer_steps(like: Tensor, factor: float) -> Tensor:
    """Steps longer by `factor` in the bands of the finest details along the phase axis."""
    scale = torch.ones(like.shape)
    scale[..., like.shape[-1] // 2 :] = factor
    return scale


def main(
    weight: Annotated[float, typer.Option(help="in units of max |W A^H y|")] = 1e-3,
    snr: float = 40.0,
    most: Annotated[int, typer.Option(help="iterations of each")] = 60,
) -> None:
    torch.set_num_threads(1)
    problem = simulate(320, 320, 8, snr=snr)
    kspace, maps = torch.from_numpy(problem.kspace), torch.from_numpy(problem.maps)
    data = SenseDataTerm(SenseOperator(as_mask(problem.lines, kspace.shape).tensor(), maps), kspace)
    transform = WaveletTransform("db4", 5, (320, 320))
    b = transform.forward(data.rhs)
    trial = Trial(
        lambda c: transform.forward(data.gram(transform.inverse(c))),
        b,
        float(data.at_zero().energy),
        weight * float(b.abs().max()),
    )
    best = min(value for _, value in zip(range(800), fista(trial), strict=False))
    runs: list[tuple[str, Iterator[float], int]] = [
        ("restarted FISTA", fista(trial), 0),
        ("POGM, no restart", pogm(trial), 0),
        ("SpaRSA", sparsa(trial), 0),
        ("ADMM, one inner step", admm(trial), 0),
        *((f"FISTA, finest bands x{f:g}", fista(trial, finer_steps(b, f)), 0) for f in (1.5, 2.0, 3.0)),
        *((f"FISTA after {n} of CG", fista(trial, start=conjugate_gradients(trial, n)), n) for n in (2, 4, 8)),
    ]
    typer.echo(f"SIMULATED, 320x320x8, R = 4, lambda {weight:g} of max |W A^H y|, SNR {snr:g}")
    typer.echo(f"{'applications of A^H A to P / P* - 1 of':40} " + " ".join(f"{level:>8g}" for level in LEVELS))
    for name, values, before in runs:
        reached = {}
        for count, value in zip(range(1, most + 1), values, strict=False):
            for level in LEVELS:
                if value / best - 1 <= level:
                    reached.setdefault(level, count + before)
        typer.echo(f"{name:40} " + " ".join(f"{reached.get(level, '-'):>8}" for level in LEVELS))


if __name__ == "__main__":
    typer.run(main)
