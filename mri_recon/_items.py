"""Sums, scalars and quotients of batched problems, whose first axis counts the items. Scalars are float64."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["inner", "parts", "per_item", "quotient", "total"]


def parts(x: Tensor) -> Tensor:
    """Real tensor `(..., 2)` of real and imaginary parts; `(..., 1)` of a real tensor."""
    return torch.view_as_real(x) if x.is_complex() else x.unsqueeze(-1)


def total(x: Tensor) -> Tensor:
    """Sum over all axes but the first, in float64, `(batch,)`."""
    return x.flatten(1).sum(dim=1, dtype=torch.float64)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """`Re <a, b>` of each item, in float64, `(batch,)`."""
    return total(parts(a) * parts(b))


def per_item(values: Tensor, like: Tensor) -> Tensor:
    """Scalars of the items, `(batch,)`, shaped to multiply a tensor; of its real type where they are numbers."""
    shaped = values.reshape(-1, *([1] * (like.ndim - 1)))
    return shaped if shaped.dtype == torch.bool else shaped.to(like.real.dtype)


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """`a / b` element by element, and 0 where `b` is 0."""
    return torch.where(b != 0, a / torch.where(b != 0, b, torch.ones_like(b)), torch.zeros_like(a))
