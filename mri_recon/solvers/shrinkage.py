"""Shrink magnitudes, the proximal map of weighted sums of absolute values, and compute the penalty itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mri_recon._arrays import parts, total
from mri_recon.errors import MethodError, ShapeError

__all__ = ["BandShrinkage", "Magnitude", "Sums", "parts_modulus", "soft_threshold"]

Magnitude = Callable[[Tensor], Tensor]
"""Function for |x|: the modulus of every entry (`torch.abs`), or one modulus of two real planes (`parts_modulus`)."""


def soft_threshold(x: Tensor, threshold: Tensor | float, magnitude: Magnitude = torch.abs) -> Tensor:
    """Shrink the magnitude and keep the phase: the proximal map of `threshold * sum |x|`.

        S(x) = x max(0, 1 - threshold / |x|)

    Args:
        x: real or complex, any shape.
        threshold: not negative, broadcastable to the magnitude.
        magnitude: |x|, broadcastable to `x`.

    Returns:
        tensor of the shape and type of `x`.
    """
    size = magnitude(x)
    # size * (1 - t / size) without the quotient 0 / 0 where both are 0.
    kept = torch.sub(size, threshold).clamp_(min=0).div_(size.clamp(min=torch.finfo(size.dtype).tiny))
    return x * kept


def parts_modulus(x: Tensor) -> Tensor:
    """Compute `|x|` of complex numbers kept as two real planes on axis 1: `sqrt(x_0^2 + x_1^2)`.

    Args:
        x: real, `(batch, 2, ...)`.

    Returns:
        real, `(batch, 1, ...)`.
    """
    return (x[:, :1] ** 2).addcmul_(x[:, 1:], x[:, 1:]).sqrt_()


@dataclass
class Sums:
    """Hold sums over the bands of an item, float64 `(batch,)`."""

    penalty: Tensor
    primal: Tensor
    analysis: Tensor
    split: Tensor


class BandShrinkage:
    """ADMM's update of multiplier and split variable, band by band: one band fits in a cache, all do not.

    Attributes:
        modulus: whether magnitudes are those of complex numbers, not of their parts.
        coupled: whether the bands of a pixel have one magnitude.
        band_weights: w of every band.
    """

    def __init__(
        self, weights: Tensor | None, num_bands: int, *, complex_values: bool, separate_parts: bool, coupled: bool
    ) -> None:
        """Bind the weights.

        Args:
            weights: `w >= 0`, `(band,)`; None is 1.
            num_bands: number of bands.
            complex_values: whether the bands are complex.
            separate_parts: shrink real and imaginary part separately instead of the modulus.
            coupled: the bands of a pixel are one vector with one magnitude and the weight of the first band.

        Raises:
            ShapeError: the wrong number of weights.
            MethodError: weights that are not real, finite and not negative.
        """
        weights = torch.ones(num_bands) if weights is None else weights
        if tuple(weights.shape) != (num_bands,):
            raise ShapeError(f"expected weights ({num_bands},), got {tuple(weights.shape)}: give one weight a band")
        if weights.is_complex() or not bool((torch.isfinite(weights) & (weights >= 0)).all()):
            raise MethodError("expected real, finite weights that are not negative, got others: correct them")
        # A real coefficient is shrunk like one of the parts.
        self.modulus = complex_values and not separate_parts
        self.coupled = coupled
        self.band_weights = [float(weight) for weight in weights]
        self._groups: list[tuple[slice, float]] = []
        for band in range(1 if coupled else num_bands):
            group = slice(0, num_bands) if coupled else slice(band, band + 1)
            self._groups.append((group, float(weights[band])))

    def penalty(self, bands: Tensor) -> Tensor:
        """Compute `sum_j w_j |c_j|` of bands `(batch, band, h, w)`, float64 `(batch,)`."""
        sums = [total(self._magnitude(parts(bands[:, group]))) * weight for group, weight in self._groups]
        return torch.stack(sums).sum(dim=0)

    def step(self, bands: Tensor, state: Tensor, relaxation: float | None, *, measured: bool) -> Sums | None:
        """Update s in `state`, and replace `D x` in `bands` by z - u.

        Without a relaxation `D x` is in `state`, and is the next s.

        Args:
            bands: `D x`; a buffer without a relaxation.
            state: s.
            relaxation: rho of `solvers.admm`.
            measured: return the sums too.
        """
        zero = torch.zeros(bands.shape[0], dtype=torch.float64, device=bands.device)
        sums = Sums(zero, zero, zero, zero) if measured else None
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
        """Write the multiplier `u = P(s)` to `out`."""
        for group, weight in self._groups:
            self._project(parts(state[:, group]), weight, parts(out[:, group]))

    def corrected_multiplier(self, bands: Tensor, state: Tensor) -> None:
        """Replace `D e` in `bands` by `P(u - D e)`, `u = P(s)`."""
        for group, weight in self._groups:
            c = parts(bands[:, group])
            self._project(self._project(parts(state[:, group]), weight).sub_(c), weight, c)

    def largest_ratio(self, bands: Tensor) -> Tensor:
        """Find the largest `|c_j| / w_j`, float64 `(batch,)`; infinite where w is 0 and c is not."""
        ratio = torch.zeros(bands.shape[0], dtype=torch.float64, device=bands.device)
        for group, weight in self._groups:
            size = self._magnitude(parts(bands[:, group])).flatten(1).amax(dim=1).double()
            ratio = torch.maximum(ratio, torch.where(size > 0, size / weight if weight else torch.inf, 0.0))
        return ratio

    def _project(self, s: Tensor, weight: float, out: Tensor | None = None) -> Tensor:
        """P of one group `(batch, band, h, w, part)`: magnitudes above the weight become the weight."""
        if not self.coupled and not self.modulus:
            return torch.clamp(s, -weight, weight, out=out)
        size = self._magnitude(s)
        factor = weight / size.clamp_min_(max(weight, torch.finfo(size.dtype).tiny))
        out = torch.empty_like(s) if out is None else out
        if self.modulus:
            torch.mul(torch.view_as_complex(s), factor.squeeze(-1), out=torch.view_as_complex(out))
        else:
            torch.mul(s, factor, out=out)
        return out

    def _magnitude(self, c: Tensor) -> Tensor:
        """Compute magnitudes of one group `(batch, band, h, w, part)`; the axes that form one magnitude become 1.

        The sum is written out because torch's norms over a short axis take ten times as long; these values, in units of
        tau, do not overflow.
        """
        if not self.modulus and not self.coupled:
            return c.abs()
        squares = c[..., :1].square().addcmul_(c[..., 1:], c[..., 1:]) if self.modulus else c.square()
        return (squares.sum(dim=1, keepdim=True) if self.coupled else squares).sqrt_()
