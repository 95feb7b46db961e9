"""Run cycle spinning: FISTA whose wavelet transform shifts the image by another circular shift in every iteration.

    z   = x + beta (x - x_old)
    x  <- T^-1 W^H S(W T (z + step (b - H z))),   H = A^H A, b = A^H y

T shifts both axes by whole numbers that are drawn anew each time, uniform in 0 .. 2^levels - 1. Larger shifts repeat
these, as the decimated transform commutes with shifts by 2^levels. S shrinks by `step lambda`. beta is that of FISTA,
and the momentum of an item is dropped where it points uphill, `Re <z - x_new, x_new - x> > 0`, as in `solvers.fista`.

Each iteration minimises for another shift. So there is no single objective and no gap, and the iterates need not
converge. The shifts come from a generator with a fixed seed and are the same for all items, so that the result depends
only on the arguments.

The first axis of every tensor counts independent problems. Scalars are summed in float64.

Source: Coifman and Donoho, Wavelets and Statistics 1995; Figueiredo and Nowak, IEEE TIP 2003 (random shifts);
O'Donoghue and Candes, Found Comput Math 2015 (restart).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mri_recon._arrays import inner, parts, per_item, quotient
from mri_recon.errors import MethodError, ShapeError
from mri_recon.progress import OnIteration
from mri_recon.solvers.fista import next_momentum
from mri_recon.solvers.problem import LinearMap, Solution, checked_weight
from mri_recon.solvers.shrinkage import soft_threshold
from mri_recon.transforms.wavelets import WaveletTransform

__all__ = ["cycle_spinning"]

_SEED = 0
"""Seed of the shifts."""


def cycle_spinning(
    normal: LinearMap,
    rhs: Tensor,
    transform: WaveletTransform,
    reg_weight: Tensor,
    *,
    separate_parts: bool = False,
    step: float = 1.0,
    max_iters: int = 100,
    on_iteration: OnIteration | None = None,
) -> Solution:
    """Run `max_iters` iterations of cycle spinning, starting from 0; see the module.

    The history has "change", `||x - x_old|| / ||x||` after every iteration. No item counts as converged.

    Args:
        normal: `H`, batched.
        rhs: `b`, complex or real `(batch, h, w)` of the size of the transform.
        transform: W, orthonormal.
        reg_weight: `lambda > 0`, real `(batch,)`, in the units of b.
        separate_parts: shrink real and imaginary part separately instead of the modulus.
        step: at most `1 / ||H||`.
        max_iters: iterations; all are run.
        on_iteration: called after every iteration, without objective and gap; an exception that it raises ends the
            solver.

    Raises:
        MethodError: a weight that is not positive and finite, or an option out of range.
        ShapeError: `rhs` or the weight of the wrong shape.
    """
    if not step > 0 or max_iters < 1:
        raise MethodError(f"expected step > 0 and max_iters >= 1, got {step} and {max_iters}: correct them")
    if rhs.ndim != 3 or tuple(rhs.shape[1:]) != transform.size:
        raise ShapeError(
            f"expected a right-hand side (batch, h, w) of the size of the transform, {transform.size}, got "
            f"{tuple(rhs.shape)}: pad it, or build the transform for it"
        )
    threshold = per_item(step * checked_weight(reg_weight, rhs), rhs)
    generator = np.random.default_rng(_SEED)
    x = x_old = torch.zeros_like(rhs)
    hx = hx_old = x
    t = torch.ones(rhs.shape[0], dtype=torch.float64, device=rhs.device)
    beta = torch.zeros_like(t)
    history = []
    for iteration in range(1, max_iters + 1):
        momentum = per_item(beta, rhs)
        # H is linear: H z is the same mixture of H x as z is of x.
        z = x + momentum * (x - x_old)
        gradient = hx + momentum * (hx - hx_old) - rhs
        shift = tuple(int(n) for n in generator.integers(0, 1 << transform.levels, size=2))
        c = transform.forward(torch.roll(z - step * gradient, shift, (-2, -1)))
        if separate_parts:
            both = parts(c)
            both.copy_(soft_threshold(both, threshold[..., None]))
        else:
            c = soft_threshold(c, threshold)
        x_old, hx_old = x, hx
        x = torch.roll(transform.inverse(c), (-shift[0], -shift[1]), (-2, -1))
        hx = normal(x)
        move = x - x_old
        beta, t = next_momentum(t, restart=inner(z - x, move) > 0)
        norm, change = inner(x, x).sqrt(), inner(move, move).sqrt()
        history.append(torch.where(norm > 0, quotient(change, norm), change))
        if on_iteration is not None:
            on_iteration(iteration, None, None)
    iterations = torch.full_like(t, max_iters, dtype=torch.int64)
    return Solution(x, iterations, torch.zeros_like(iterations, dtype=torch.bool), {"change": torch.stack(history)})
