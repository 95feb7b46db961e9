"""Bound the minimum of ADMM's problem from below, by a feasible point of the dual problem.

The problem is that of `solvers.admm`, where H is an orthogonal projection with b in its range, and D a Parseval frame.
Its dual problem is to maximise `Re <b, v> - 1/2 ||v||^2`, `v = D^H p`, over p with `|p_j| <= lambda w_j` and
`(1 - H) D^H p = 0`. The multiplier `beta u` of an iterate keeps the first condition alone.

For any image e, `q = P(u - D e)` keeps it too. With `d = (1 - H) D^H q`, `q - D d` keeps the second, for
`D^H (q - D d) = H D^H q`, and exceeds the first at most by the factor `1 + r`, `r = max_j |D d|_j / w_j`. So
`s beta (q - D d)` is feasible for s in [0, 1 / (1 + r)]. The best s is taken.

e = 0 is the multiplier itself, and r is then large long after the image has settled. `e <- e + d` is gradient ascent
for the point nearest to u that keeps both conditions: d is the gradient of its dual function, whose Lipschitz constant
is `||D (1 - H) D^H|| <= 1`. With the momentum of Nesterov, r falls by a fifth to a third a step.

Source: Beck and Teboulle, SIAM J Imaging Sci 2009 (the momentum); the rest is derived above.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mri_recon._arrays import inner, per_item
from mri_recon.solvers.problem import LinearMap
from mri_recon.solvers.splitting import Split

__all__ = ["DualBound"]

_NEAR = 5.0
"""Gap, in units of the wanted one, from which on steps can be expected to reach it."""


class DualBound:
    """The largest dual value of all points seen, in the units of `solvers.admm`.

    Args:
        normal: H.
        split: the state of ADMM.
        b: right-hand side, `(batch, h, w)`.
        beta: the penalty, `(batch,)`.
        gap_tol: the wanted relative gap.
        steps: most steps of e in one search; each costs about one iteration of ADMM.
    """

    def __init__(self, normal: LinearMap, split: Split, b: Tensor, beta: Tensor, *, gap_tol: float, steps: int) -> None:
        self._normal, self._split, self._b, self._beta = normal, split, b, beta
        self._gap_tol, self._steps = gap_tol, steps
        self._best = torch.full_like(beta, -torch.inf)

    def gap(self, primal: Tensor, pulled: Tensor) -> Tensor:
        """Search from the present multiplier, and compute `(primal - best) / best`, infinite without a bound.

        Args:
            primal: the objective with the constant `1/2 ||b||^2`, float64 `(batch,)`.
            pulled: `D^H u`.
        """
        e = self._take(pulled, torch.ones_like(primal, dtype=torch.bool))
        before, momentum = torch.zeros_like(e), 1.0
        for _ in range(self._steps):
            gap = self._relative(primal)
            searched = (gap <= _NEAR * self._gap_tol) & (gap > self._gap_tol)
            if not bool(searched.any()):
                break
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            at = e + (momentum - 1) / following * (e - before)
            momentum, before = following, e
            # Only items that are searched take the point: others must not depend on them.
            e = at + self._take(self._split.multiplier_image(at), searched)
        return self._relative(primal)

    def _relative(self, primal: Tensor) -> Tensor:
        gap = (primal - self._best).clamp_min(0) / self._best
        return torch.where(self._best > 0, gap, torch.inf)

    def _take(self, pulled: Tensor, taken: Tensor) -> Tensor:
        """Keep the dual value of a point q, of which `pulled` is `D^H q`, for the items `taken`, and return d."""
        seen = self._normal(pulled)
        d = pulled - seen
        v = seen * per_item(self._beta, seen)
        linear, energy = inner(self._b, v), inner(v, v)
        most = 1 / (1 + self._split.largest_ratio(d).to(linear))
        scale = torch.where(energy > 0, linear / torch.where(energy > 0, energy, 1.0), most).clamp_min(0)
        scale = torch.minimum(scale, most)
        value = scale * linear - 0.5 * scale**2 * energy
        self._best = torch.where(taken, torch.maximum(self._best, value), self._best)
        return d
