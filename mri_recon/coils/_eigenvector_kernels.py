"""Compiled loop of the orthogonal iteration; imported only where numba is installed.

`_eigenvectors` says what is computed. A block of pixels takes all its iterations while its matrices are in the cache.
Real and imaginary parts are separate there, so that neighbouring pixels are computed together.

Products and sums are those of torch's operations in their order, none contracted. The loop is serial, releases the
interpreter lock and keeps no state, so that several threads may run it at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.transforms._compile import compiled

__all__ = ["leading_eigenvectors"]

_PIXELS = 128
"""Pixels of a block: with 8 coils, their matrices take 64 KiB."""

_Real = npt.NDArray[Any]


@compiled()
def leading_eigenvectors(matrices: _Real, vectors: _Real, values: _Real, iterations: int, tiny: float) -> None:
    """Iterate on the vector of each pixel, in place.

    Args:
        matrices: real and imaginary parts in turns, `(coil, coil, 2 pixel)`.
        vectors: the same of unit vectors, `(coil, 2 pixel)`; overwritten.
        values: written with the eigenvalues, `(pixel,)`.
        iterations: at least 1.
        tiny: least energy to divide by, of the type of the samples.
    """
    coils, pixels = matrices.shape[0], values.size
    kind = matrices.dtype
    one = kind.type(1)
    # Past the end of the last block stay numbers of the one before, which nothing reads.
    re, im = np.zeros((coils, coils, _PIXELS), kind), np.zeros((coils, coils, _PIXELS), kind)
    vector_re, vector_im = np.zeros((coils, _PIXELS), kind), np.zeros((coils, _PIXELS), kind)
    product_re, product_im = np.zeros((coils, _PIXELS), kind), np.zeros((coils, _PIXELS), kind)
    energy = np.zeros(_PIXELS, kind)
    for first in range(0, pixels, _PIXELS):
        count = min(_PIXELS, pixels - first)
        for i in range(coils):
            for j in range(coils):
                entries, x, y = matrices[i, j, 2 * first :], re[i, j], im[i, j]
                for k in range(count):
                    x[k], y[k] = entries[2 * k], entries[2 * k + 1]
            entries, u, v = vectors[i, 2 * first :], vector_re[i], vector_im[i]
            for k in range(count):
                u[k], v[k] = entries[2 * k], entries[2 * k + 1]
        for step in range(iterations):
            for k in range(_PIXELS):
                energy[k] = 0
            for i in range(coils):
                a, b = product_re[i], product_im[i]
                for k in range(_PIXELS):
                    a[k], b[k] = 0, 0
                for j in range(coils):
                    x, y, u, v = re[i, j], im[i, j], vector_re[j], vector_im[j]
                    for k in range(_PIXELS):
                        a[k] += x[k] * u[k] - y[k] * v[k]
                        b[k] += x[k] * v[k] + y[k] * u[k]
                for k in range(_PIXELS):
                    energy[k] += a[k] * a[k] + b[k] * b[k]
            if step == iterations - 1:
                for k in range(count):
                    values[first + k] = 0
                for i in range(coils):
                    a, b, u, v = product_re[i], product_im[i], vector_re[i], vector_im[i]
                    for k in range(count):
                        values[first + k] += u[k] * a[k] + v[k] * b[k]
            for k in range(_PIXELS):
                energy[k] = one / np.sqrt(max(energy[k], tiny))
            for i in range(coils):
                a, b, u, v = product_re[i], product_im[i], vector_re[i], vector_im[i]
                for k in range(_PIXELS):
                    u[k], v[k] = a[k] * energy[k], b[k] * energy[k]
        for i in range(coils):
            entries, u, v = vectors[i, 2 * first :], vector_re[i], vector_im[i]
            for k in range(count):
                entries[2 * k], entries[2 * k + 1] = u[k], v[k]
