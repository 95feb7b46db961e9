"""Conjugate gradients on Hermitian positive definite systems, item by item of a batch.

For `H x = b`, starting with `r = b - H x` and `p = r`, one iteration is

    alpha = ||r||^2 / <p, H p>
    x <- x + alpha p
    r' = r - alpha H p
    beta = ||r'||^2 / ||r||^2
    p <- r' + beta p,   r <- r'

`conjugate_gradient` is the solver. ADMM's inner solves take a few of its iterations, starting from the result of the
last ones. Only for them, an iterate carries `H x`, the start need not be 0, the inner product can be chosen, and a
preconditioner M, near `H^-1`, can be given: p starts at `M r`, `||r||^2` becomes `<r, M r>`, and p `M r' + beta p`.

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
    "last_iterate",
    "next_iterate",
]


@dataclass(frozen=True)
class Iterate:
    """Hold the state of conjugate gradients on `H x = b`.

    Attributes:
        x: the unknown, `(batch, ...)`.
        mapped: `H x`, as the recursion carries it; for ADMM's next inner solve, which starts at this x.
        residual: `r = b - H x`, likewise.
        direction: `p` of the next step.
        energy: `<r, M r>`, `||r||^2` without a preconditioner, float64 `(batch,)`.
    """

    x: Tensor
    mapped: Tensor
    residual: Tensor
    direction: Tensor
    energy: Tensor


InnerProduct = Callable[[Tensor, Tensor], Tensor]


def first_iterate(
    rhs: Tensor,
    x: Tensor,
    mapped: Tensor,
    product: InnerProduct = real_inner,
    precondition: LinearMap | None = None,
) -> Iterate:
    """Start at x, with `H x` in `mapped`: `r = b - H x`, `p = M r`; `product` is `Re <a, b>` of each item."""
    residual = rhs - mapped
    direction = residual if precondition is None else precondition(residual)
    return Iterate(x, mapped, residual, direction, product(residual, direction))


def next_iterate(
    normal: LinearMap,
    at: Iterate,
    active: Tensor | None = None,
    product: InnerProduct = real_inner,
    precondition: LinearMap | None = None,
) -> Iterate:
    """Take one step of conjugate gradients; an item that is not `active`, bool `(batch,)`, keeps its x and residual."""
    h_p, step = _step(normal, at, active, product)
    moved = step * h_p
    x, mapped, residual = at.x + step * at.direction, at.mapped + moved, at.residual - moved
    del h_p, moved  # two images less while the preconditioner takes its own
    turned = residual if precondition is None else precondition(residual)
    energy = product(residual, turned)
    direction = turned + per_item(quotient(energy, at.energy), x) * at.direction
    return Iterate(x, mapped, residual, direction, energy)


def last_iterate(normal: LinearMap, at: Iterate, product: InnerProduct = real_inner) -> tuple[Tensor, Tensor]:
    """Take the last step of a solve, which needs no residual and no next direction: x and `H x`."""
    h_p, step = _step(normal, at, None, product)
    return at.x + step * at.direction, at.mapped + step * h_p


def _step(normal: LinearMap, at: Iterate, active: Tensor | None, product: InnerProduct) -> tuple[Tensor, Tensor]:
    """Compute `H p`, and how far to go along p."""
    h_p = normal(at.direction)
    alpha = quotient(at.energy, product(at.direction, h_p))
    if active is not None:
        alpha = torch.where(active, alpha, torch.zeros_like(alpha))
    return h_p, per_item(alpha, at.x)


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
        tol: relative residual at which an item stops; 0 runs all iterations unless the residual vanishes.
        max_iters: maximum number of iterations.
        on_iteration: called after every iteration, without objective and gap; an exception from it stops the solver.

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
