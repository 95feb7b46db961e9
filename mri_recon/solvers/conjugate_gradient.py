"""Conjugate gradients on Hermitian positive definite systems, item by item of a batch.

Works on batches: the first axis of the unknown and of the data counts independent problems. Each has its
own weight, step control and stopping test, and is frozen as soon as it is solved, so its result does not depend on its
neighbours (up to the order in which a batched FFT or matrix product sums). Scalars are summed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mri_recon._arrays import per_item, quotient
from mri_recon.errors import MethodError
from mri_recon.progress import OnIteration
from mri_recon.solvers.problem import LinearMap, real_inner

__all__ = [
    "ConjugateGradientSolution",
    "conjugate_gradient",
]


@dataclass(frozen=True)
class ConjugateGradientSolution:
    """What `conjugate_gradient` found.

    Attributes:
        x: the unknown, of the shape of the right-hand side.
        iterations: int64 `(batch,)`, iterations until the item stopped.
        relative_residual: float64 `(batch,)`, `||b - H x|| / ||b||` as the recursion carries it.
        converged: bool `(batch,)`, True where `relative_residual <= tol`.
        history: float64 `(iterations + 1, batch)` under "relative_residual", the start first.
    """

    x: Tensor
    iterations: Tensor
    relative_residual: Tensor
    converged: Tensor
    history: dict[str, Tensor]


def conjugate_gradient(
    normal: LinearMap,
    rhs: Tensor,
    *,
    tol: float = 1e-6,
    max_iters: int = 50,
    on_iteration: OnIteration | None = None,
) -> ConjugateGradientSolution:
    """Solve `H x = b` for Hermitian, positive semi-definite `H` by conjugate gradients, starting from 0.

    It stops at `||b - H x|| <= tol ||b||`, or after `max_iters`.

    Args:
        normal: `H`, batched, e.g. `A^H A + mu`.
        rhs: `b`, `(batch, ...)`, in the range of `H`.
        tol: relative residual to stop at; 0 runs all iterations unless the residual vanishes.
        max_iters: most iterations.
        on_iteration: called after every iteration, without objective and gap; what it raises ends the solver.

    Raises:
        MethodError: `tol` or `max_iters` out of range.

    Source: Hestenes and Stiefel, J Res Natl Bur Stand 1952.
    """
    if not tol >= 0 or max_iters < 1:
        raise MethodError(f"expected tol >= 0 and max_iters >= 1, got {tol} and {max_iters}: correct them")
    x, r, p = torch.zeros_like(rhs), rhs, rhs
    energy = real_inner(r, r)
    norm = energy.sqrt()
    history = [quotient(norm, norm)]
    active = history[0] > tol
    iterations = torch.zeros_like(active, dtype=torch.int64)
    while bool(active.any()) and len(history) <= max_iters:
        hp = normal(p)
        # A finished item gets steps of 0: its direction and residual stand still.
        alpha = torch.where(active, quotient(energy, real_inner(p, hp)), torch.zeros_like(energy))
        size = per_item(alpha, rhs)
        x, r = x + size * p, r - size * hp
        energy_new = real_inner(r, r)
        p = r + per_item(quotient(energy_new, energy), rhs) * p
        energy = energy_new
        iterations = iterations + active
        history.append(quotient(energy.sqrt(), norm))
        active = active & (history[-1] > tol)
        if on_iteration is not None:
            on_iteration(len(history) - 1, None, None)
    return ConjugateGradientSolution(
        x, iterations, history[-1], history[-1] <= tol, {"relative_residual": torch.stack(history)}
    )
