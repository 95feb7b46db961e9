"""Compiled loops of ADMM's split for the stationary Haar transform; imported only where numba is installed.

`compiled_haar` says what is computed. A level takes each row once: it forms the bands of the row, updates their state
and carries the split back to the image, so that no bands are kept. Rows are real; of complex images real and imaginary
parts alternate, and neighbours lie two samples apart.

The loops are serial, release the interpreter lock and keep no state, so that several threads may run them at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.transforms._compile import compiled, inner

__all__ = ["CORRECTED", "MULTIPLIER", "RATIO", "STEP", "low_back", "one_level"]

STEP, MULTIPLIER, CORRECTED, RATIO = 1, 2, 3, 4

_Real = npt.NDArray[Any]
# Sums may be taken in another order, the same in every run, so that they are taken eight at a time.
_compiled, _inner = compiled("contract", "reassoc"), inner("contract", "reassoc")


@_inner
def _shrink_parts(c: _Real, s: _Real, t: _Real, rho: float, weight: float) -> None:
    """Update s, and write z - u to t, by the magnitude of every sample."""
    for k in range(c.size):
        u = min(max(s[k], -weight), weight)
        new = s[k] + rho * (c[k] - s[k] + u)
        s[k] = new
        u = min(max(new, -weight), weight)
        t[k] = new - u - u  # a factor of 2 would make doubles of singles


@_inner
def _shrink_modulus(c: _Real, s: _Real, t: _Real, rho: float, weight: float) -> None:
    """Update s, and write z - u to t, by the magnitude of every pair of samples."""
    one = c.dtype.type(1)
    for k in range(0, c.size, 2):
        size = np.sqrt(s[k] * s[k] + s[k + 1] * s[k + 1])
        kept = weight / size if size > weight else one
        re = s[k] + rho * (c[k] - s[k] + kept * s[k])
        im = s[k + 1] + rho * (c[k + 1] - s[k + 1] + kept * s[k + 1])
        s[k], s[k + 1] = re, im
        size = np.sqrt(re * re + im * im)
        kept = weight / size if size > weight else one
        t[k], t[k + 1] = re - kept * re - kept * re, im - kept * im - kept * im


@_inner
def _multiplier(s: _Real, u: _Real, weight: float, modulus: bool) -> None:
    """Write P(s) to u."""
    if not modulus:
        for k in range(s.size):
            u[k] = min(max(s[k], -weight), weight)
        return
    one = s.dtype.type(1)
    for k in range(0, s.size, 2):
        size = np.sqrt(s[k] * s[k] + s[k + 1] * s[k + 1])
        kept = weight / size if size > weight else one
        u[k], u[k + 1] = kept * s[k], kept * s[k + 1]


@_inner
def _measure(c: _Real, s: _Real, t: _Real, weight: float, modulus: bool, sums: _Real) -> None:
    """Add penalty and the squares of D x - z, D x and z of a row, after its update: z = (s + t) / 2."""
    penalty = primal = analysis = split = c.dtype.type(0)
    half = c.dtype.type(0.5)
    if modulus:
        for k in range(0, c.size, 2):
            penalty += np.sqrt(c[k] * c[k] + c[k + 1] * c[k + 1])
    else:
        for k in range(c.size):
            penalty += abs(c[k])
    for k in range(c.size):
        z = half * (s[k] + t[k])
        primal += (z - c[k]) * (z - c[k])
        analysis += c[k] * c[k]
        split += z * z
    sums[0] += weight * np.float64(penalty)
    sums[1] += np.float64(primal)
    sums[2] += np.float64(analysis)
    sums[3] += np.float64(split)


@_inner
def _corrected(c: _Real, s: _Real, u: _Real, weight: float, modulus: bool) -> None:
    """Write P(P(s) - c) to u."""
    _multiplier(s, u, weight, modulus)
    for k in range(c.size):
        u[k] -= c[k]
    _multiplier(u, u, weight, modulus)


@_inner
def _ratio(c: _Real, weight: float, modulus: bool, sums: _Real) -> None:
    """Take the largest |c| / weight of a row."""
    largest = c.dtype.type(0)
    if modulus:
        for k in range(0, c.size, 2):
            largest = max(largest, np.sqrt(c[k] * c[k] + c[k + 1] * c[k + 1]))
    else:
        for k in range(c.size):
            largest = max(largest, abs(c[k]))
    if largest > 0:
        ratio = np.float64(largest) / np.float64(weight) if weight > 0 else np.inf
        sums[0] = max(sums[0], ratio)


@_inner
def _update(
    task: int, c: _Real, s: _Real, t: _Real, rho: float, weight: float, modulus: bool, measured: bool, sums: _Real
) -> None:
    """Do the task on one row of one band."""
    if task == STEP:
        if modulus:
            _shrink_modulus(c, s, t, rho, weight)
        else:
            _shrink_parts(c, s, t, rho, weight)
        if measured:
            _measure(c, s, t, weight, modulus, sums)
    elif task == MULTIPLIER:
        _multiplier(s, t, weight, modulus)
    elif task == CORRECTED:
        _corrected(c, s, t, weight, modulus)
    else:
        _ratio(c, weight, modulus, sums)


@_compiled
def one_level(
    task: int,
    low: _Real,
    state: _Real,
    last: bool,
    rows: int,
    columns: int,
    rho: float,
    weights: _Real,
    modulus: bool,
    measured: bool,
    low_out: _Real,
    back: _Real,
    sums: _Real,
) -> None:
    """Form the bands of one level, do the task on them and carry the result back to the image.

    Args:
        task: STEP, MULTIPLIER (which does not read `low`), CORRECTED, or RATIO (which does not write `back`).
        low: the approximation of the level before, `(h, w)`.
        state: s of the three details, and at the last level of the approximation before them, `(3 or 4, h, w)`.
        last: whether this is the last level.
        rows: distance of the taps along the rows' axis.
        columns: the same along a row, in samples.
        rho: relaxation, of the type of the samples.
        weights: w of the bands of `state`.
        modulus: whether two neighbours form one magnitude.
        measured: add to `sums`.
        low_out: the approximation, written unless this is the last level.
        back: written with the adjoint of what the task makes of these bands.
        sums: float64, `(4,)`.
    """
    h, w = low.shape
    quarter = low.dtype.type(0.25)
    total, difference = np.empty(w + columns, low.dtype), np.empty(w + columns, low.dtype)
    # The approximation, then the details in the order of the bands.
    bands, made = np.empty((4, w), low.dtype), np.empty((4, w), low.dtype)
    # Along a row: what is carried back from the sample `columns` before.
    other_sum, other_difference = np.empty(w + columns, low.dtype), np.empty(w + columns, low.dtype)
    # Views in place of sums of indices, which the compiler would have to test for a negative one.
    right_total, right_difference = total[columns:], difference[columns:]
    shifted_sum, shifted_difference = other_sum[columns:], other_difference[columns:]
    total_end, difference_end, other_sum_end, other_difference_end = (
        total[w:], difference[w:], other_sum[w:], other_difference[w:],
    )  # fmt: skip
    first = 0 if last else 1
    for k in range(w):
        made[0, k] = 0
    for i in range(h):
        j = i + rows
        wrapped = j >= h
        if wrapped:
            j -= h
        if task != MULTIPLIER:
            upper, lower = low[i], low[j]
            for k in range(w):
                total[k] = quarter * (upper[k] + lower[k])
                difference[k] = quarter * (upper[k] - lower[k])
            for k in range(columns):
                total_end[k], difference_end[k] = total[k], difference[k]
            for k in range(w):
                bands[0, k] = total[k] + right_total[k]
                bands[1, k] = difference[k] + right_difference[k]
                bands[2, k] = total[k] - right_total[k]
                bands[3, k] = difference[k] - right_difference[k]
            if not last:
                kept = low_out[i]
                for k in range(w):
                    kept[k] = bands[0, k]
        for band in range(first, 4):
            place = band - first
            _update(task, bands[band], state[place, i], made[band], rho, weights[place], modulus, measured, sums)
        if task == RATIO:
            continue
        for k in range(w):
            shifted_sum[k] = made[0, k] - made[2, k]
            shifted_difference[k] = made[1, k] - made[3, k]
        for k in range(columns):
            other_sum[k], other_difference[k] = other_sum_end[k], other_difference_end[k]
        for k in range(w):
            total[k] = quarter * (made[0, k] + made[2, k] + other_sum[k])
            difference[k] = quarter * (made[1, k] + made[3, k] + other_difference[k])
        # The first touch of a row sets it: row i itself where no row lies `rows` before it, else that row.
        own, next_one = back[i], back[j]
        if i < rows:
            for k in range(w):
                own[k] = total[k] + difference[k]
        else:
            for k in range(w):
                own[k] += total[k] + difference[k]
        if wrapped:
            for k in range(w):
                next_one[k] += total[k] - difference[k]
        else:
            for k in range(w):
                next_one[k] = total[k] - difference[k]


@_compiled
def low_back(coarse: _Real, rows: int, columns: int, back: _Real) -> None:
    """Add to `back` what the approximation of a level carries back to the image."""
    h, w = coarse.shape
    quarter = coarse.dtype.type(0.25)
    line = np.empty(w + columns, coarse.dtype)
    shifted, end = line[columns:], line[w:]
    for i in range(h):
        upper, own, out = coarse[i - rows if i >= rows else i - rows + h], coarse[i], back[i]
        for k in range(w):
            shifted[k] = quarter * (own[k] + upper[k])
        for k in range(columns):
            line[k] = end[k]
        for k in range(w):
            out[k] += shifted[k] + line[k]
