"""Compressed sensing by prior: what is minimised over the image of each slice, and by which solver.

Every solver here takes the data term of a batch of slices, `1/2 ||A u - y||^2`, and one weight `lambda` a slice in the
units of `A^H y`, and returns the minimiser with what is known about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mri_recon.errors import MethodError
from mri_recon.operators.data_term import SenseDataTerm
from mri_recon.progress import OnIteration
from mri_recon.solvers.admm import AnalysisTransform, admm
from mri_recon.solvers.cycle_spinning import cycle_spinning
from mri_recon.solvers.fista import fista
from mri_recon.solvers.problem import Residual
from mri_recon.solvers.shrinkage import BandShrinkage, parts_modulus
from mri_recon.transforms.finite_differences import PeriodicGradient
from mri_recon.transforms.stationary_wavelets import StationaryWaveletTransform
from mri_recon.transforms.wavelets import WaveletTransform, default_levels, padded_size

__all__ = ["PRIORS", "Minimiser", "Prior", "StoppingRule", "choose_prior", "minimise", "most_iterations"]

_CHECK_EVERY = 10
"""Iterations of FISTA between two looks at the duality gap."""

_APPROXIMATION_WEIGHT = 2.0
"""Weight of the approximation of the stationary prior, against 1 for the details."""

_SPINS = 100
"""Iterations of cycle spinning, unless fewer are asked for: it has no test to stop at. BART's users take as many."""

_ADMM_TOLERANCE = 1e-3
"""Relative primal and dual residual at which ADMM stops; the image no longer changes visibly long before."""


@dataclass(frozen=True)
class Prior:
    """A prior with everything about it settled for one image size.

    Attributes:
        name: one of `PRIORS`.
        separate_parts: penalise real and imaginary part each for itself, `|Re| + |Im|`, in place of the modulus.
        wavelet: name of the wavelet; None for total variation.
        levels: of the transform; None for total variation.
        size: of the unknown `(H, W)`, padded where the transform needs it.
    """

    name: str
    separate_parts: bool
    wavelet: str | None
    levels: int | None
    size: tuple[int, int]


@dataclass(frozen=True)
class StoppingRule:
    """When a solver ends.

    Attributes:
        gap_tol: relative duality gap, for the priors that have one.
        max_iters: most iterations.
    """

    gap_tol: float
    max_iters: int


@dataclass(frozen=True)
class Minimiser:
    """Where a solver ended.

    Attributes:
        image: u, complex `(slice, H, W)`.
        iterations: int64 `(slice,)`.
        objective: float64 `(slice,)`, `1/2 ||A u - y||^2 + lambda R(u)`; NaN where there is none.
        relative_gap: float64 `(slice,)`, a bound on `(P(u) - min P) / min P`; None where there is no certificate.
        gap_reason: why there is none; empty where there is one.
        converged: bool `(slice,)`, whether the solver's own test was met.
    """

    image: Tensor
    iterations: Tensor
    objective: Tensor
    relative_gap: Tensor | None
    gap_reason: str
    converged: Tensor


class _Solver(Protocol):
    def __call__(
        self,
        data: SenseDataTerm,
        weight: Tensor,
        prior: Prior,
        rule: StoppingRule,
        projection: bool,
        on_iteration: OnIteration | None,
    ) -> Minimiser: ...


@dataclass(frozen=True)
class _Kind:
    """What a name stands for."""

    solve: _Solver
    wavelet: str | None
    levels: int | None  # None: `default_levels`, or no levels at all
    phase: str
    padded: bool
    auto_weight: tuple[float, float]  # one coil, several coils; in units of sigma


def choose_prior(
    name: str, *, phase: str, wavelet: str | None, levels: int | None, size: tuple[int, int]
) -> tuple[Prior, str]:
    """The prior of that name with its own choices in place of `None` and "auto"; and the phase rule.

    Raises:
        MethodError: an unknown name or phase rule, or a wavelet or levels for a prior that has none.
    """
    if name not in PRIORS:
        raise MethodError(f"expected prior to be one of {', '.join(PRIORS)}, got {name!r}: choose one of them")
    if phase not in (*PHASES, "auto"):
        raise MethodError(f"expected phase to be one of auto, {', '.join(PHASES)}, got {phase!r}: choose one of them")
    kind = PRIORS[name]
    phase = kind.phase if phase == "auto" else phase
    if kind.wavelet is None:
        if wavelet is not None or levels is not None:
            raise MethodError(f"expected no wavelet and no levels for prior {name!r}, which has none: leave them out")
        return Prior(name, phase == "center", None, None, size), phase
    if levels is None:
        levels = default_levels(*size) if kind.levels is None else min(kind.levels, max(1, min(size).bit_length() - 1))
    else:
        most = max(1, (max(size) - 1).bit_length() if kind.padded else min(size).bit_length() - 1)
        if isinstance(levels, bool) or not isinstance(levels, int) or not 1 <= levels <= most:
            raise MethodError(f"expected wavelet levels between 1 and {most} for an image of {size}, got {levels!r}")
    unknown = padded_size(*size, levels) if kind.padded else size
    return Prior(name, phase == "center", kind.wavelet if wavelet is None else wavelet, levels, unknown), phase


def auto_weight(name: str, num_coils: int) -> float:
    """The weight in units of the noise that "auto" stands for, chosen on validation persons."""
    one, several = PRIORS[name].auto_weight
    return one if num_coils == 1 else several


def most_iterations(name: str, rule: StoppingRule) -> int:
    """How many iterations a slice takes at most."""
    return min(rule.max_iters, _SPINS) if name == "cycle-spinning" else rule.max_iters


def minimise(
    data: SenseDataTerm,
    weight: Tensor,
    prior: Prior,
    rule: StoppingRule,
    projection: bool = False,
    on_iteration: OnIteration | None = None,
) -> Minimiser:
    """Minimise `1/2 ||A u - y||^2 + lambda R(u)` for the prior R.

    Args:
        data: the data term, of images of the prior's size.
        weight: lambda, `(slice,)`.
        prior: R.
        rule: when to stop.
        projection: whether A^H A is a projection, as for one coil of modulus 1 with nothing padded.
        on_iteration: called after every iteration, see `mri_recon.progress`. The objective of ADMM's checks is a
            difference of large numbers, right to about five digits.
    """
    return PRIORS[prior.name].solve(data, weight, prior, rule, projection, on_iteration)


def _orthonormal(
    data: SenseDataTerm,
    weight: Tensor,
    prior: Prior,
    rule: StoppingRule,
    projection: bool,
    on_iteration: OnIteration | None,
) -> Minimiser:
    """`R(u) = ||W u||_1` with an orthonormal W."""
    transform = _orthonormal_transform(prior, weight.device)
    return _synthesis(data, weight, transform.forward, transform.inverse, prior, rule, on_iteration)


def _stationary_synthesis(
    data: SenseDataTerm,
    weight: Tensor,
    prior: Prior,
    rule: StoppingRule,
    projection: bool,
    on_iteration: OnIteration | None,
) -> Minimiser:
    """`min_c 1/2 ||A W^H c - y||^2 + lambda ||c||_1`, `u = W^H c`, with a Parseval frame W."""
    transform = _stationary_transform(prior)
    return _synthesis(data, weight, transform.forward, transform.adjoint, prior, rule, on_iteration)


def _stationary(
    data: SenseDataTerm,
    weight: Tensor,
    prior: Prior,
    rule: StoppingRule,
    projection: bool,
    on_iteration: OnIteration | None,
) -> Minimiser:
    """`R(u) = sum_j w_j |(W u)_j|` with a Parseval frame W, w = 2 for the approximation and 1 for the details."""
    transform = _stationary_transform(prior)
    weights = torch.ones(transform.num_bands, dtype=torch.float64, device=weight.device)
    weights[0] = _APPROXIMATION_WEIGHT
    reason = "there is none for the analysis form with several coils"
    return _analysis(data, weight, transform, prior, rule, reason, on_iteration, weights=weights, projection=projection)


def _total_variation(
    data: SenseDataTerm,
    weight: Tensor,
    prior: Prior,
    rule: StoppingRule,
    projection: bool,
    on_iteration: OnIteration | None,
) -> Minimiser:
    """`R(u) = sum |(D u)|`, isotropic over the two differences of a pixel."""
    reason = "there is none for total variation: its dual is not feasible by scaling"
    return _analysis(data, weight, PeriodicGradient(prior.size), prior, rule, reason, on_iteration, coupled=True)


def _cycle_spinning(
    data: SenseDataTerm,
    weight: Tensor,
    prior: Prior,
    rule: StoppingRule,
    projection: bool,
    on_iteration: OnIteration | None,
) -> Minimiser:
    """No R: each iteration shrinks in the wavelets of another shift. Runs all its iterations, from one fixed seed."""
    solution = cycle_spinning(
        data.gram,
        data.rhs,
        _orthonormal_transform(prior, weight.device),
        weight,
        separate_parts=prior.separate_parts,
        step=1.0 / data.norm_bound,
        max_iters=most_iterations(prior.name, rule),
        on_iteration=on_iteration,
    )
    nothing = torch.full_like(weight, torch.nan)
    reason = "there is none for cycle spinning: every iteration minimises for another shift of the wavelets"
    return Minimiser(solution.x, solution.iterations, nothing, None, reason, torch.zeros_like(weight, dtype=torch.bool))


def _synthesis(
    data: SenseDataTerm,
    weight: Tensor,
    analyse: Callable[[Tensor], Tensor],
    synthesise: Callable[[Tensor], Tensor],
    prior: Prior,
    rule: StoppingRule,
    on_iteration: OnIteration | None,
) -> Minimiser:
    """Certified FISTA in the coefficients."""
    solution = fista(
        _Coefficients(data, analyse, synthesise),
        weight,
        magnitude=torch.abs if prior.separate_parts else parts_modulus,
        step=1.0 / data.norm_bound,
        gap_tol=rule.gap_tol,
        max_iters=rule.max_iters,
        check_every=_CHECK_EVERY,
        on_iteration=on_iteration,
    )
    image = _complex(synthesise(solution.x))
    return Minimiser(
        image, solution.iterations, solution.last("objective"), solution.relative_gap, "", solution.converged
    )


def _analysis(
    data: SenseDataTerm,
    weight: Tensor,
    transform: AnalysisTransform,
    prior: Prior,
    rule: StoppingRule,
    gap_reason: str,
    on_iteration: OnIteration | None,
    *,
    weights: Tensor | None = None,
    coupled: bool = False,
    projection: bool = False,
) -> Minimiser:
    """ADMM, certified where `A^H A` is a projection."""
    solution = admm(
        data.gram,
        data.rhs,
        transform,
        weight,
        weights=weights,
        separate_parts=prior.separate_parts,
        coupled=coupled,
        projection=projection,
        tol=_ADMM_TOLERANCE,
        gap_tol=rule.gap_tol,
        max_iters=rule.max_iters,
        on_iteration=None if on_iteration is None else _with_constant(on_iteration, data),
    )
    shrinkage = BandShrinkage(
        weights,
        transform.num_bands,
        complex_values=data.rhs.is_complex(),
        separate_parts=prior.separate_parts,
        coupled=coupled,
    )
    penalty = shrinkage.penalty(transform.forward(solution.x))
    # ADMM's own sum would cancel in single precision.
    objective = 0.5 * data.residual(solution.x).energy + weight * penalty
    gap = solution.relative_gap
    reason = gap_reason if gap is None else ""
    return Minimiser(solution.x, solution.iterations, objective, gap, reason, solution.converged)


def _with_constant(on_iteration: OnIteration, data: SenseDataTerm) -> OnIteration:
    """ADMM's objective lacks `1/2 ||y||^2`."""
    constant = 0.5 * data.at_zero().energy

    def told(iteration: int, objective: Tensor | None, relative_gap: Tensor | None) -> None:
        on_iteration(iteration, None if objective is None else objective + constant, relative_gap)

    return told


class _Coefficients:
    """The data term in coefficients c, `u = W^H c`, complex numbers as two real planes `(slice, 2, ...)`.

    W is real: it acts on the real and on the imaginary part alike, and real arithmetic on planes is the faster one.
    """

    def __init__(
        self, data: SenseDataTerm, analyse: Callable[[Tensor], Tensor], synthesise: Callable[[Tensor], Tensor]
    ) -> None:
        self._data, self._analyse, self._synthesise = data.reduced(), analyse, synthesise

    def at_zero(self) -> Residual:
        return self._of(self._data.at_zero())

    def gradient(self, x: Tensor) -> Tensor:
        return self._analyse(_planes(self._data.gradient(_complex(self._synthesise(x)))))

    def residual(self, x: Tensor) -> Residual:
        return self._of(self._data.residual(_complex(self._synthesise(x))))

    def _of(self, residual: Residual) -> Residual:
        return Residual(self._analyse(_planes(residual.gradient)), residual.energy, residual.correlation)


def _orthonormal_transform(prior: Prior, device: torch.device) -> WaveletTransform:
    assert prior.wavelet is not None  # settled by choose_prior
    assert prior.levels is not None
    return WaveletTransform(prior.wavelet, prior.levels, prior.size, device)


def _stationary_transform(prior: Prior) -> StationaryWaveletTransform:
    assert prior.wavelet is not None
    assert prior.levels is not None
    return StationaryWaveletTransform(prior.levels, prior.size, prior.wavelet)


def _complex(planes: Tensor) -> Tensor:
    return torch.complex(planes[:, 0], planes[:, 1])


def _planes(image: Tensor) -> Tensor:
    return torch.stack((image.real, image.imag), dim=1)


PHASES = ("center", "none")

PRIORS: dict[str, _Kind] = {
    "stationary": _Kind(_stationary, "haar", 4, "center", False, (0.05, 0.05)),
    "orthonormal": _Kind(_orthonormal, "db4", None, "none", True, (0.05, 0.4)),
    "stationary-synthesis": _Kind(_stationary_synthesis, "haar", 4, "center", False, (0.2, 0.2)),
    "cycle-spinning": _Kind(_cycle_spinning, "db2", None, "none", True, (0.05, 0.2)),
    "tv": _Kind(_total_variation, None, None, "center", False, (0.4, 0.2)),
}
"""The priors by name: solver, wavelet, levels, phase rule, whether padded, and the automatic weights."""
