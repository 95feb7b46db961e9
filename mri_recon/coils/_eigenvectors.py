"""Compute leading eigenvectors of a coil-by-coil matrix at every pixel, coils first so that pixels are contiguous."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
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


def orthogonal_iteration(
    matrices: Tensor, start: Tensor, iterations: int, *, compiled: bool = False
) -> tuple[Tensor, Tensor]:
    """Compute the largest eigenvalues `(set, ...)` and their eigenvectors `(set, coil, ...)`.

    Args:
        matrices: Hermitian, positive semidefinite, `(coil, coil, ...)`.
        start: `(set, coil, ...)`, unit vectors not orthogonal to the eigenvectors; close ones need fewer iterations.
        iterations: at least 1.
        compiled: on a CPU, run one set in a compiled loop where numba is installed: a quarter of the time, the same
            products and sums. Its first call loads the compiler.
    """
    if compiled and start.shape[0] == 1 and matrices.device.type == "cpu":
        try:
            return _compiled_iteration(matrices, start, iterations)
        except ImportError:  # numba is in the extra `fast`
            pass
    columns = matrices.unbind(dim=1)
    vectors = list(start)
    products = [_combined(columns, vector) for vector in vectors]
    for _ in range(iterations - 1):
        vectors = _orthonormal(products)
        products = [_combined(columns, vector) for vector in vectors]
    values = [_inner(vector, product).real for vector, product in zip(vectors, products, strict=True)]
    return torch.stack(values), torch.stack(_orthonormal(products))


def _combined(columns: Sequence[Tensor], vector: Tensor) -> Tensor:
    """Compute the product of a matrix, by its columns, and a vector at every pixel, without all its terms at once."""
    product = columns[0] * vector[0]
    for column, entry in zip(columns[1:], vector[1:], strict=True):
        product.addcmul_(column, entry)
    return product


def _compiled_iteration(matrices: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Compute `orthogonal_iteration` of one set in the compiled loop.

    Raises:
        ImportError: numba is not installed.
    """
    from mri_recon.coils._eigenvector_kernels import leading_eigenvectors

    vectors = start.clone(memory_format=torch.contiguous_format)
    values = torch.empty(start.shape[:1] + start.shape[2:], dtype=start.real.dtype)
    num_coils = start.shape[1]
    leading_eigenvectors(
        torch.view_as_real(matrices.contiguous()).reshape(num_coils, num_coils, -1).numpy(),
        torch.view_as_real(vectors).reshape(num_coils, -1).numpy(),
        values.reshape(-1).numpy(),
        iterations,
        np.finfo(values.numpy().dtype).tiny,
    )
    return values, vectors


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
