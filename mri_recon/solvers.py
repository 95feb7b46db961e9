"""Iterative solvers: callables in, solution and history out.

Both solvers work on batches: the first axis of the unknown and of the data counts independent problems. Each has its
own weight, step control and stopping test, and is frozen as soon as it is solved, so its result does not depend on its
neighbours (up to the order in which a batched FFT or matrix product sums). Scalars are summed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mri_recon.errors import MethodError, ShapeError

__all__ = ["ConjugateGradientSolution", "FistaSolution", "conjugate_gradient", "fista", "soft_threshold"]

LinearMap = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FistaSolution:
    """What `fista` found.

    Attributes:
        x: the unknown, of the shape that `adjoint(data)` has.
        iterations: int64 `(batch,)`, iterations until the item stopped.
        objective: float64 `(batch,)`, `P(x)`.
        relative_gap: float64 `(batch,)`, an upper bound on `P(x) - min P` in units of the best dual value found;
            infinite while that is not positive.
        converged: bool `(batch,)`, True where `relative_gap <= gap_tol`.
        history: float64 `(iterations + 1, batch)` under "objective" and "relative_gap", the start first.
    """

    x: Tensor
    iterations: Tensor
    objective: Tensor
    relative_gap: Tensor
    converged: Tensor
    history: dict[str, Tensor]


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


def soft_threshold(x: Tensor, threshold: Tensor | float) -> Tensor:
    """Proximal map of `threshold * sum |x|`: shrinks the magnitude, keeps the phase.

        S(x) = x max(0, 1 - threshold / |x|)

    Args:
        x: real or complex, any shape.
        threshold: not negative, broadcastable to `x`.

    Returns:
        tensor of the shape and type of `x`.
    """
    magnitude = x.abs()
    kept = (magnitude - threshold).clamp_min(0)
    return x * (kept / magnitude.clamp_min(torch.finfo(magnitude.dtype).tiny))


def fista(
    forward: LinearMap,
    adjoint: LinearMap,
    data: Tensor,
    reg_weight: Tensor,
    *,
    step: float = 1.0,
    gap_tol: float = 1e-3,
    max_iters: int = 200,
) -> FistaSolution:
    """Minimise `P(x) = 1/2 ||B x - y||^2 + lambda ||x||_1` by restarted FISTA, starting from 0.

    An analysis prior `||W u||_1` with an orthonormal `W` is this problem in `x = W u`, with `B = A W^H`.

    One iteration costs one `forward` and one `adjoint`: with `r = y - B x` and `g = B^H r` known at the last two
    points, the gradient at the extrapolated point `z = x + beta (x - x_old)` is the same mixture of the gradients.
    Momentum is dropped where it points uphill (gradient scheme), and a step that would raise the objective is taken
    back (function scheme), so the objective never rises beyond rounding.

    It stops at `relative_gap <= gap_tol`, or after `max_iters`. With `s = min(1, lambda / ||g||_inf)`, `theta = s r` is
    feasible for the dual problem; its value is `D = Re <theta, y> - 1/2 ||theta||^2 <= min P`, and

        P(x) - D = 1/2 ||r - theta||^2 + lambda ||x||_1 - Re <B^H theta, x>,

    a sum without cancellation. The best D seen is kept, and `relative_gap = (P(x) - D) / D`.

    Args:
        forward: `B`, batched: `(batch, ...)` to the shape of `data`.
        adjoint: `B^H`, batched.
        data: `y`, `(batch, ...)`, real or complex, single or double precision.
        reg_weight: `lambda > 0`, real `(batch,)`, in the units of `B^H y`.
        step: at most `1 / ||B||^2`.
        gap_tol: relative duality gap to stop at; 0 runs all iterations.
        max_iters: most iterations.

    Raises:
        MethodError: a weight that is not positive and finite, or `step`, `gap_tol` or `max_iters` out of range.
        ShapeError: `reg_weight` is not `(batch,)`.

    Source: Beck and Teboulle, SIAM J Imaging Sci 2009 (FISTA); O'Donoghue and Candes, Found Comput Math 2015 (restart).
    """
    lam = _checked_weight(reg_weight, data)
    if not step > 0 or not gap_tol >= 0 or max_iters < 1:
        raise MethodError(
            f"expected step > 0, gap_tol >= 0 and max_iters >= 1, got {step}, {gap_tol} and {max_iters}: correct them"
        )
    g = adjoint(data)
    threshold = _per_item(lam.to(g.real.dtype) * step, g)
    x, r = torch.zeros_like(g), data
    x_old, g_old = x, g
    certificate = _Certificate(data, lam)
    objective = certificate.update(x, r, g)
    history = {"objective": [objective], "relative_gap": [certificate.relative_gap()]}
    active = history["relative_gap"][0] > gap_tol
    iterations = torch.zeros_like(active, dtype=torch.int64)
    t = torch.ones_like(lam)
    beta = torch.zeros_like(lam)
    rounding = 10 * torch.finfo(g.dtype).eps
    while bool(active.any()) and len(history["objective"]) <= max_iters:
        momentum = _per_item(beta.to(g.real.dtype), g)
        z = x + momentum * (x - x_old)
        x_new = soft_threshold(z + step * (g + momentum * (g - g_old)), threshold)
        r_new = data - forward(x_new)
        g_new = adjoint(r_new)
        objective_new = _objective(x_new, r_new, lam)
        uphill = _inner(z - x_new, x_new - x) > 0
        # A plain step (beta = 0) cannot raise the objective and is never taken back. Nor is a rise that may be
        # rounding: near the solution that would drop the momentum again and again.
        rejected = (objective_new > objective * (1 + rounding)) & (beta > 0)
        kept = ~active | rejected
        x_old, g_old = x, g
        x, r, g = _where(kept, x, x_new), _where(kept, r, r_new), _where(kept, g, g_new)
        t = torch.where(uphill | rejected, torch.ones_like(t), t)
        t_next = (1 + torch.sqrt(1 + 4 * t**2)) / 2
        beta, t = (t - 1) / t_next, t_next
        iterations = iterations + active
        objective = certificate.update(x, r, g)
        gap = certificate.relative_gap()
        history["objective"].append(objective)
        history["relative_gap"].append(gap)
        active = active & (gap > gap_tol)
    gap = history["relative_gap"][-1]
    stacked = {name: torch.stack(values) for name, values in history.items()}
    return FistaSolution(x, iterations, objective, gap, gap <= gap_tol, stacked)


def conjugate_gradient(
    normal: LinearMap, rhs: Tensor, *, tol: float = 1e-6, max_iters: int = 50
) -> ConjugateGradientSolution:
    """Solve `H x = b` for Hermitian, positive semi-definite `H` by conjugate gradients, starting from 0.

    It stops at `||b - H x|| <= tol ||b||`, or after `max_iters`.

    Args:
        normal: `H`, batched, e.g. `A^H A + mu`.
        rhs: `b`, `(batch, ...)`, in the range of `H`.
        tol: relative residual to stop at; 0 runs all iterations unless the residual vanishes.
        max_iters: most iterations.

    Raises:
        MethodError: `tol` or `max_iters` out of range.

    Source: Hestenes and Stiefel, J Res Natl Bur Stand 1952.
    """
    if not tol >= 0 or max_iters < 1:
        raise MethodError(f"expected tol >= 0 and max_iters >= 1, got {tol} and {max_iters}: correct them")
    x, r, p = torch.zeros_like(rhs), rhs, rhs
    energy = _inner(r, r)
    norm = energy.sqrt()
    history = [_ratio(norm, norm)]
    active = history[0] > tol
    iterations = torch.zeros_like(active, dtype=torch.int64)
    while bool(active.any()) and len(history) <= max_iters:
        hp = normal(p)
        # A finished item gets steps of 0: its direction and residual stand still.
        alpha = torch.where(active, _ratio(energy, _inner(p, hp)), torch.zeros_like(energy))
        size = _per_item(alpha.to(rhs.real.dtype), rhs)
        x, r = x + size * p, r - size * hp
        energy_new = _inner(r, r)
        p = r + _per_item(_ratio(energy_new, energy).to(rhs.real.dtype), rhs) * p
        energy = energy_new
        iterations = iterations + active
        history.append(_ratio(energy.sqrt(), norm))
        active = active & (history[-1] > tol)
    return ConjugateGradientSolution(
        x, iterations, history[-1], history[-1] <= tol, {"relative_residual": torch.stack(history)}
    )


class _Certificate:
    """Primal and dual values of the l1 problem, and the best lower bound seen so far."""

    def __init__(self, data: Tensor, lam: Tensor) -> None:
        self._data = data
        self._lam = lam
        self._best_dual = torch.full_like(lam, -torch.inf)
        self._gap = torch.full_like(lam, torch.inf)

    def update(self, x: Tensor, r: Tensor, g: Tensor) -> Tensor:
        """Take in a point with its residual `r = y - B x` and `g = B^H r`; its objective, float64 `(batch,)`."""
        largest = g.abs().flatten(1).amax(dim=1).to(torch.float64)
        s = torch.where(largest > self._lam, self._lam / torch.where(largest > 0, largest, 1), 1)
        energy = _inner(r, r)
        dual = s * _inner(r, self._data) - 0.5 * s**2 * energy
        # lambda |x| - s Re conj(g) x is at least 0 coefficient by coefficient, since |s g| <= lambda.
        pull = _per_item(self._lam, x).to(x.real.dtype) * x.abs() - _per_item(s, x).to(x.real.dtype) * _real_product(
            g, x
        )
        gap = 0.5 * (1 - s) ** 2 * energy + _sum(pull)
        self._best_dual = torch.maximum(self._best_dual, dual)
        self._gap = (gap - (self._best_dual - dual)).clamp_min(0)
        return _objective(x, r, self._lam)

    def relative_gap(self) -> Tensor:
        """Gap of the last point in units of the best dual value, float64 `(batch,)`."""
        positive = self._best_dual > 0
        scale = torch.where(positive, self._best_dual, torch.ones_like(self._best_dual))
        return torch.where(positive, self._gap / scale, torch.full_like(self._gap, torch.inf))


def _objective(x: Tensor, r: Tensor, lam: Tensor) -> Tensor:
    return 0.5 * _inner(r, r) + lam * _sum(x.abs())


def _checked_weight(reg_weight: Tensor, data: Tensor) -> Tensor:
    if data.ndim < 2 or reg_weight.shape != data.shape[:1]:
        raise ShapeError(
            f"expected data (batch, ...) and one weight an item, got {tuple(data.shape)} and "
            f"{tuple(reg_weight.shape)}: expand the weight to (batch,)"
        )
    lam = reg_weight.to(device=data.device, dtype=torch.float64)
    if not bool((torch.isfinite(lam) & (lam > 0)).all()):
        raise MethodError(f"expected positive, finite weights, got {lam.tolist()}: without a weight use cg-sense")
    return lam


def _real_product(a: Tensor, b: Tensor) -> Tensor:
    """`Re conj(a) b`, element by element."""
    if not a.is_complex():
        return a * b
    return a.real * b.real + a.imag * b.imag


def _sum(x: Tensor) -> Tensor:
    """Sum over all axes but the first, in float64."""
    return x.flatten(1).sum(dim=1, dtype=torch.float64)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """`Re <a, b>` over all axes but the first, in float64."""
    return _sum(_real_product(a, b))


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """`a / b`, and 0 where `b` is 0."""
    return torch.where(b != 0, a / torch.where(b != 0, b, torch.ones_like(b)), torch.zeros_like(a))


def _per_item(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *([1] * (like.ndim - 1)))


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(_per_item(condition, a), a, b)
