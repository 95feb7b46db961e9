"""Compute leading eigenvectors of a coil-by-coil matrix at every pixel, coils first so that pixels are contiguous."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["orthogonal_iteration", "principal_coil", "row_chunks", "turn_to"]

_CHUNK = {"cpu": 1 << 19, "cuda": 1 << 25}
"""Complex matrix entries of one block of pixels: as many as a CPU cache holds, or as many as keep a GPU busy."""


def row_chunks(num_rows: int, entries_a_row: int, device: torch.device) -> Iterator[slice]:
    """Split the rows of pixels into blocks of consecutive rows whose matrices have at most that many entries."""
    step = max(1, _CHUNK.get(device.type, _CHUNK["cuda"]) // entries_a_row)
    for first in range(0, num_rows, step):
        yield slice(first, min(first + step, num_rows))


def orthogonal_iteration(matrices: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Compute the largest eigenvalues `(set, ...)` and their eigenvectors `(set, coil, ...)`.

    Args:
        matrices: Hermitian, positive semidefinite, `(coil, coil, ...)`.
        start: `(set, coil, ...)`, unit vectors not orthogonal to the eigenvectors; close ones need fewer iterations.
        iterations: at least 1.
    """
    vectors = list(start)
    values: list[Tensor] = []
    for _ in range(iterations):
        products = [(matrices * vector).sum(dim=1) for vector in vectors]
        values = [_inner(vector, product).real for vector, product in zip(vectors, products, strict=True)]
        vectors = _orthonormal(products)
    return torch.stack(values), torch.stack(vectors)


def principal_coil(samples: Tensor) -> Tensor:
    """Compute the principal component of samples `(coil, ...)`, the first virtual coil; largest entry real and > 0."""
    flat = samples.flatten(1)
    vector = torch.linalg.eigh(flat @ flat.mH).eigenvectors[:, -1]
    turned: Tensor = vector * torch.sgn(vector[vector.abs().argmax()]).conj()
    return turned


def turn_to(vectors: Tensor, coil: Tensor) -> None:
    """Rotate the phase of vectors `(..., coil, h, w)`, in place, so that their part in a virtual coil is real, >= 0."""
    part = (coil.conj()[:, None, None] * vectors).sum(dim=-3, keepdim=True)
    vectors *= torch.polar(torch.ones_like(part.real), -part.angle())


def _orthonormal(vectors: list[Tensor]) -> list[Tensor]:
    """Orthonormalise the list of vectors `(coil, ...)` by Gram-Schmidt; a zero vector stays zero."""
    done: list[Tensor] = []
    for vector in vectors:
        for other in done:
            vector = vector - _inner(other, vector) * other
        energy = (vector.real.square() + vector.imag.square()).sum(dim=0)
        done.append(vector * energy.clamp_min(torch.finfo(energy.dtype).tiny).rsqrt())
    return done


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a.conj() * b).sum(dim=0)
