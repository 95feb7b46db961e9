"""FISTA: minimise `P(x) = 1/2 ||B x - y||^2 + lambda sum_j |x|_j` with a certified duality gap.

An analysis prior `||W u||_1` with an orthonormal `W` is this problem in `x = W u`, with `B = A W^H`. So is a synthesis
prior with any frame: `u = W^H x`.

One iteration, with `g(z) = B^H (y - B z)`, and S, which shrinks magnitudes by `step lambda`:

    z = x + beta (x - x_old)
    x <- S(z + step g(z))
    beta = (t - 1) / t',   t' = (1 + sqrt(1 + 4 t^2)) / 2

It costs one gradient: g is affine, so that g(z) is the same mixture of the gradients at the last two points. Momentum
is dropped (t = 1, beta = 0) where it points uphill (gradient scheme).

The gap bounds the distance of x from the minimum: with `g = g(x)`, `r = y - B x` and
`s = min(1, lambda / max_j |g|_j)`, `theta = s r` is feasible for the dual problem. Its value is
`D = Re <theta, y> - 1/2 ||theta||^2 <= min P`, and

    P(x) - D = 1/2 ||r - theta||^2 + lambda sum_j |x|_j - Re <B^H theta, x>,

a sum without cancellation. The best D seen is kept, and `relative_gap = (P(x) - D) / D`.

The first axis of the unknown and of the data counts independent problems. Each has its own weight, step control and
stopping test, and is frozen as soon as it is solved. Its result does not depend on its neighbours, up to the order in
which a batched FFT or matrix product sums. Scalars are summed in float64.

Source: Beck and Teboulle, SIAM J Imaging Sci 2009 (FISTA); O'Donoghue and Candes, Found Comput Math 2015 (restart).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon._arrays import per_item, total
from mri_recon.errors import MethodError
from mri_recon.progress import OnIteration
from mri_recon.solvers.problem import LeastSquares, Residual, Solution, checked_weight
from mri_recon.solvers.shrinkage import Magnitude, soft_threshold

__all__ = [
    "fista",
    "next_momentum",
]


def fista(
    problem: LeastSquares,
    reg_weight: Tensor,
    *,
    magnitude: Magnitude = torch.abs,
    step: float = 1.0,
    gap_tol: float = 1e-3,
    max_iters: int = 200,
    check_every: int = 1,
    on_iteration: OnIteration | None = None,
) -> Solution:
    """Minimise `1/2 ||B x - y||^2 + lambda sum_j |x|_j` by restarted FISTA, starting from 0.

    An item stops at `relative_gap <= gap_tol`, computed every `check_every` iterations, or after `max_iters`. The
    history has "iteration" (int64), "objective" and "relative_gap", at the start and at the checks.

    Args:
        problem: B and y; its gradient has the shape of x.
        reg_weight: `lambda > 0`, real `(batch,)`, in the units of `B^H y`.
        magnitude: |x|: the modulus of every entry, or of groups as in `parts_modulus`.
        step: at most `1 / ||B||^2`.
        gap_tol: relative duality gap at which an item stops; 0 runs all iterations.
        max_iters: maximum number of iterations.
        check_every: number of iterations between checks; a check costs some sums over x and y.
        on_iteration: called after every iteration; an exception that it raises ends the solver.

    Raises:
        MethodError: a weight that is not positive and finite, or `step`, `gap_tol`, `max_iters` or `check_every` out of
            range.
        ShapeError: `reg_weight` is not `(batch,)`.
    """
    start = problem.at_zero()
    g = start.gradient
    lam = checked_weight(reg_weight, g)
    if not step > 0 or not gap_tol >= 0 or max_iters < 1 or check_every < 1:
        raise MethodError(
            f"expected step > 0, gap_tol >= 0, max_iters >= 1 and check_every >= 1, got {step}, {gap_tol}, "
            f"{max_iters} and {check_every}: correct them"
        )
    threshold = per_item(lam * step, g)
    x = torch.zeros_like(g)
    certificate = _Certificate(lam, magnitude)
    certificate.update(x, start)
    history = [(torch.zeros_like(lam, dtype=torch.int64), certificate.objective, certificate.relative_gap)]
    active = certificate.relative_gap > gap_tol
    iterations = torch.zeros_like(active, dtype=torch.int64)
    forward_point = forward_old = g * step  # x + step g, at the last two points
    move = torch.zeros_like(x)  # x - x_old
    t = torch.ones_like(lam)
    beta = torch.zeros_like(lam)
    count = 0
    while count < max_iters and bool(active.any()):
        count += 1
        # lerp(old, new, 1 + beta) = new + beta (new - old) = z + step g(z), since g is affine.
        momentum = per_item(1 + beta, g).to(g.dtype)  # of the type of g, as lerp wants it
        x_new = soft_threshold(torch.lerp(forward_old, forward_point, momentum), threshold, magnitude)
        move_new = x_new - x
        # <z - x_new, x_new - x> > 0 with z = x + beta move: the momentum points uphill.
        uphill = beta * _quick_inner(move, move_new) > _quick_inner(move_new, move_new)
        beta, t = next_momentum(t, restart=uphill)
        iterations = iterations + active
        every = bool(active.all())
        x, move = (x_new, move_new) if every else (_where(active, x_new, x), _where(active, move_new, move))
        check = count % check_every == 0 or count == max_iters
        if check:
            residual = problem.residual(x)
            certificate.update(x, residual)
            history.append((iterations, certificate.objective, certificate.relative_gap))
            active = active & (certificate.relative_gap > gap_tol)
            g = residual.gradient
        else:
            g = problem.gradient(x)
        if on_iteration is not None:
            on_iteration(count, *((certificate.objective, certificate.relative_gap) if check else (None, None)))
        forward_old, forward_point = forward_point, torch.add(x, g, alpha=step)
    stacked = dict(
        zip(("iteration", "objective", "relative_gap"), map(torch.stack, zip(*history, strict=True)), strict=True)
    )
    return Solution(x, iterations, certificate.relative_gap <= gap_tol, stacked)


def next_momentum(t: Tensor, *, restart: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the momentum `(t - 1) / t'` of the next iteration, and the next `t' = (1 + sqrt(1 + 4 t^2)) / 2`.

    Args:
        t: of each item, at least 1, `(batch,)`.
        restart: bool `(batch,)`; where True, t begins anew at 1 and the momentum is 0.
    """
    t = torch.where(restart, torch.ones_like(t), t)
    t_next = (1 + torch.sqrt(1 + 4 * t**2)) / 2
    return (t - 1) / t_next, t_next


class _Certificate:
    """Compute primal and dual values of the l1 problem, and keep the best lower bound so far."""

    def __init__(self, lam: Tensor, magnitude: Magnitude) -> None:
        self._lam = lam
        self._magnitude = magnitude
        self._best_dual = torch.full_like(lam, -torch.inf)
        self._gap = torch.full_like(lam, torch.inf)
        self.objective = torch.full_like(lam, torch.inf)

    def update(self, x: Tensor, residual: Residual) -> None:
        """Evaluate a point from its residual `r = y - B x`."""
        g, energy = residual.gradient, residual.energy
        largest = self._magnitude(g).flatten(1).amax(dim=1).to(torch.float64)
        s = torch.where(largest > self._lam, self._lam / torch.where(largest > 0, largest, 1), 1)
        dual = s * residual.correlation - 0.5 * s**2 * energy
        size = self._magnitude(x)
        # lambda |x| - s Re conj(g) x is at least 0 coefficient by coefficient, since s |g| <= lambda.
        pull = per_item(self._lam, x) * size - per_item(s, x) * _real_product(g, x).sum_to_size(size.shape)
        gap = 0.5 * (1 - s) ** 2 * energy + total(pull)
        self._best_dual = torch.maximum(self._best_dual, dual)
        self._gap = (gap - (self._best_dual - dual)).clamp_min(0)
        self.objective = 0.5 * energy + self._lam * total(size)

    @property
    def relative_gap(self) -> Tensor:
        """Return the gap of the last point relative to the best dual value, float64 `(batch,)`."""
        positive = self._best_dual > 0
        scale = torch.where(positive, self._best_dual, torch.ones_like(self._best_dual))
        return torch.where(positive, self._gap / scale, torch.full_like(self._gap, torch.inf))


def _real_product(a: Tensor, b: Tensor) -> Tensor:
    """Compute `Re conj(a) b`, element by element."""
    if not a.is_complex():
        return a * b
    return a.real * b.real + a.imag * b.imag


def _quick_inner(a: Tensor, b: Tensor) -> Tensor:
    """Compute `Re <a, b>`, summed in the working precision, as float64 `(batch,)`: enough for the sign of a restart."""
    product: Tensor = torch.linalg.vecdot(a.flatten(1), b.flatten(1))
    return product.real.to(torch.float64)


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(per_item(condition, a), a, b)
