"""CG-SENSE: regularised least squares over the coils, by conjugate gradients.

Slices are scaled to a largest zero-filled magnitude near 1, and the scale is undone, so that `1e6 * kspace` gives
`1e6 * image`. Double precision in gives double precision out.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import torch
from torch import Tensor

from mri_recon._system.threads import Tell, one_thread
from mri_recon.coils.checks import check_signal
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
from mri_recon.methods.option_values import Between, check_values
from mri_recon.progress import OnProgress
from mri_recon.solvers.conjugate_gradient import conjugate_gradient
from mri_recon.solvers.problem import Solution

__all__ = [
    "cg_sense",
]


# The image 0 has a relative residual of 1.
_Tolerance = Annotated[float, Between(0, 0.5, cure="1e-4 is common")]

# With a weight above 1e6, the samples are lost to rounding in single precision.
_Weight = Annotated[float, Between(0, 1e6, cure="0.03 is a common start")]


@one_thread()
def cg_sense(
    kspace: Tensor,
    mask: Mask | Tensor,
    sens_maps: Tensor | None = None,
    *,
    maps: MapsChoice = "espirit",
    reg_weight: _Weight = 3e-2,
    tol: _Tolerance = 1e-4,
    max_iters: Iterations = 50,
    on_progress: OnProgress | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Solve SENSE with a small quadratic penalty by conjugate gradients.

        minimise 1/2 ||A x - y||^2 + mu/2 ||x||^2,   (A^H A + mu) x = A^H y,   A = P F S

    With one coil `A^H A` is a projection, and the solution is the zero-filled image divided by `1 + mu`.

    With estimated maps the image is `sqrt(sum |S|^2) x`, the combination of the coil images `S x`. Inside the object
    this equals `x`. At the edge, where ESPIRiT maps fall off smoothly, the image falls off with them instead of being
    extrapolated. Outside it is 0. With given maps the image is `x`, which is 0 where all maps are 0.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask.
        sens_maps: complex, one slice or all slices of k-space; `None` estimates them from the fully sampled centre.
        maps: estimator when `sens_maps` is None: "espirit" (its first set) or "center" (`coils.sens_maps_from_center`).
        reg_weight: `mu >= 0`, in units of `||A||^2`, which is 1 for maps with sum |S|^2 = 1; it does not depend on the
            units of the data.
        tol: relative residual of the normal equations at which the iteration stops.
        max_iters: maximum number of iterations.
        on_progress: called after every iteration, see `mri_recon.progress`.

    Returns:
        complex image `(slice, readout, phase)`; info with `iterations`, `relative_residual`, `reg_weight`, `stop`
        ("tol" or "max_iters"), `maps` ("given", "espirit", "center" or "one coil"), `seconds` and the list
        `per_slice["iterations"]`. With several slices, the values are those of the worst slice.

    Raises:
        ShapeError, MaskError, FormatError: as `zero_filled`; MaskError also if maps are to be estimated and the mask
            has no fully sampled centre (for "espirit": of at least two columns); FormatError also if the centre of a
            slice gives no maps.
        MethodError: an option out of range, or an unknown way to estimate maps.

    Source: Pruessmann et al., Magn Reson Med 2001.
    """
    start = time.perf_counter()
    given = {"maps": maps, "reg_weight": reg_weight, "tol": tol, "max_iters": max_iters}
    check_values("cg-sense", cg_sense, given)
    reg_weight, tol, max_iters = float(reg_weight), float(tol), int(max_iters)
    check_signal(kspace)
    operator, source = sense_operator(kspace, mask, sens_maps, maps, "cg-sense", on_progress)

    def solve(group: slice, tell: Tell) -> tuple[Tensor, Solution]:
        part = operator.with_maps(operator.sens_maps.expand(kspace.shape)[group])
        data = data_term(part, kspace[group])
        mu = reg_weight * largest_coverage(data)
        solution = conjugate_gradient(
            lambda x: data.gram(x) + mu * x, data.rhs, tol=tol, max_iters=max_iters, on_iteration=tell
        )
        tell(None, None, None)
        return as_seen(solution.x, data, source) * data.scale[:, None, None], solution

    image, solutions = solve_slices(solve, kspace, "cg-sense", max_iters=max_iters, on_progress=on_progress)
    iterations = torch.cat([solution.iterations for solution in solutions])
    info = {
        "iterations": int(iterations.max()),
        "relative_residual": max(float(solution.last("relative_residual").max()) for solution in solutions),
        "reg_weight": reg_weight,
        "stop": "tol" if all(bool(solution.converged.all()) for solution in solutions) else "max_iters",
        "maps": source,
        "per_slice": {"iterations": iterations.tolist()},
        "seconds": time.perf_counter() - start,
    }
    return image, info
