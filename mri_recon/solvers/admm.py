"""Analysis priors by the alternating direction method of multipliers: sparse differences, redundant wavelets.

The first axis of every tensor counts independent problems, as in `mri_recon.solvers`. Scalars are summed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mri_recon._arrays import inner, parts, per_item, total
from mri_recon.errors import MaskError, MethodError, ShapeError
from mri_recon.progress import OnIteration

__all__ = ["MAGNITUDES", "AdmmSolution", "AnalysisTransform", "admm", "kspace_solver"]

MAGNITUDES = ("complex", "parts")
"""What is shrunk: the modulus of a complex coefficient, or its real and imaginary parts by themselves."""

_THRESHOLD = 0.01

LinearMap = Callable[[Tensor], Tensor]
PenalisedSolve = Callable[[Tensor, Tensor], Tensor]


class AnalysisTransform(Protocol):
    """A linear map `D` from images `(batch, h, w)` to bands `(batch, band, h, w)`."""

    @property
    def num_bands(self) -> int:
        """Number of bands."""

    def forward(self, x: Tensor, *, out: Tensor | None = None) -> Tensor:
        """`D x`, written to `out` where one is given."""

    def adjoint(self, c: Tensor, /) -> Tensor:
        """`D^H c`."""

    def gram(self, x: Tensor) -> Tensor:
        """`D^H D x`; x itself for a Parseval frame."""


@dataclass(frozen=True)
class AdmmSolution:
    """What `admm` found.

    Attributes:
        x: the unknown, `(batch, h, w)`.
        iterations: int64 `(batch,)`, iterations until the item stopped.
        objective: float64 `(batch,)`, `P(x)`.
        primal_residual: float64 `(batch,)`, `||D x - z|| / max(||D x||, ||z||)`.
        dual_residual: float64 `(batch,)`, `||H x - b + D^H p|| / ||D^H p||`.
        relative_gap: float64 `(batch,)`, an upper bound on the suboptimality, see `admm`; `None` without `projection`.
        converged: bool `(batch,)`, True where a stopping rule held.
        history: "iteration", int64 `(checks,)`, and by the names above the float64 `(checks, batch)` at these.
    """

    x: Tensor
    iterations: Tensor
    objective: Tensor
    primal_residual: Tensor
    dual_residual: Tensor
    relative_gap: Tensor | None
    converged: Tensor
    history: dict[str, Tensor]


def admm(
    normal: LinearMap,
    rhs: Tensor,
    transform: AnalysisTransform,
    reg_weight: Tensor,
    *,
    weights: Tensor | None = None,
    magnitude: str = "complex",
    coupled: bool = False,
    threshold: Tensor | None = None,
    solve: PenalisedSolve | None = None,
    start: Tensor | None = None,
    projection: bool = False,
    tol: float = 1e-3,
    gap_tol: float = 0.0,
    relaxation: float = 1.6,
    max_iters: int = 200,
    inner_iters: int = 2,
    check_every: int = 10,
    on_iteration: OnIteration | None = None,
) -> AdmmSolution:
    """Minimise `P(x) = 1/2 <x, H x> - Re <b, x> + lambda sum_j w_j |(D x)_j|`, `H = A^H A`, `b = A^H y`.

    With the split `z = D x`, the scaled multiplier u, the penalty beta = lambda / tau and the relaxation rho, one
    iteration is

        x <- (H + beta D^H D)^-1 (b + beta D^H (z - u))
        s <- z + u + rho (D x - z),   u <- P(s),   z <- s - P(s)

    where P projects coefficient j onto the magnitudes up to tau w_j, so that z is s shrunk by tau w_j; z and u need not
    be stored, s alone says both. tau and rho set the speed, not the solution. The multiplier of the problem itself is
    `p = beta u`. The first iteration has z = D x, u = 0 at the start.

    Every `check_every` iterations, and after the last, both residuals and the objective are computed. An item stops,
    and its answer is put aside, once both relative residuals (see `AdmmSolution`) are at most `tol`, the rule of Boyd
    et al., section 3.3.1, without an absolute tolerance, which would have a unit. The dual residual counts the error
    of an inexact x-step too.

    With `projection`, for an H that is an orthogonal projection (one coil, S of modulus 1, nothing padded) with b in
    its range, and a Parseval frame D, there is a certificate. `D^H p'`, `p' = p - D (1 - H) D^H p`, equals `H D^H p`,
    so s p' is feasible for the dual problem for every s in [0, min_j lambda w_j / |p'_j|], with the dual value
    `s Re <b, D^H p'> - s^2 / 2 ||D^H p'||^2 <= min P + 1/2 ||b||^2`. The best s is taken, and the best value D of all
    checks kept: `relative_gap = (P(x) + 1/2 ||b||^2 - D) / D`, infinite while D is not positive. The constant
    1/2 ||b||^2 makes the data term 1/2 ||A x - y||^2. An item then also stops at `relative_gap <= gap_tol`.

    Memory beyond the arguments: two tensors of bands and at most 16 images an item, with the working space of the
    transforms; a coupled group, whose bands go together, takes two images a band more. `normal` takes its own.

    Args:
        normal: `H`, batched, Hermitian and positive semi-definite.
        rhs: `b`, real or complex `(batch, h, w)`.
        transform: `D`, e.g. `StationaryWaveletTransform` or `PeriodicGradient`.
        reg_weight: `lambda > 0`, real `(batch,)`, in the units of b.
        weights: `w >= 0`, `(band,)` or broadcastable to `(batch, band, h, w)`; `None` is 1, and 0 no penalty.
        magnitude: "complex" shrinks the modulus of a coefficient, "parts" its real and imaginary parts one by one:
            |c| above is then |Re c| + |Im c|, the prior of an image whose smooth phase has been taken out.
        coupled: the bands of a pixel are one vector with one magnitude (isotropic total variation). Its weight is w of
            the first band.
        threshold: `tau > 0`, `(batch,)`; `None` is 0.01 max |b|, and 1 where b is 0.
        solve: `(r, beta) -> (H + beta D^H D)^-1 r` with beta `(batch,)`, exact; see `kspace_solver`. `None` takes
            `inner_iters` steps of conjugate gradients, each with one `normal`, from the last x. With `projection` the
            exact step needs one `normal`, and `solve` is not used.
        start: x to start from; `None` is b, the zero-filled image where `||H|| <= 1`.
        projection: as above. What is claimed of H is not checked.
        tol: relative residuals to stop at; 0 leaves the rule out.
        gap_tol: relative gap to stop at, with `projection` only.
        relaxation: rho in (0, 2); 1 is the method without relaxation.
        max_iters: most iterations.
        inner_iters: conjugate gradient steps an iteration.
        check_every: iterations from check to check; a check costs about one iteration.
        on_iteration: called after every iteration, with `objective` and `relative_gap` as in `AdmmSolution` at the
            checks; what it raises ends the solver.

    Raises:
        MethodError: a weight that is not positive and finite, or an option out of range.
        ShapeError: `rhs`, a weight or a start of the wrong shape.

    Source: Boyd et al., Found Trends Mach Learn 2011; certificate: scaling of the dual variable, as in `solvers.fista`.
    """
    if magnitude not in MAGNITUDES:
        raise MethodError(f"expected a magnitude of {', '.join(MAGNITUDES)}, got {magnitude!r}")
    if not tol >= 0 or not gap_tol >= 0 or min(max_iters, inner_iters, check_every) < 1:
        raise MethodError(
            "expected tol >= 0, gap_tol >= 0 and max_iters, inner_iters and check_every >= 1, got "
            f"{tol}, {gap_tol}, {max_iters}, {inner_iters} and {check_every}: correct them"
        )
    if not 0 < relaxation < 2:
        raise MethodError(f"expected a relaxation between 0 and 2, got {relaxation}: 1.6 is a good one")
    if rhs.ndim != 3 or 0 in rhs.shape:
        raise ShapeError(f"expected a right-hand side (batch, h, w), got {tuple(rhs.shape)}: one image is rhs[None]")
    lam = _checked_scalars("reg_weight", reg_weight, rhs)
    if threshold is None:
        largest = rhs.abs().flatten(1).amax(dim=1).double()
        tau = torch.where(largest > 0, _THRESHOLD * largest, 1.0)
    else:
        tau = _checked_scalars("threshold", threshold, rhs)
    if start is not None and start.shape != rhs.shape:
        raise ShapeError(f"expected a start {tuple(rhs.shape)} like the right-hand side, got {tuple(start.shape)}")
    shrinkage = _Shrinkage(weights, transform.num_bands, rhs, magnitude == "complex", coupled)

    # The unknown is counted in units of tau: the thresholds are then w for all items, the weight is beta.
    beta = lam / tau
    image_beta = per_item(beta, rhs)
    unit = per_item(tau, rhs)
    b = rhs / unit
    x = b.clone() if start is None else start.to(rhs) / unit
    exact = projection or solve is not None
    x_step = None if exact else _ConjugateGradient(normal, transform.gram, x, beta, inner_iters)
    pulled = transform.gram(x)
    state = rhs.new_empty(rhs.shape[0], transform.num_bands, *rhs.shape[1:])
    bands = torch.empty_like(state)
    tracker = _Tracker(x, beta, tau)
    for iteration in range(1, max_iters + 1):
        target = b + image_beta * pulled
        if projection:
            # (H + beta)^-1 (b + beta v) for H^2 = H and b in its range, without the quotient by a small beta.
            x = pulled + (b - normal(pulled)) / (1 + image_beta)
        elif solve is not None:
            x = solve(target, beta)
        elif x_step is not None:
            x = x_step(target)
        transform.forward(x, out=state if iteration == 1 else bands)
        checked = iteration % check_every == 0 or iteration == max_iters
        sums = shrinkage.step(bands, state, relaxation if iteration > 1 else None, measured=checked)
        pulled = transform.adjoint(bands)
        if sums is None:
            if on_iteration is not None:
                on_iteration(iteration, None, None)
            continue
        # `bands` is free until the next iteration.
        shrinkage.multiplier(state, out=bands)
        dual_image = image_beta * transform.adjoint(bands)
        hx = normal(x)
        values = {
            "objective": 0.5 * inner(hx, x) - inner(b, x) + beta * sums.penalty,
            "primal_residual": _ratio(sums.primal.sqrt(), torch.maximum(sums.analysis, sums.split).sqrt()),
            "dual_residual": _ratio(_energy(hx - b + dual_image).sqrt(), _energy(dual_image).sqrt()),
        }
        if projection:
            seen = normal(dual_image)
            transform.forward(dual_image - seen, out=bands)
            most = shrinkage.feasible_scale(bands, state, beta)
            scale = torch.minimum(_ratio(inner(b, seen), _energy(seen)).clamp_min(0), most)
            values["dual"] = scale * inner(b, seen) - 0.5 * scale**2 * _energy(seen)
            values["primal"] = 0.5 * _energy(hx - b) + beta * sums.penalty
        solved = tracker.update(iteration, x, values, tol, gap_tol)
        if on_iteration is not None:
            on_iteration(iteration, tracker.last("objective"), tracker.last("relative_gap"))
        if solved:
            break
    return tracker.solution()


def kspace_solver(
    mask: Tensor, *, gram_eigenvalues: Tensor | None = None, phase: Tensor | None = None
) -> PenalisedSolve:
    """The exact x-step of one coil: `(r, beta) -> (H + beta D^H D)^-1 r`, `H = diag(p)^H F^H M F diag(p)`.

        x = conj(p) F^H [ (F (p r)) / (M + beta E) ]

    with E the eigenvalues of `D^H D` by frequency. Frequencies where `M + beta E = 0` stay 0. A mask constant along the
    readout, for a Parseval frame, needs transforms along the phase axis only.

    Args:
        mask: M, bool, `(phase,)` or `(readout, phase)`, the zero frequency at N//2.
        gram_eigenvalues: E, real `(readout, phase)`, likewise centred; `None` is 1, a Parseval frame.
        phase: p, complex of modulus 1, `(..., readout, phase)`; `None` is 1. With `gram_eigenvalues` it must be `None`:
            `D^H D` and `diag(p)` do not commute.

    Raises:
        MaskError: a mask that is not boolean, or of another shape.
        MethodError: both `phase` and `gram_eigenvalues`.

    Returns:
        a function of complex `(batch, readout, phase)` and real `(batch,)`.
    """
    if mask.dtype != torch.bool or not 1 <= mask.ndim <= 2:
        raise MaskError(
            f"expected a boolean mask (phase,) or (readout, phase), got {mask.dtype} {tuple(mask.shape)}: "
            "pass mask != 0, without axes of slices or coils"
        )
    if phase is not None and gram_eigenvalues is not None:
        raise MethodError("expected a phase or eigenvalues, got both: there is no exact solution, leave solve away")
    columns_only = gram_eigenvalues is None and (mask.ndim == 1 or bool((mask == mask[:1]).all()))
    if columns_only:
        axes: tuple[int, ...] = (-1,)
        sampled = torch.fft.ifftshift(mask if mask.ndim == 1 else mask[0])[None].double()
    else:
        axes = (-2, -1)
        full = mask.expand(gram_eigenvalues.shape) if gram_eigenvalues is not None else mask
        sampled = torch.fft.ifftshift(full, dim=axes).double()
    eigenvalues = torch.ones_like(sampled)
    if gram_eigenvalues is not None:
        eigenvalues = torch.fft.ifftshift(gram_eigenvalues.to(sampled), dim=axes)

    def solve(r: Tensor, beta: Tensor) -> Tensor:
        total = sampled + per_item(beta.double(), r) * eigenvalues
        inverse = torch.where(total > 0, 1 / torch.where(total > 0, total, 1.0), 0.0).to(r.real.dtype)
        # F centred or not: M + beta E is a convolution, and shifting its input shifts its output.
        spectrum = torch.fft.fftn(r if phase is None else phase * r, dim=axes)
        x: Tensor = torch.fft.ifftn(spectrum.mul_(inverse), dim=axes)
        return x if phase is None else x.mul_(phase.conj())

    return solve


@dataclass
class _Sums:
    """Sums over the bands of an item, float64 `(batch,)`."""

    penalty: Tensor
    primal: Tensor
    analysis: Tensor
    split: Tensor


class _Shrinkage:
    """The update of multiplier and split variable, band by band: a band fits in a cache where all of them do not."""

    def __init__(self, weights: Tensor | None, num_bands: int, rhs: Tensor, modulus: bool, coupled: bool) -> None:
        shape = (rhs.shape[0], num_bands, *rhs.shape[1:])
        weights = torch.ones(num_bands) if weights is None else weights
        by_coefficient = weights.ndim == 4 and all(n in (1, m) for n, m in zip(weights.shape, shape, strict=True))
        if not by_coefficient and tuple(weights.shape) != (num_bands,):
            raise ShapeError(
                f"expected weights ({num_bands},) or broadcastable to {shape}, got {tuple(weights.shape)}: "
                "give one weight a band, or one a coefficient"
            )
        if weights.is_complex() or not bool((torch.isfinite(weights) & (weights >= 0)).all()):
            raise MethodError("expected real, finite weights that are not negative, got others: correct them")
        # A coefficient counts by its modulus, unless it is real or its parts are shrunk one by one.
        self._modulus = modulus and rhs.is_complex()
        self._coupled = coupled
        self._groups: list[tuple[slice, float | Tensor]] = []
        for band in range(1 if coupled else num_bands):
            group = slice(0, num_bands) if coupled else slice(band, band + 1)
            if weights.ndim == 1:
                self._groups.append((group, float(weights[band])))
            else:
                own = weights[:, min(band, weights.shape[1] - 1)][:, None, ..., None]
                self._groups.append((group, own.to(device=rhs.device, dtype=rhs.real.dtype)))

    def step(self, bands: Tensor, state: Tensor, relaxation: float | None, *, measured: bool) -> _Sums | None:
        """From `D x` in `bands` and s: the next s, and z - u in the place of `D x`.

        Without a relaxation `D x` is in `state`, and is the next s. If asked, also the sums.
        """
        zero = torch.zeros(bands.shape[0], dtype=torch.float64, device=bands.device)
        sums = _Sums(zero, zero, zero, zero) if measured else None
        for group, weight in self._groups:
            c, s = parts(bands[:, group]), parts(state[:, group])
            if relaxation is None:
                c.copy_(s)
            analysed = c.clone() if sums is not None else c
            if relaxation is not None:
                u = self._project(s, weight)
                s.lerp_(c, relaxation).add_(u, alpha=relaxation)
            self._project(s, weight, c)
            if sums is not None:
                split = s - c
                sums.penalty = sums.penalty + total(self._magnitude(analysed) * weight)
                sums.analysis = sums.analysis + total(analysed.square())
                sums.split = sums.split + total(split.square())
                sums.primal = sums.primal + total(split.sub_(analysed).square_())
            torch.add(s, c, alpha=-2, out=c)
        return sums

    def multiplier(self, state: Tensor, out: Tensor) -> None:
        """The multiplier, `u = P(s)`."""
        for group, weight in self._groups:
            self._project(parts(state[:, group]), weight, parts(out[:, group]))

    def feasible_scale(self, bands: Tensor, state: Tensor, beta: Tensor) -> Tensor:
        """The largest s with `s |beta u - bands| <= beta w`, coefficient by coefficient, float64 `(batch,)`."""
        scale = torch.full_like(beta, torch.inf)
        for group, weight in self._groups:
            u = self._project(parts(state[:, group]), weight)
            size = self._magnitude(u.mul_(per_item(beta, u)).sub_(parts(bands[:, group])))
            bound = weight * per_item(beta, size)
            ratio = torch.where(size > 0, bound / torch.where(size > 0, size, 1.0), torch.inf)
            scale = torch.minimum(scale, ratio.flatten(1).amin(dim=1).double())
        return scale

    def _project(self, s: Tensor, weight: float | Tensor, out: Tensor | None = None) -> Tensor:
        """P of one group `(batch, band, h, w, part)`."""
        if not self._coupled and not self._modulus:
            if isinstance(weight, float):
                return torch.clamp(s, -weight, weight, out=out)
            return torch.maximum(torch.minimum(s, weight), -weight, out=out)
        size = self._magnitude(s)
        tiny = torch.finfo(size.dtype).tiny
        if isinstance(weight, float):
            factor = weight / size.clamp_min_(max(weight, tiny))
        else:
            factor = weight / torch.maximum(size, weight).clamp_min_(tiny)
        out = torch.empty_like(s) if out is None else out
        if self._modulus:
            torch.mul(torch.view_as_complex(s), factor.squeeze(-1), out=torch.view_as_complex(out))
        else:
            torch.mul(s, factor, out=out)
        return out

    def _magnitude(self, c: Tensor) -> Tensor:
        """Magnitudes of one group `(batch, band, h, w, part)`, with an axis of 1 for what makes one magnitude.

        Written out: the library's norms over a short axis take ten times as long, and these values, in units of tau, do
        not overflow.
        """
        if not self._modulus and not self._coupled:
            return c.abs()
        squares = c[..., :1].square().addcmul_(c[..., 1:], c[..., 1:]) if self._modulus else c.square()
        return (squares.sum(dim=1, keepdim=True) if self._coupled else squares).sqrt_()


class _ConjugateGradient:
    """A few steps on `(H + beta G) x = r` from the last solution; `H x` and `G x` are carried along."""

    def __init__(self, normal: LinearMap, gram: LinearMap, x: Tensor, beta: Tensor, steps: int) -> None:
        self._normal = normal
        self._gram = gram
        self._steps = steps
        self._beta = per_item(beta, x)
        self._x = x
        self._mapped = self._system(x)

    def __call__(self, rhs: Tensor) -> Tensor:
        x, mapped = self._x, self._mapped
        r = rhs - mapped
        p = r
        energy = _energy(r)
        for step in range(self._steps):
            q = self._system(p)
            size = per_item(_ratio(energy, inner(p, q)), rhs)
            x, mapped = x + size * p, mapped + size * q
            if step < self._steps - 1:
                r = r - size * q
                energy, old = _energy(r), energy
                p = r + per_item(_ratio(energy, old), rhs) * p
        self._x, self._mapped = x, mapped
        return x

    def _system(self, x: Tensor) -> Tensor:
        return self._normal(x) + self._beta * self._gram(x)


class _Tracker:
    """Values at the checks, and the answers of the items that have stopped."""

    def __init__(self, x: Tensor, beta: Tensor, tau: Tensor) -> None:
        self._tau = tau
        self._answer = x
        self._active = torch.ones_like(beta, dtype=torch.bool)
        self._iterations = torch.zeros_like(beta, dtype=torch.int64)
        self._converged = torch.zeros_like(self._active)
        self._best_dual = torch.full_like(beta, -torch.inf)
        self._checks: list[int] = []
        self._history: dict[str, list[Tensor]] = {}

    def update(self, iteration: int, x: Tensor, values: dict[str, Tensor], tol: float, gap_tol: float) -> bool:
        """Take in a check; True once every item has stopped."""
        shown = {"objective": values["objective"] * self._tau**2}
        shown |= {name: values[name] for name in ("primal_residual", "dual_residual")}
        solved = torch.maximum(values["primal_residual"], values["dual_residual"]) <= tol if tol > 0 else ~self._active
        if "dual" in values:
            self._best_dual = torch.maximum(self._best_dual, values["dual"])
            gap = (values["primal"] - self._best_dual).clamp_min(0) / self._best_dual
            shown["relative_gap"] = torch.where(self._best_dual > 0, gap, torch.inf)
            solved = solved | (shown["relative_gap"] <= gap_tol)
        for name, value in shown.items():
            past = self._history.setdefault(name, [])
            # What an item had when it stopped is what its answer has.
            past.append(torch.where(self._active, value, past[-1]) if past else value)
        self._checks.append(iteration)
        self._answer = torch.where(per_item(self._active, x), x, self._answer)
        self._iterations = torch.where(self._active, iteration, self._iterations)
        self._converged = self._converged | (self._active & solved)
        self._active = self._active & ~solved
        return not bool(self._active.any())

    def last(self, name: str) -> Tensor | None:
        """The value of that name at the last check; None where there is none."""
        return self._history[name][-1] if name in self._history else None

    def solution(self) -> AdmmSolution:
        history = {name: torch.stack(values) for name, values in self._history.items()}
        last = {name: values[-1] for name, values in history.items()}
        history["iteration"] = torch.tensor(self._checks)
        return AdmmSolution(
            x=self._answer * per_item(self._tau, self._answer),
            iterations=self._iterations,
            objective=last["objective"],
            primal_residual=last["primal_residual"],
            dual_residual=last["dual_residual"],
            relative_gap=last.get("relative_gap"),
            converged=self._converged,
            history=history,
        )


def _checked_scalars(name: str, values: Tensor, rhs: Tensor) -> Tensor:
    if values.shape != rhs.shape[:1]:
        raise ShapeError(
            f"expected {name} ({rhs.shape[0]},), one an item, got {tuple(values.shape)}: expand it to that shape"
        )
    checked = values.to(device=rhs.device, dtype=torch.float64)
    if not bool((torch.isfinite(checked) & (checked > 0)).all()):
        raise MethodError(f"expected {name} positive and finite, got {checked.tolist()}: correct it")
    return checked


def _energy(x: Tensor) -> Tensor:
    """`||x||^2` of each item, in float64."""
    return total(parts(x).square())


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """`a / b`; of zeros 0, so that nothing counts as solved. Not a number stays that."""
    return torch.where(b == 0, torch.where(a == 0, 0.0, math.inf), a / torch.where(b == 0, 1.0, b))
