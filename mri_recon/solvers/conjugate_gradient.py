"""Conjugate gradients on Hermitian positive definite systems, item by item of a batch.

The first axis of the unknown and of the data counts independent problems. Each has its own step lengths and stopping
test, and is frozen as soon as it is solved. Its result does not depend on its neighbours, up to the order in which a
batched FFT or matrix product sums. Scalars are summed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mri_recon._arrays import per_item, quotient
from mri_recon.errors import MethodError
from mri_recon.progress import OnIteration
from mri_recon.solvers.problem import LinearMap, Solution, real_inner

__all__ = [
    "Iterate",
    "conjugate_gradient",
    "first_iterate",
    "next_iterate",
]


@dataclass(frozen=True)
class Iterate:
    """The state of conjugate gradients on `H x = b`.

    Attributes:
        x: the unknown, `(batch, ...)`.
        mapped: `H x`, as the recursion carries it.
        residual: `b - H x`, likewise.
        direction: of the next step.
        energy: `||residual||^2`, float64 `(batch,)`.
    """

    x: Tensor
    mapped: Tensor
    residual: Tensor
    direction: Tensor
    energy: Tensor


InnerProduct = Callable[[Tensor, Tensor], Tensor]


def first_iterate(rhs: Tensor, x: Tensor, mapped: Tensor, product: InnerProduct = real_inner) -> Iterate:
    """Start at x, with `H x` in `mapped`; `product` is `Re <a, b>` of each item."""
    residual = rhs - mapped
    return Iterate(x, mapped, residual, residual, product(residual, residual))


def next_iterate(
    normal: LinearMap, at: Iterate, active: Tensor | None = None, product: InnerProduct = real_inner
) -> Iterate:
    """Take one step of conjugate gradients; an item that is not `active`, bool `(batch,)`, keeps its x and residual."""
    mapped = normal(at.direction)
    size = quotient(at.energy, product(at.direction, mapped))
    if active is not None:
        size = torch.where(active, size, torch.zeros_like(size))
    step = per_item(size, at.x)
    residual = at.residual - step * mapped
    energy = product(residual, residual)
    direction = residual + per_item(quotient(energy, at.energy), at.x) * at.direction
    return Iterate(at.x + step * at.direction, at.mapped + step * mapped, residual, direction, energy)


def conjugate_gradient(
    normal: LinearMap,
    rhs: Tensor,
    *,
    tol: float = 1e-6,
    max_iters: int = 50,
    on_iteration: OnIteration | None = None,
) -> Solution:
    """Solve `H x = b` for Hermitian, positive semi-definite `H` by conjugate gradients, starting from 0.

    An item stops at `||b - H x|| <= tol ||b||`, or after `max_iters`. The history has "relative_residual",
    `||b - H x|| / ||b||` as the recursion carries it, at the start and after every iteration.

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
    nothing = torch.zeros_like(rhs)
    at = first_iterate(rhs, nothing, nothing)
    norm = at.energy.sqrt()
    history = [quotient(norm, norm)]
    active = history[0] > tol
    iterations = torch.zeros_like(active, dtype=torch.int64)
    while bool(active.any()) and len(history) <= max_iters:
        at = next_iterate(normal, at, active)
        iterations = iterations + active
        history.append(quotient(at.energy.sqrt(), norm))
        active = active & (history[-1] > tol)
        if on_iteration is not None:
            on_iteration(len(history) - 1, None, None)
    return Solution(at.x, iterations, history[-1] <= tol, {"relative_residual": torch.stack(history)})
