"""Define the priors of compressed sensing: each class holds a penalty R, its settings and the solver for it.

A prior takes the data term of a batch of slices, `1/2 ||A u - y||^2`, and one weight `lambda` for each slice, in the
units of `A^H y`. It returns the minimiser of `P(u) = 1/2 ||A u - y||^2 + lambda R(u)`, with a certificate if the solver
has one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, TypedDict

import torch
from torch import Tensor

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import MethodError
from mri_recon.operators.data_term import SenseDataTerm
from mri_recon.operators.preconditioner import penalised_inverse
from mri_recon.operators.row_gram import fast_gram
from mri_recon.operators.virtual_coils import of_virtual_coils, with_virtual_coils
from mri_recon.progress import OnIteration
from mri_recon.solvers.admm import admm
from mri_recon.solvers.compiled_haar import worth_compiling
from mri_recon.solvers.cycle_spinning import cycle_spinning
from mri_recon.solvers.fista import fista
from mri_recon.solvers.problem import LinearMap, Residual
from mri_recon.solvers.shrinkage import BandShrinkage, parts_modulus
from mri_recon.solvers.splitting import AnalysisTransform
from mri_recon.transforms.finite_differences import PeriodicGradient
from mri_recon.transforms.stationary_wavelets import StationaryWaveletTransform
from mri_recon.transforms.wavelets import WaveletTransform, default_levels, padded_size

__all__ = ["PHASES", "PRIORS", "SOLVERS", "Minimiser", "Prior", "Problem", "choose_prior"]

PHASES = ("center", "none")

SOLVERS = ("current", "0.1")
"""Forms of ADMM: the present one, and that of version 0.1, whose results are computed again by it."""

_CHECK_EVERY = 10
"""Number of FISTA iterations between two computations of the duality gap."""

_APPROXIMATION_WEIGHT = 2.0
"""Weight of the approximation band in the stationary prior; the detail bands have the weight 1."""

_SPINS = 100
"""Maximum number of iterations of cycle spinning, which has no stopping test. It is common with BART, too."""

_ADMM_TOLERANCE = 1e-3
"""Relative primal and dual residual at which ADMM stops; visible changes of the image end long before."""

_ADMM_CHANGE, _LEAST_CHANGE, _MOST_CHANGE = 2.0, 4e-4, 1.3e-3
"""Relative change of the image in one iteration at which ADMM stops with a Parseval frame and several coils, in units
of lambda over max |A^H y|, and its limits.

The more noise, the sooner further iterations change nothing that an observer could see."""

_LIGHT_WEIGHT, _LIMIT_FALLS = 0.05, 1.5
"""lambda in units of the noise from which on the upper limit falls, and the power by which it does.

The objective of a heavy penalty answers more to a change of the image; it is to be within a thousandth of the least."""

_ADMM_THRESHOLD = 0.7
"""ADMM's threshold there, in units of the square root of lambda times max |A^H y|."""

_LEFT_OUT = 5e-3
"""Fraction of the largest sum |S|^2 that the virtual coils of ADMM's inner steps may leave out at any pixel."""

_OF_BETA = 0.25
"""Fraction of beta that they may leave out at most."""

_ADMM_CHECK_EVERY, _FORMER_CHECK_EVERY = 5, 10
"""Number of ADMM iterations between two tests, now and in version 0.1."""

_DUAL_STEPS = 8
"""Steps of the search for a bound in a test of ADMM with a certificate; version 0.1 had none."""


@dataclass(frozen=True)
class Problem:
    """Hold the problem of a batch of slices, without the penalty.

    Attributes:
        data: the data term, of images of the prior's size.
        weight: lambda, `(slice,)`.
        gap_tol: relative duality gap at which a solver that computes a gap stops.
        max_iters: maximum number of iterations.
        projection: whether A^H A is a projection, as for one coil of modulus 1 with nothing padded.
        solver: form of ADMM, of `SOLVERS`; that of 0.1 has no preconditioner, and stops by its residuals alone.
        noise_weight: lambda in units of the noise, on which the stop of ADMM depends.
        on_iteration: called after every iteration, see `mri_recon.progress`. The objective that ADMM passes is a
            difference of large numbers and has about five correct digits.
    """

    data: SenseDataTerm
    weight: Tensor
    gap_tol: float
    max_iters: int
    projection: bool = False
    solver: str = SOLVERS[0]
    noise_weight: float = 0.05
    on_iteration: OnIteration | None = None


@dataclass(frozen=True)
class Minimiser:
    """Hold the minimiser of each slice.

    Attributes:
        image: u, complex `(slice, H, W)`.
        iterations: int64 `(slice,)`.
        objective: float64 `(slice,)`, `1/2 ||A u - y||^2 + lambda R(u)`; NaN if the prior has no objective.
        relative_gap: float64 `(slice,)`, a bound on `(P(u) - min P) / min P`; None if there is no certificate.
        gap_reason: why there is no certificate; empty if there is one.
        converged: bool `(slice,)`, whether the solver stopped by its own test.
    """

    image: Tensor
    iterations: Tensor
    objective: Tensor
    relative_gap: Tensor | None
    gap_reason: str
    converged: Tensor


@dataclass(frozen=True)
class Prior(ABC):
    """Define a penalty R with all settings fixed for one image size.

    Attributes:
        phase: "center" removes the smooth phase of the fully sampled centre from the image first and penalises real and
            imaginary part separately, `|Re| + |Im|`; "none" penalises the modulus.
        wavelet: name of the wavelet; None for total variation.
        levels: levels of the transform; None for total variation.
        size: size of the unknown `(H, W)`, padded if the transform needs it.
    """

    phase: str
    wavelet: str | None
    levels: int | None
    size: tuple[int, int]

    name: ClassVar[str]
    own_phase: ClassVar[str]
    """The phase rule that "auto" stands for."""
    own_wavelet: ClassVar[str | None] = None
    own_levels: ClassVar[int | None] = None
    """Default number of levels; None stands for `wavelets.default_levels`."""
    padded: ClassVar[bool] = False
    """Whether sides that `2^levels` does not divide are padded."""
    own_weights: ClassVar[tuple[float, float]]
    """The "auto" lambda in units of the noise, for one coil and for several; chosen on validation subjects."""

    @abstractmethod
    def minimise(self, problem: Problem) -> Minimiser:
        """Minimise `1/2 ||A u - y||^2 + lambda R(u)` over images u of size `size`."""

    @classmethod
    def default_weight(cls, num_coils: int) -> float:
        """Return the weight, in units of the noise, that "auto" stands for."""
        one, several = cls.own_weights
        return one if num_coils == 1 else several

    def most_iterations(self, max_iters: int) -> int:
        """Return the maximum number of iterations for a slice."""
        return max_iters

    def compiles(self, device: torch.device) -> bool:
        """Tell whether the solver runs compiled loops on a device, where numba is installed."""
        return False

    @property
    def separate_parts(self) -> bool:
        """Whether real and imaginary part are penalised separately."""
        return self.phase == "center"

    def _orthonormal(self, device: torch.device) -> WaveletTransform:
        assert self.wavelet is not None  # set by choose_prior
        assert self.levels is not None
        return WaveletTransform(self.wavelet, self.levels, self.size, device)

    def _stationary(self) -> StationaryWaveletTransform:
        assert self.wavelet is not None
        assert self.levels is not None
        return StationaryWaveletTransform(self.levels, self.size, self.wavelet)


class Stationary(Prior):
    """`R(u) = sum_j w_j |(W u)_j|` with a Parseval frame W, w = 2 for the approximation and 1 for the details."""

    name = "stationary"
    own_phase, own_wavelet, own_levels, own_weights = "center", "haar", 4, (0.05, 0.05)

    def compiles(self, device: torch.device) -> bool:
        return worth_compiling(self._stationary(), self.size, device)

    def minimise(self, problem: Problem) -> Minimiser:
        transform = self._stationary()
        weights = torch.ones(transform.num_bands, dtype=torch.float64)
        weights[0] = _APPROXIMATION_WEIGHT
        penalty = _Penalty(weights=weights, separate_parts=self.separate_parts, coupled=False)
        reason = "not available for the analysis form with several coils"
        return _analysis(problem, transform, penalty, reason, parseval=True)


class Orthonormal(Prior):
    """`R(u) = ||W u||_1` with an orthonormal W."""

    name = "orthonormal"
    own_phase, own_wavelet, own_weights = "none", "db4", (0.05, 0.4)
    padded = True

    def minimise(self, problem: Problem) -> Minimiser:
        transform = self._orthonormal(problem.weight.device)
        return _synthesis(self, problem, transform.forward, transform.inverse)


class StationarySynthesis(Prior):
    """`min_c 1/2 ||A W^H c - y||^2 + lambda ||c||_1`, `u = W^H c`, with a Parseval frame W."""

    name = "stationary-synthesis"
    own_phase, own_wavelet, own_levels, own_weights = "center", "haar", 4, (0.2, 0.2)

    def minimise(self, problem: Problem) -> Minimiser:
        transform = self._stationary()
        return _synthesis(self, problem, transform.forward, transform.adjoint)


class CycleSpinning(Prior):
    """Shrink in the wavelets of another shift at each iteration. There is no R, and all iterations are run."""

    name = "cycle-spinning"
    own_phase, own_wavelet, own_weights = "none", "db2", (0.05, 0.2)
    padded = True

    def most_iterations(self, max_iters: int) -> int:
        return min(max_iters, _SPINS)

    def minimise(self, problem: Problem) -> Minimiser:
        solution = cycle_spinning(
            problem.data.gram,
            problem.data.rhs,
            self._orthonormal(problem.weight.device),
            problem.weight,
            separate_parts=self.separate_parts,
            step=1.0 / problem.data.norm_bound,
            max_iters=self.most_iterations(problem.max_iters),
            on_iteration=problem.on_iteration,
        )
        unknown = torch.full_like(problem.weight, torch.nan)
        reason = "not available for cycle spinning: every iteration minimises for another shift of the wavelets"
        return Minimiser(solution.x, solution.iterations, unknown, None, reason, solution.converged)


class TotalVariation(Prior):
    """`R(u) = sum |(D u)|`, isotropic over the two differences of a pixel."""

    name = "tv"
    own_phase, own_weights = "center", (0.4, 0.2)

    def minimise(self, problem: Problem) -> Minimiser:
        penalty = _Penalty(weights=None, separate_parts=self.separate_parts, coupled=True)
        reason = "not available for total variation (no feasible dual point by scaling)"
        return _analysis(
            replace(problem, projection=False), PeriodicGradient(self.size), penalty, reason, parseval=False
        )


PRIORS: dict[str, type[Prior]] = {
    kind.name: kind for kind in (Stationary, Orthonormal, StationarySynthesis, CycleSpinning, TotalVariation)
}
"""The priors by name."""


def choose_prior(name: str, *, phase: str, wavelet: str | None, levels: int | None, size: tuple[int, int]) -> Prior:
    """Choose the prior of that name, with its own defaults in place of `None` and "auto".

    Raises:
        MethodError: an unknown name or phase rule, or a wavelet or levels for a prior that has none.
    """
    if name not in PRIORS:
        raise MethodError(
            f"expected prior to be one of {', '.join(PRIORS)}, got {name!r}{did_you_mean(name, PRIORS)}: choose one of "
            "them"
        )
    if phase not in (*PHASES, "auto"):
        near = did_you_mean(phase, ["auto", *PHASES])
        raise MethodError(
            f"expected phase to be one of auto, {', '.join(PHASES)}, got {phase!r}{near}: choose one of them"
        )
    kind = PRIORS[name]
    phase = kind.own_phase if phase == "auto" else phase
    if kind.own_wavelet is None:
        if wavelet is not None or levels is not None:
            raise MethodError(f"expected no wavelet and no levels for prior {name!r}, which has none: leave them out")
        return kind(phase, None, None, size)
    shortest = max(1, min(size).bit_length() - 1)
    if levels is None:
        levels = default_levels(*size) if kind.own_levels is None else min(kind.own_levels, shortest)
    else:
        most = max(1, (max(size) - 1).bit_length()) if kind.padded else shortest
        if isinstance(levels, bool) or not isinstance(levels, int) or not 1 <= levels <= most:
            raise MethodError(f"expected wavelet levels between 1 and {most} for an image of {size}, got {levels!r}")
    unknown = padded_size(*size, levels) if kind.padded else size
    return kind(phase, kind.own_wavelet if wavelet is None else wavelet, levels, unknown)


def _synthesis(
    prior: Prior, problem: Problem, analyse: Callable[[Tensor], Tensor], synthesise: Callable[[Tensor], Tensor]
) -> Minimiser:
    """Minimise over the coefficients by FISTA, certified."""
    solution = fista(
        _Coefficients(problem.data, analyse, synthesise),
        problem.weight,
        magnitude=torch.abs if prior.separate_parts else parts_modulus,
        step=1.0 / problem.data.norm_bound,
        gap_tol=problem.gap_tol,
        max_iters=problem.max_iters,
        check_every=_CHECK_EVERY,
        on_iteration=problem.on_iteration,
    )
    image = _complex(synthesise(solution.x))
    objective = solution.last("objective")
    return Minimiser(image, solution.iterations, objective, solution.relative_gap, "", solution.converged)


class _Penalty(TypedDict):
    """Options that `admm` and `BandShrinkage` share."""

    weights: Tensor | None
    separate_parts: bool
    coupled: bool


def _analysis(
    problem: Problem, transform: AnalysisTransform, penalty: _Penalty, gap_reason: str, *, parseval: bool
) -> Minimiser:
    """Minimise by ADMM, certified if `A^H A` is a projection; else inner solves of a Parseval frame are conditioned."""
    data, on_iteration = problem.data, problem.on_iteration
    current = problem.solver == SOLVERS[0]
    inexact = current and parseval and not problem.projection
    largest = data.rhs.abs().flatten(1).amax(dim=1).double()
    relative = problem.weight / largest
    solution = admm(
        data.gram,
        data.rhs,
        transform,
        problem.weight,
        precondition=partial(penalised_inverse, data.operator) if inexact else None,
        cheaper=partial(_fewer_coils, data) if inexact else None,
        projection=problem.projection,
        tol=_ADMM_TOLERANCE,
        threshold=_ADMM_THRESHOLD * relative.sqrt() * largest if inexact else None,
        change_tol=_settled(relative, problem.noise_weight) if inexact else 0.0,
        check_every=_ADMM_CHECK_EVERY if current else _FORMER_CHECK_EVERY,
        gap_tol=problem.gap_tol,
        dual_steps=_DUAL_STEPS if current else 0,
        max_iters=problem.max_iters,
        on_iteration=None if on_iteration is None else _with_constant(on_iteration, data),
        **penalty,
    )
    shrinkage = BandShrinkage(num_bands=transform.num_bands, complex_values=True, **penalty)
    # ADMM's own sum would cancel in single precision.
    size = shrinkage.penalty(transform.forward(solution.x))
    objective = 0.5 * data.residual(solution.x).energy + problem.weight * size
    gap = solution.relative_gap
    reason = gap_reason if gap is None else ""
    return Minimiser(solution.x, solution.iterations, objective, gap, reason, solution.converged)


def _settled(relative: Tensor, noise_weight: float) -> Tensor:
    """Choose the relative change of the image at which ADMM stops, for lambda over max |A^H y| and over the noise."""
    most = _MOST_CHANGE * min(1.0, _LIGHT_WEIGHT / noise_weight) ** _LIMIT_FALLS
    return (_ADMM_CHANGE * relative).clamp(max=most).clamp(min=_LEAST_CHANGE)


def _fewer_coils(data: SenseDataTerm, beta: Tensor) -> LinearMap:
    """Make A^H A of virtual coils, which leave out so little that the steps of ADMM can make up for it."""
    allowed = min(_LEFT_OUT, _OF_BETA * float(beta.min()) / data.norm_bound)
    reduced = of_virtual_coils(data.operator, allowed)
    return data.gram if reduced is data.operator else fast_gram(reduced)


def _with_constant(on_iteration: OnIteration, data: SenseDataTerm) -> OnIteration:
    """Add the constant `1/2 ||y||^2` that ADMM's objective lacks."""
    constant = 0.5 * data.at_zero().energy

    def told(iteration: int, objective: Tensor | None, relative_gap: Tensor | None) -> None:
        on_iteration(iteration, None if objective is None else objective + constant, relative_gap)

    return told


class _Coefficients:
    """Express the data term in coefficients c, `u = W^H c`, complex numbers as two real planes `(slice, 2, ...)`.

    W is real and acts on real and imaginary part alike; real arithmetic on two planes is faster than complex
    arithmetic.
    """

    def __init__(
        self, data: SenseDataTerm, analyse: Callable[[Tensor], Tensor], synthesise: Callable[[Tensor], Tensor]
    ) -> None:
        self._data, self._analyse, self._synthesise = with_virtual_coils(data), analyse, synthesise

    def at_zero(self) -> Residual:
        return self._of(self._data.at_zero())

    def gradient(self, x: Tensor) -> Tensor:
        return self._analyse(_planes(self._data.gradient(_complex(self._synthesise(x)))))

    def residual(self, x: Tensor) -> Residual:
        return self._of(self._data.residual(_complex(self._synthesise(x))))

    def _of(self, residual: Residual) -> Residual:
        return Residual(self._analyse(_planes(residual.gradient)), residual.energy, residual.correlation)


def _complex(planes: Tensor) -> Tensor:
    return torch.complex(planes[:, 0], planes[:, 1])


def _planes(image: Tensor) -> Tensor:
    return torch.stack((image.real, image.imag), dim=1)
