"""Proximal gradient with shift-invariant shrinkage: cycle spinning, and the average over all shifts.

The first axis of every tensor counts independent problems, as in `mri_recon.solvers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mri_recon._arrays import inner, per_item
from mri_recon.errors import MethodError, ShapeError
from mri_recon.progress import OnIteration
from mri_recon.solvers.fista import next_momentum, soft_threshold
from mri_recon.transforms.wavelets import WaveletTransform

__all__ = ["CycleSpinningSolution", "cycle_spinning"]

LinearMap = Callable[[Tensor], Tensor]

_MAGNITUDES = ("complex", "parts")


@dataclass(frozen=True)
class CycleSpinningSolution:
    """What `cycle_spinning` found.

    Attributes:
        x: the unknown, `(batch, h, w)`.
        iterations: int64 `(batch,)`, all `max_iters`.
        relative_gap: `None`. Each iteration minimises for another shift of the transform, so there is no one objective
            of which a gap could be given, and the iterates need not settle.
        change: float64 `(batch,)`, `||x - x_old|| / ||x||` of the last iteration.
        history: float64 `(iterations, batch)` under "change".
    """

    x: Tensor
    iterations: Tensor
    relative_gap: None
    change: Tensor
    history: dict[str, Tensor]


def cycle_spinning(
    normal: LinearMap,
    rhs: Tensor,
    transform: WaveletTransform,
    reg_weight: Tensor,
    *,
    seed: int = 0,
    magnitude: str = "complex",
    step: float = 1.0,
    max_iters: int = 100,
    final_step: bool = True,
    on_iteration: OnIteration | None = None,
) -> CycleSpinningSolution:
    """FISTA whose wavelet transform sees another circular shift of the image in every iteration, starting from 0.

        z   = x + beta (x - x_old)
        x  <- T^-1 W^H S(W T (z + step (b - H z))),   H = A^H A, b = A^H y

    T shifts both axes by whole numbers that are drawn anew each time, uniform in 0 .. 2^levels - 1: larger shifts
    repeat these, as the decimated transform commutes with shifts by 2^levels. S shrinks by `step lambda`. beta is that
    of FISTA, and the momentum of an item is dropped where it points uphill, `Re <z - x_new, x_new - x> > 0`, as in
    `mri_recon.solvers.fista.fista`.

    The result depends on nothing but the arguments: the generator is made from `seed` here, the shifts are the same for
    all items, and one item does not see the others.

    Args:
        normal: `H`, batched.
        rhs: `b`, complex or real `(batch, h, w)` of the size of the transform.
        transform: W, orthonormal.
        reg_weight: `lambda > 0`, real `(batch,)`, in the units of b.
        seed: of the shifts, not negative.
        magnitude: "complex" shrinks the modulus of a coefficient, "parts" its real and imaginary parts one by one.
        step: at most `1 / ||H||`.
        max_iters: iterations; all are run.
        final_step: end on the gradient step `x + step (b - H x)`, as BART does: it takes back what shrinkage took from
            the samples.
        on_iteration: called after every iteration, without objective and gap; what it raises ends the work.

    Raises:
        MethodError: a weight that is not positive and finite, or an option out of range.
        ShapeError: `rhs` or the weight of the wrong shape.

    Source: Coifman and Donoho, Wavelets and Statistics 1995; Figueiredo and Nowak, IEEE TIP 2003 (random shifts);
    O'Donoghue and Candes, Found Comput Math 2015 (restart).
    """
    if magnitude not in _MAGNITUDES:
        raise MethodError(f"expected a magnitude of {', '.join(_MAGNITUDES)}, got {magnitude!r}")
    if not step > 0 or max_iters < 1:
        raise MethodError(f"expected step > 0 and max_iters >= 1, got {step} and {max_iters}: correct them")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise MethodError(f"expected a seed of 0 or more, got {seed!r}")
    if rhs.ndim != 3 or tuple(rhs.shape[1:]) != transform.size:
        raise ShapeError(
            f"expected a right-hand side (batch, h, w) of the size of the transform, {transform.size}, got "
            f"{tuple(rhs.shape)}: pad it, or build the transform for it"
        )
    if reg_weight.shape != rhs.shape[:1]:
        raise ShapeError(
            f"expected one weight an item, {tuple(rhs.shape[:1])}, got {tuple(reg_weight.shape)}: expand it"
        )
    if not bool((torch.isfinite(reg_weight) & (reg_weight > 0)).all()):
        raise MethodError(
            f"expected positive, finite weights, got {reg_weight.tolist()}: without a weight use cg-sense"
        )
    threshold = per_item(step * reg_weight.to(rhs.device), rhs)
    parts = magnitude == "parts" and rhs.is_complex()
    generator = np.random.default_rng(seed)
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
        if parts:
            real = torch.view_as_real(c)
            c = torch.view_as_complex(soft_threshold(real, threshold[..., None]))
        else:
            c = soft_threshold(c, threshold)
        x_old, hx_old = x, hx
        x = torch.roll(transform.inverse(c), (-shift[0], -shift[1]), (-2, -1))
        hx = normal(x)
        uphill = inner(z - x, x - x_old) > 0
        beta, t = next_momentum(t, restart=uphill)
        norm = inner(x, x).sqrt()
        difference = x - x_old
        change = inner(difference, difference).sqrt()
        history.append(torch.where(norm > 0, change / torch.where(norm > 0, norm, 1.0), change))
        if on_iteration is not None:
            on_iteration(iteration, None, None)
    if final_step:
        x = x + step * (rhs - hx)
    iterations = torch.full_like(t, max_iters, dtype=torch.int64)
    return CycleSpinningSolution(x, iterations, None, history[-1], {"change": torch.stack(history)})
