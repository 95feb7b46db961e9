"""Wavelet compressed sensing, and total variation, with a certified duality gap.

    minimise over u  1/2 ||A u - y||^2 + lambda R(u),   A = P F S C,   image = C u

The option `prior` names R (`methods.priors`):

- "stationary": `sum_j w_j |(W u)_j|`, W the stationary (translation-invariant) wavelet transform, a Parseval frame,
  w = 2 for the approximation and 1 for the details; by ADMM. With one coil it has a duality gap.
- "orthonormal": `||W u||_1`, W periodised and orthonormal, all bands penalised, the approximation too: the problem of
  BART's `pics -n` and of SigPy. By restarted FISTA, with a duality gap. Sides that `2^levels` does not divide are
  padded: the unknown `u` is the padded image and the crop `C` belongs to `A`, so that objective, proximal map and gap
  refer to the same problem.
- "stationary-synthesis": `min_c 1/2 ||A W^H c - y||^2 + lambda ||c||_1`, `u = W^H c`, with the stationary W; by FISTA,
  with a duality gap.
- "cycle-spinning": the orthonormal W of the image, shifted by new random amounts in each iteration, as in BART's
  default. It has no objective and therefore no gap.
- "tv": isotropic total variation, periodic; by ADMM, without a gap.

Slices are scaled to a largest zero-filled magnitude near 1, and the scale is undone, so that `1e6 * kspace` gives
`1e6 * image`. Double precision in gives double precision out.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from mri_recon._system.threads import Tell, one_thread
from mri_recon.coils.checks import check_signal
from mri_recon.coils.noise import NoiseLevel, estimate_sigma
from mri_recon.coils.phase import smooth_phase_map
from mri_recon.errors import MaskError, MethodError
from mri_recon.masks.calibration_region import center_block
from mri_recon.masks.convert import as_mask
from mri_recon.masks.echo import echo_center
from mri_recon.masks.types import Mask
from mri_recon.methods._inputs import (
    Iterations,
    MapsChoice,
    as_seen,
    data_term,
    largest_coverage,
    sense_operator,
    solve_slices,
)
from mri_recon.methods.option_values import Between, OneOf, check_values
from mri_recon.methods.priors import PHASES, PRIORS, SOLVERS, Minimiser, Prior, Problem, choose_prior
from mri_recon.operators.sense import SenseOperator
from mri_recon.progress import OnIteration, OnProgress

__all__ = [
    "cs_wavelet",
]


_SMALL_WEIGHT = 1e-5
"""Smallest lambda, for an image scaled to about 1, that single precision resolves; below it, the solver uses double."""

_Prior = Annotated[str, OneOf(*PRIORS)]

_Phase = Annotated[str, OneOf("auto", *PHASES)]

_Solver = Annotated[str, OneOf(*SOLVERS)]

_GapTolerance = Annotated[float, Between(0, cure="0.01 is common")]

_NoiseWeight = Annotated[
    float,
    Between(
        0,
        1e6,
        open_below=True,
        cure="it is lambda in units of the noise sigma, 0.05 to 1 is common; without a weight use cg-sense",
    ),
]


@one_thread()
def cs_wavelet(
    kspace: Tensor,
    mask: Mask | Tensor,
    sens_maps: Tensor | None = None,
    *,
    maps: MapsChoice = "espirit",
    prior: _Prior = "stationary",
    phase: _Phase = "auto",
    wavelet: str | None = None,
    levels: int | None = None,
    reg_weight: _NoiseWeight | Annotated[str, OneOf("auto")] = "auto",
    sigma: Annotated[float, Between(0, open_below=True, cure="it is sqrt(E|n|^2) of one k-space sample")]
    | Tensor
    | None = None,
    gap_tol: _GapTolerance = 1e-2,
    max_iters: Iterations = 200,
    final_step: bool = True,
    solver: _Solver = "current",
    on_progress: OnProgress | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Reconstruct by compressed sensing: find the image that fits the samples and is sparse in wavelets.

        minimise over u  1/2 ||A u - y||^2 + lambda R(u),   A = P F S C,   image = C u

    `prior` names R, see the module docstring.

    By default the image is the minimiser after one more gradient step of the data term, `u + A^H (y - A u) / ||A||^2`,
    as in BART, whose FISTA ends with this step. It undoes the shrinkage of the measured samples. With one coil it is
    data consistency: the k-space of the image contains the measured samples. `objective` and `relative_gap` are those
    of the minimiser. Where all maps are 0, the image is set to 0. With estimated maps, the image is weighted as in
    `cg_sense`.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask.
        sens_maps: complex, one slice or all slices of k-space; `None` estimates them from the fully sampled centre.
        maps: estimator when `sens_maps` is None: "espirit" (its first set) or "center" (`coils.sens_maps_from_center`).
        prior: name of the sparsity prior R: a wavelet transform, or total variation for "tv".
        phase: "center" removes the smooth phase of the fully sampled centre (`phase.smooth_phase_map`) from the image
            and penalises real and imaginary part separately, `|Re| + |Im|`, because an image without its phase is
            nearly real; "none" penalises the modulus; "auto" is "center" for the stationary priors and "tv" where the
            mask has a fully sampled centre, else "none".
        wavelet: an orthogonal wavelet of PyWavelets; `None` is Haar for the stationary priors, db2 for cycle spinning,
            db4 for "orthonormal".
        levels: levels of the transform; `None` is 4 for the stationary priors, else `wavelets.default_levels`.
        reg_weight: `lambda / sigma > 0`: the weight in units of the noise; "auto" is the default of the prior, chosen
            on validation subjects.
        sigma: noise of one k-space sample, `sqrt(E|n|^2)`, in the units of the k-space, one for all slices or
            `(slice,)`; `None` estimates it from the outermost samples (`noise.estimate_sigma`).
        gap_tol: relative duality gap at which the solver stops; ADMM also stops at relative residuals of 1e-3, and with
            several coils and the stationary prior where an iteration changes the image by 4e-4 to 1.3e-3 of its norm or
            less, the more the more noise there is.
        max_iters: maximum number of iterations.
        final_step: add the gradient step; without it the image is the minimiser itself.
        solver: form of ADMM; "0.1" is that of version 0.1, without a preconditioner and a stop by its residuals alone.
            `replay` takes it for results of that version. Priors solved by FISTA have the same in both.
        on_progress: called after every iteration, see `mri_recon.progress`.

    Returns:
        complex image `(slice, readout, phase)`; info with `prior`, `phase`, `iterations`, `objective` (in the squared
        units of the k-space; None for cycle spinning), `relative_gap` (None if there is no certificate; `gap_reason`
        says why), `reg_weight`, `reg_weight_unit`, `sigma`, `sigma_source`, `stop` ("tol", "max_iters", or "gap" if
        `gap_tol` was reached), `wavelet`, `levels`, `padded_size`, `final_step`, `maps` (as `cg_sense`), `seconds` and
        the lists `per_slice`. With several slices: the worst gap, the largest number of iterations, the sum of the
        objectives, the largest sigma.

    Raises:
        ShapeError, MaskError, FormatError: as `cg_sense`; FormatError also if the noise cannot be estimated; MaskError
            also for phase "center" without a fully sampled centre.
        MethodError: an unknown prior, phase, wavelet or way to estimate maps, or an option out of range.

    Source: Lustig, Donoho and Pauly, Magn Reson Med 2007; Guerquin-Kern et al., IEEE TMI 2011; cycle spinning: Coifman
    and Donoho 1995.
    """
    start = time.perf_counter()
    check_signal(kspace)
    if phase == "auto" and not _has_center(kspace, as_mask(mask, kspace.shape)):
        phase = "none"
    size = (kspace.shape[-2], kspace.shape[-1])
    chosen = choose_prior(prior, phase=phase, wavelet=wavelet, levels=levels, size=size)
    given = {"maps": maps, "reg_weight": reg_weight, "gap_tol": gap_tol, "max_iters": max_iters}
    check_values("cs-wavelet", cs_wavelet, {**given, "final_step": final_step, "solver": solver})
    compiled = chosen.compiles(kspace.device)  # then the compiler is loaded anyway
    operator, source = sense_operator(kspace, mask, sens_maps, maps, "cs-wavelet", on_progress, compiled=compiled)
    noise = _noise(sigma, kspace, mask)
    weight = chosen.default_weight(kspace.shape[1]) if isinstance(reg_weight, str) else float(reg_weight)
    phases = smooth_phase_map(kspace, mask, operator.sens_maps) if chosen.separate_parts else None
    run = _Run(chosen, source, float(gap_tol), int(max_iters), final_step, solver, weight)

    def solve(group: slice, tell: Tell) -> tuple[Tensor, Minimiser]:
        part_maps, part_phases = operator.sens_maps[group], None if phases is None else phases[group]
        if part_phases is not None:
            # Estimated maps belong to this call, and nothing else reads those of the group.
            place = None if source == "given" else part_maps
            part_maps = torch.mul(part_maps, part_phases.unsqueeze(1), out=place)
        part, lam = operator.with_maps(part_maps, chosen.size), weight * noise.sigma[group]
        image, minimiser = run.solve(kspace[group], part, lam, tell)
        tell(None, minimiser.objective, minimiser.relative_gap)
        return image if part_phases is None else part_phases * image, minimiser

    most = chosen.most_iterations(int(max_iters))
    image, found = solve_slices(solve, kspace, "cs-wavelet", max_iters=most, on_progress=on_progress)
    info = {
        "prior": prior,
        "phase": chosen.phase,
        **_summary(found, gap_tol),
        "reg_weight": weight,
        "reg_weight_unit": "sigma",
        "sigma": float(noise.sigma.max()),
        "sigma_source": noise.source,
        "wavelet": chosen.wavelet,
        "levels": chosen.levels,
        "padded_size": list(chosen.size),
        "final_step": final_step,
        "maps": source,
        "seconds": time.perf_counter() - start,
    }
    return image, info


def _has_center(kspace: Tensor, mask: Mask) -> bool:
    try:
        center_block(mask, at=echo_center(kspace, mask))
    except MaskError:
        return False
    return True


@dataclass(frozen=True)
class _Run:
    """Hold the settings of a reconstruction that are the same for all slices."""

    prior: Prior
    source: str
    gap_tol: float
    max_iters: int
    final_step: bool
    solver: str
    noise_weight: float

    def solve(
        self, kspace: Tensor, operator: SenseOperator, weight: Tensor, on_iteration: OnIteration
    ) -> tuple[Tensor, Minimiser]:
        """Solve a group of slices: the image of each in the units of the k-space, and its minimiser."""
        data = data_term(operator, kspace)
        scale = data.scale.to(torch.float64)
        lam = weight.to(scale.device) / scale
        if kspace.dtype == torch.complex64 and float(lam.min()) < _SMALL_WEIGHT:
            double = operator.with_maps(operator.sens_maps.to(torch.complex128), operator.image_size)
            image, minimiser = self.solve(kspace.to(torch.complex128), double, weight, on_iteration)
            return image.to(kspace.dtype), minimiser
        projection = self.source == "one coil" and operator.image_size == operator.kspace_size
        told = _in_units(on_iteration, scale**2)
        problem = Problem(data, lam, self.gap_tol, self.max_iters, projection, self.solver, self.noise_weight, told)
        minimiser = self.prior.minimise(problem)
        minimiser = replace(minimiser, objective=minimiser.objective * scale**2)
        unknown = minimiser.image
        if self.final_step:
            unknown = unknown + data.gradient(unknown) / largest_coverage(data)
        image = operator.crop(unknown) * data.scale[:, None, None]
        if not bool(torch.isfinite(torch.view_as_real(image)).all()):
            raise MethodError(
                f"expected a finite image, got one that is not, with prior {self.prior.name!r} and lambda "
                f"{weight.tolist()}: check reg_weight, sigma and sens_maps, and report this if they are right"
            )
        return as_seen(image, data, self.source), minimiser


def _in_units(on_iteration: OnIteration, factor: Tensor) -> OnIteration:
    """Multiply the objectives passed to a callback by `factor` `(batch,)`."""

    def told(iteration: int, objective: Tensor | None, relative_gap: Tensor | None) -> None:
        on_iteration(iteration, None if objective is None else objective * factor, relative_gap)

    return told


def _summary(found: list[Minimiser], gap_tol: float) -> dict[str, Any]:
    iterations = torch.cat([item.iterations for item in found])
    objective = torch.cat([item.objective for item in found])
    converged = all(bool(item.converged.all()) for item in found)
    gaps = [item.relative_gap for item in found if item.relative_gap is not None]
    gap = torch.cat(gaps) if gaps else None
    known = not bool(objective.isnan().any())
    stop = "tol" if converged else "max_iters"
    if gap is not None and float(gap.max()) <= gap_tol:
        stop = "gap"
    per_slice: dict[str, Any] = {"iterations": iterations.tolist()}
    if known:
        per_slice["objective"] = objective.tolist()
    if gap is not None:
        per_slice["relative_gap"] = gap.tolist()
    return {
        "iterations": int(iterations.max()),
        "objective": float(objective.sum()) if known else None,
        "relative_gap": None if gap is None else float(gap.max()),
        **({"gap_reason": found[0].gap_reason} if gap is None else {}),
        "stop": stop,
        "per_slice": per_slice,
    }


def _noise(sigma: float | Tensor | None, kspace: Tensor, mask: Mask | Tensor) -> NoiseLevel:
    if sigma is None:
        return estimate_sigma(kspace, mask)
    known = isinstance(sigma, Tensor) or _is_number(sigma)
    given = torch.as_tensor(sigma if known else math.nan, dtype=torch.float64, device=kspace.device)
    fits = given.ndim == 0 or tuple(given.shape) == (kspace.shape[0],)
    if not fits or not bool((torch.isfinite(given) & (given > 0)).all()):
        raise MethodError(
            f"expected sigma as one positive, finite number or one for each slice ({kspace.shape[0]},), got {sigma!r}: "
            "it is sqrt(E|n|^2) of one k-space sample; leave it out to have it read from the k-space"
        )
    return NoiseLevel(given.expand(kspace.shape[0]), "given")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
