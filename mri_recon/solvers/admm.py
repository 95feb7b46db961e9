"""ADMM: minimise `P(x) = 1/2 <x, H x> - Re <b, x> + lambda sum_j w_j |(D x)_j|`, `H = A^H A`, `b = A^H y`.

The alternating direction method of multipliers takes analysis priors: sparse differences, redundant wavelets. With the
split `z = D x`, the scaled multiplier u, the penalty beta = lambda / tau and the relaxation rho, one iteration is

    x <- (H + beta D^H D)^-1 (b + beta D^H (z - u))
    s <- z + u + rho (D x - z),   u <- P(s),   z <- s - P(s)

where P projects coefficient j onto the magnitudes up to tau w_j, so that z is s shrunk by tau w_j. Both z and u follow
from s, which alone is stored. tau and rho set the speed, not the solution. The multiplier of the problem itself is
`p = beta u`. The first iteration has z = D x, u = 0 at the start.

The relative residuals are `||D x - z|| / max(||D x||, ||z||)` (primal) and `||H x - b + D^H p|| / ||D^H p||` (dual).
The dual residual counts the error of an inexact x-step too.

Where H is an orthogonal projection (one coil, S of modulus 1, nothing padded) with b in its range, and D a Parseval
frame, there is a certificate: `solvers.dual_bound` finds a bound `D <= min P + 1/2 ||b||^2`, and
`relative_gap = (P(x) + 1/2 ||b||^2 - D) / D`. The constant 1/2 ||b||^2 makes the data term 1/2 ||A x - y||^2.

The first axis of every tensor counts independent problems. Scalars are summed in float64. Memory beyond the arguments:
one tensor of bands in the compiled form (`solvers.compiled_haar`), else two, and at most 16 images an item, with the
working space of the transforms; a coupled group, whose bands go together, takes two images a band more.

Source: Boyd et al., Found Trends Mach Learn 2011.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mri_recon._arrays import inner, per_item
from mri_recon.errors import MethodError, ShapeError
from mri_recon.progress import OnIteration
from mri_recon.solvers.compiled_haar import choose_split
from mri_recon.solvers.conjugate_gradient import first_iterate, last_iterate, next_iterate
from mri_recon.solvers.dual_bound import DualBound
from mri_recon.solvers.problem import LinearMap, Solution, checked_weight
from mri_recon.solvers.shrinkage import BandShrinkage, Sums
from mri_recon.solvers.splitting import AnalysisTransform, Split

__all__ = ["PenalisedSolve", "admm"]

_THRESHOLD = 0.01
"""tau where none is given, in units of max |b|."""

_INNER_ITERS = 2
"""Conjugate gradient steps of an inexact x-step."""

PenalisedSolve = Callable[[Tensor, Tensor], Tensor]


def admm(
    normal: LinearMap,
    rhs: Tensor,
    transform: AnalysisTransform,
    reg_weight: Tensor,
    *,
    weights: Tensor | None = None,
    separate_parts: bool = False,
    coupled: bool = False,
    solve: PenalisedSolve | None = None,
    precondition: Callable[[Tensor], LinearMap] | None = None,
    cheaper: Callable[[Tensor], LinearMap] | None = None,
    start: Tensor | None = None,
    projection: bool = False,
    threshold: Tensor | None = None,
    tol: float = 1e-3,
    change_tol: float | Tensor = 0.0,
    gap_tol: float = 0.0,
    dual_steps: int = 8,
    relaxation: float = 1.6,
    max_iters: int = 200,
    check_every: int = 10,
    on_iteration: OnIteration | None = None,
) -> Solution:
    """Minimise `1/2 <x, H x> - Re <b, x> + lambda sum_j w_j |(D x)_j|`; see the module.

    The residuals and the objective are computed every `check_every` iterations, where an item changes little enough to
    stop, and after the last. An item stops there, and its answer is put aside, once both relative residuals are at most
    `tol` (the rule of Boyd et al., section 3.3.1, without an absolute tolerance, which would have a unit), or its
    relative gap is at most `gap_tol`, or the last iteration changed it by at most `change_tol ||x||`. The history has
    "iteration" (int64, `(checks,)`), "objective", "primal_residual", "dual_residual" and "change" at the checks, and
    with `projection` "relative_gap".

    Args:
        normal: `H`, batched, Hermitian and positive semi-definite.
        rhs: `b`, real or complex `(batch, h, w)`.
        transform: `D`, e.g. `StationaryWaveletTransform` or `PeriodicGradient`.
        reg_weight: `lambda > 0`, real `(batch,)`, in the units of b.
        weights: `w >= 0`, `(band,)`; `None` is 1, and 0 no penalty.
        separate_parts: |c| is |Re c| + |Im c|, the prior of an image without its smooth phase, instead of the modulus.
        coupled: the bands of a pixel are one vector with one magnitude (isotropic total variation). Its weight is w of
            the first band.
        solve: `(r, beta) -> (H + beta D^H D)^-1 r` with beta `(batch,)`, exact. `None` takes two steps of conjugate
            gradients, each with one `normal`, from the last x. With `projection` the exact step needs one `normal`,
            and `solve` is not used.
        precondition: makes of beta `(batch,)` the map `r -> M r`, Hermitian and positive definite, near
            `(H + beta D^H D)^-1`, for the steps of conjugate gradients.
        cheaper: makes of beta a map N near H, `N >= 0` and `0 <= H - N <= beta / 2`, that the steps of conjugate
            gradients apply in the place of H. Every check makes up for the difference with `(N - H) x` of its x on the
            right-hand side, so that the minimiser stays that of H. Needs a Parseval frame.
        start: x to start from; `None` is b, the zero-filled image where `||H|| <= 1`.
        projection: H is a projection and D a Parseval frame. This is not checked.
        threshold: tau, positive, `(batch,)`, in the units of x; `None` is 0.01 max |b|.
        tol: relative residuals at which an item stops; 0 disables the rule.
        change_tol: `||x - x_old|| / ||x||` at which an item stops, one or `(batch,)`; 0 disables the rule. It is tested
            after every iteration but the first `check_every`, in which an image may rest. The objective is then settled
            to about that, long before the residuals are small where lambda is.
        gap_tol: relative gap at which an item stops, only with `projection`.
        dual_steps: most steps of the search for the bound in a check, where the gap is within 5 times `gap_tol`.
        relaxation: rho in (0, 2); 1 is the method without relaxation.
        max_iters: maximum number of iterations.
        check_every: number of iterations between checks; a check costs about one iteration.
        on_iteration: called after every iteration, with objective and gap at the checks; an exception that it raises
            ends the solver.

    Raises:
        MethodError: a weight that is not positive and finite, or an option out of range.
        ShapeError: `rhs`, a weight or a start of the wrong shape.
    """
    _check_options(rhs, start, tol, gap_tol, change_tol, max_iters, check_every, relaxation)
    shrinkage = BandShrinkage(
        weights, transform.num_bands, complex_values=rhs.is_complex(), separate_parts=separate_parts, coupled=coupled
    )
    lam = checked_weight(reg_weight, rhs)
    largest = rhs.abs().flatten(1).amax(dim=1).double()
    tau = torch.where(largest > 0, _THRESHOLD * largest if threshold is None else threshold.to(largest), 1.0)
    # The unknown is counted in units of tau: the thresholds are then w for all items, the weight is beta.
    beta, unit = lam / tau, per_item(tau, rhs)
    b = rhs / unit
    x = b.clone() if start is None else start.to(rhs) / unit
    x_step = _x_step(normal, transform, b, x, beta, solve, precondition, cheaper, projection)
    split = choose_split(transform, shrinkage, b)
    bound = DualBound(normal, split, b, beta, gap_tol=gap_tol, steps=dual_steps) if projection else None
    check = _Check(split, b, beta, bound)
    tracker = _Tracker(tau, tol, gap_tol, torch.as_tensor(change_tol, dtype=tau.dtype, device=tau.device))
    pulled = transform.gram(x)
    for iteration in range(1, max_iters + 1):
        last, x = x, x_step(pulled)
        checked = iteration % check_every == 0 or iteration == max_iters
        checked = checked or (iteration > check_every and tracker.settles(x, last))
        pulled, sums = split.step(x, relaxation if iteration > 1 else None, measured=checked)
        if sums is not None:
            hx = normal(x)
            tracker.update(iteration, x, check.values(x, hx, last, sums))
            x_step.correct(x, hx)
        if on_iteration is not None:
            on_iteration(iteration, *(tracker.shown() if checked else (None, None)))
        if tracker.solved:
            break
    return tracker.solution(x)


class _ExactStep:
    """The x-step `v -> (H + beta D^H D)^-1 (b + beta v)` by a function that is exact, for `v = D^H (z - u)`."""

    def __init__(self, solve: LinearMap) -> None:
        self._solve = solve

    def __call__(self, v: Tensor) -> Tensor:
        return self._solve(v)

    def correct(self, x: Tensor, hx: Tensor) -> None:
        """Do nothing: there is nothing to correct."""


class _InexactStep:
    """The x-step by a few steps of conjugate gradients from the last x, with N in the place of H."""

    def __init__(
        self,
        reduced: LinearMap,
        transform: AnalysisTransform,
        b: Tensor,
        x: Tensor,
        factor: Tensor,
        near: LinearMap | None,
    ) -> None:
        self._reduced, self._transform, self._near = reduced, transform, near
        self._b, self._rhs, self._factor = b, b, factor
        self._x, self._mapped = x, self._system(x)

    def __call__(self, v: Tensor) -> Tensor:
        at = first_iterate(self._rhs + self._factor * v, self._x, self._mapped, inner, self._near)
        for _ in range(_INNER_ITERS - 1):
            at = next_iterate(self._system, at, product=inner, precondition=self._near)
        self._x, self._mapped = last_iterate(self._system, at, product=inner)
        return self._x

    def _system(self, x: Tensor) -> Tensor:
        return self._reduced(x) + self._factor * self._transform.gram(x)

    def correct(self, x: Tensor, hx: Tensor) -> None:
        """Add `(N - H) x` of the last x to the right-hand side."""
        self._rhs = self._b + (self._mapped - self._factor * self._transform.gram(x)) - hx


def _x_step(
    normal: LinearMap,
    transform: AnalysisTransform,
    b: Tensor,
    x: Tensor,
    beta: Tensor,
    solve: PenalisedSolve | None,
    precondition: Callable[[Tensor], LinearMap] | None,
    cheaper: Callable[[Tensor], LinearMap] | None,
    projection: bool,
) -> _ExactStep | _InexactStep:
    """Choose the x-step."""
    factor = per_item(beta, b)
    if projection:
        # (H + beta)^-1 (b + beta v) for H^2 = H and b in its range, without the quotient by a small beta.
        return _ExactStep(lambda v: v + (b - normal(v)) / (1 + factor))
    if solve is not None:
        return _ExactStep(lambda v: solve(b + factor * v, beta))
    near = None if precondition is None else precondition(beta)
    return _InexactStep(normal if cheaper is None else cheaper(beta), transform, b, x, factor, near)


class _Check:
    """Compute objective, residuals and gap of an iterate, in units of tau."""

    def __init__(self, split: Split, b: Tensor, beta: Tensor, bound: DualBound | None) -> None:
        self._split, self._b, self._beta, self._bound = split, b, beta, bound

    def values(self, x: Tensor, hx: Tensor, last: Tensor, sums: Sums) -> dict[str, Tensor]:
        """Compute the values by name, float64 `(batch,)`; `hx` is `H x`."""
        b, beta = self._b, self._beta
        pulled = self._split.multiplier_image()
        dual_image = pulled * per_item(beta, b)
        values = {
            "objective": 0.5 * inner(hx, x) - inner(b, x) + beta * sums.penalty,
            "primal_residual": _ratio(sums.primal.sqrt(), torch.maximum(sums.analysis, sums.split).sqrt()),
            "dual_residual": _ratio(_energy(hx - b + dual_image).sqrt(), _energy(dual_image).sqrt()),
            "change": _ratio(_energy(x - last).sqrt(), _energy(x).sqrt()),
        }
        if self._bound is not None:
            values["relative_gap"] = self._bound.gap(0.5 * _energy(hx - b) + beta * sums.penalty, pulled)
        return values


class _Tracker:
    """Hold the values at the checks, and the answers of the items that have stopped."""

    def __init__(self, tau: Tensor, tol: float, gap_tol: float, change_tol: Tensor) -> None:
        self._tau, self._tol, self._gap_tol, self._change_tol = tau, tol, gap_tol, change_tol
        self._by_change = bool((change_tol > 0).any())
        self._answer: Tensor | None = None  # until an item stops, whose x is put aside
        self._active = torch.ones_like(tau, dtype=torch.bool)
        self._iterations = torch.zeros_like(tau, dtype=torch.int64)
        self._converged = torch.zeros_like(self._active)
        self._checks: list[int] = []
        self._history: dict[str, list[Tensor]] = {}

    @property
    def solved(self) -> bool:
        """Whether every item has stopped."""
        return not bool(self._active.any())

    def settles(self, x: Tensor, last: Tensor) -> bool:
        """Tell whether an item that has not stopped changes little enough to stop."""
        if not self._by_change:
            return False
        change = _ratio(_energy(x - last).sqrt(), _energy(x).sqrt())
        return bool(((change <= self._change_tol) & self._active).any())

    def update(self, iteration: int, x: Tensor, values: dict[str, Tensor]) -> None:
        """Record a check."""
        found = {"objective": values["objective"] * self._tau**2}
        found |= {name: values[name] for name in ("primal_residual", "dual_residual", "change")}
        residual = torch.maximum(values["primal_residual"], values["dual_residual"])
        solved = residual <= self._tol if self._tol > 0 else ~self._active
        if self._by_change:
            solved = solved | (values["change"] <= self._change_tol)
        if "relative_gap" in values:
            found["relative_gap"] = values["relative_gap"]
            solved = solved | (values["relative_gap"] <= self._gap_tol)
        for name, value in found.items():
            past = self._history.setdefault(name, [])
            # An item that has stopped keeps the values of its answer.
            past.append(torch.where(self._active, value, past[-1]) if past else value)
        self._checks.append(iteration)
        if bool((self._active & solved).any()):
            self._answer = self._answer_with(x)
        self._iterations = torch.where(self._active, iteration, self._iterations)
        self._converged = self._converged | (self._active & solved)
        self._active = self._active & ~solved

    def shown(self) -> tuple[Tensor | None, Tensor | None]:
        """Return objective and relative gap of the last check; the gap is None without a certificate."""
        gaps = self._history.get("relative_gap")
        return self._history["objective"][-1], None if gaps is None else gaps[-1]

    def _answer_with(self, x: Tensor) -> Tensor:
        """Return the answers of the items that have stopped, and x of the others."""
        return x if self._answer is None else torch.where(per_item(self._active, x), x, self._answer)

    def solution(self, x: Tensor) -> Solution:
        """Make the solution with the last x."""
        history = {name: torch.stack(values) for name, values in self._history.items()}
        history["iteration"] = torch.tensor(self._checks)
        answer = self._answer_with(x) * per_item(self._tau, x)
        return Solution(answer, self._iterations, self._converged, history)


def _check_options(
    rhs: Tensor,
    start: Tensor | None,
    tol: float,
    gap_tol: float,
    change_tol: float | Tensor,
    max_iters: int,
    check_every: int,
    relaxation: float,
) -> None:
    least = float(torch.as_tensor(change_tol).min())
    if not min(tol, gap_tol, least) >= 0 or min(max_iters, check_every) < 1:
        raise MethodError(
            f"expected tol, gap_tol and change_tol >= 0 and max_iters and check_every >= 1, got {tol}, {gap_tol}, "
            f"{least}, {max_iters} and {check_every}: correct them"
        )
    if not 0 < relaxation < 2:
        raise MethodError(f"expected a relaxation between 0 and 2, got {relaxation}: 1.6 is a good one")
    if rhs.ndim != 3 or 0 in rhs.shape:
        raise ShapeError(f"expected a right-hand side (batch, h, w), got {tuple(rhs.shape)}: one image is rhs[None]")
    if start is not None and start.shape != rhs.shape:
        raise ShapeError(f"expected a start {tuple(rhs.shape)} like the right-hand side, got {tuple(start.shape)}")


def _energy(x: Tensor) -> Tensor:
    """Compute `||x||^2` of each item, in float64."""
    return inner(x, x)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Divide a by b; of zeros 0, so that an item of zeros counts as solved. NaN stays NaN."""
    return torch.where(b == 0, torch.where(a == 0, 0.0, math.inf), a / torch.where(b == 0, 1.0, b))
