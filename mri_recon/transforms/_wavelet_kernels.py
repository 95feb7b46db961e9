"""Compiled loops of the periodised wavelet transform; imported only where numba is installed and the images are large.

One step serves both axes and both ways. With z the line or the rows to filter, two outputs at a time,

    out0[k] = sum_i first[i] z[2 k + start0 + i],   out1[k] = sum_i second[i] z[2 k + start1 + i].

Forward, z is the signal and the outputs are low and high coefficients; back, z holds low and high coefficients in turn
and the outputs are even and odd samples. The last axis is filtered a row at a time, then the axis of rows on a few rows
that stay in the cache. The inner loops run over adjacent samples at distances known to the compiler, eight taps each.

The loops are serial, release the interpreter lock and keep no state, so that several threads may run them at once.
Sums are in a fixed order; a product and a sum may round once in place of twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mri_recon.transforms._compile import compiled, inner

__all__ = ["Filters", "analysis", "forward", "inverse", "synthesis"]

# Room for planes 2048 wide and filters of 112 taps; `wavelets` asks for no more.
# `_PITCH` samples between buffered rows, no multiple of a cache way; `_HALF` between the two halves of a line.
_PITCH = 2048 + 144
_PAD = 32
_HALF = 1024 + 2 * _PAD + 16
# Pairs of rows filtered before the rows that the next ones share move to the front of the buffer.
_BLOCK = 8

_Real = npt.NDArray[Any]
_compiled, _inner = compiled("contract"), inner("contract")


def _eight_taps(offsets: tuple[int, ...], *, add: bool) -> Callable[..., None]:
    """Both filters over eight samples at the given distances, set or added; distances are constants to the compiler."""
    o1, o2, o3, o4, o5, o6, o7 = offsets

    def loop(x0: _Real, x1: _Real, out0: _Real, out1: _Real, first: _Real, second: _Real) -> None:
        a0, a1, a2, a3 = first[0], first[1], first[2], first[3]
        a4, a5, a6, a7 = first[4], first[5], first[6], first[7]
        b0, b1, b2, b3 = second[0], second[1], second[2], second[3]
        b4, b5, b6, b7 = second[4], second[5], second[6], second[7]
        for c in range(out0.shape[0]):
            sum0 = (
                a0 * x0[c] + a1 * x0[c + o1] + a2 * x0[c + o2] + a3 * x0[c + o3]
                + a4 * x0[c + o4] + a5 * x0[c + o5] + a6 * x0[c + o6] + a7 * x0[c + o7]
            )  # fmt: skip
            sum1 = (
                b0 * x1[c] + b1 * x1[c + o1] + b2 * x1[c + o2] + b3 * x1[c + o3]
                + b4 * x1[c + o4] + b5 * x1[c + o5] + b6 * x1[c + o6] + b7 * x1[c + o7]
            )  # fmt: skip
            if add:
                out0[c] += sum0
                out1[c] += sum1
            else:
                out0[c] = sum0
                out1[c] = sum1

    return _inner(loop)


_ROWS = tuple(i * _PITCH for i in range(1, 8))
_LINE = tuple(i // 2 + (i % 2) * _HALF for i in range(1, 8))  # even and odd positions in turn, from the two halves
_rows_set, _rows_add = _eight_taps(_ROWS, add=False), _eight_taps(_ROWS, add=True)
_line_set, _line_add = _eight_taps(_LINE, add=False), _eight_taps(_LINE, add=True)


@_inner
def _split(source: _Real, evens: _Real, odds: _Real) -> None:
    for i in range(evens.shape[0]):
        evens[i] = source[2 * i]
        odds[i] = source[2 * i + 1]


@_inner
def _interleave(evens: _Real, odds: _Real, target: _Real) -> None:
    for i in range(evens.shape[0]):
        target[2 * i] = evens[i]
        target[2 * i + 1] = odds[i]


@_inner
def _copy(source: _Real, target: _Real) -> None:
    for i in range(target.shape[0]):
        target[i] = source[i]


@_inner
def _wrap(line: _Real, start: int, side: int, margin: int) -> None:
    """Periodic continuation of `line[start : start + side]` on either side."""
    for i in range(margin):
        line[start + side + i] = line[start + i]  # goes round again where the side is shorter than the margin
    for i in range(1, margin + 1):
        line[start - i] = line[start - i + side]


@_inner
def _filter_line(line: _Real, out0: _Real, out1: _Real, first: _Real, second: _Real, start0: int, start1: int) -> None:
    """Filter the last axis: `line` holds the even positions of z at `_PAD`, the odd ones `_HALF` later."""
    for i in range(0, first.shape[0], 8):
        x0, x1 = line[_PAD + (start0 + i) // 2 :], line[_PAD + (start1 + i) // 2 :]
        if i == 0:
            _line_set(x0, x1, out0, out1, first[i:], second[i:])
        else:
            _line_add(x0, x1, out0, out1, first[i:], second[i:])


@_inner
def _filter_rows(rows: _Real, out0: _Real, out1: _Real, first: _Real, second: _Real, start0: int, start1: int) -> None:
    """Filter the axis of rows: `rows` holds the rows of z, `_PITCH` apart."""
    for i in range(0, first.shape[0], 8):
        x0, x1 = rows[(start0 + i) * _PITCH :], rows[(start1 + i) * _PITCH :]
        if i == 0:
            _rows_set(x0, x1, out0, out1, first[i:], second[i:])
        else:
            _rows_add(x0, x1, out0, out1, first[i:], second[i:])


@_inner
def _forward_level(
    x: _Real, h: int, w: int, out: _Real, low: _Real, first: _Real, second: _Real, start: int, rows: _Real, line: _Real
) -> None:
    """One level of `x[:h][:w]` into `out[:h][:w]`, the approximation into `low` as well."""
    taps, half = first.shape[0], w // 2
    shift = start % 2  # an odd start makes the odd samples the first of each pair
    margin = taps // 4 + 4
    kept = taps - 2
    filled = 0
    for top in range(0, h // 2, _BLOCK):
        pairs = min(_BLOCK, h // 2 - top)
        for r in range(filled, kept + 2 * pairs):
            evens, odds = (_PAD + _HALF - 1, _PAD) if shift else (_PAD, _PAD + _HALF)
            _split(x[(2 * top + start + r) % h][:w], line[evens : evens + half], line[odds : odds + half])
            _wrap(line, evens, half, margin)
            _wrap(line, odds, half, margin)
            row = rows[r * _PITCH :]
            _filter_line(line, row[:half], row[half:w], first, second, start, start)
        for k in range(pairs):
            target = out[top + k][:w]
            _filter_rows(rows[2 * k * _PITCH :], target, out[h // 2 + top + k][:w], first, second, 0, 0)
            _copy(target, low[top + k][:half])
        for r in range(kept):
            _copy(rows[(2 * pairs + r) * _PITCH :], rows[r * _PITCH : r * _PITCH + w])
        filled = kept


@_inner
def _inverse_level(
    low: _Real,
    c: _Real,
    h: int,
    w: int,
    out: _Real,
    first: _Real,
    second: _Real,
    start0: int,
    start1: int,
    rows: _Real,
    line: _Real,
) -> None:
    """Invert one level: the approximation `low` and the other three quarters of `c[:h][:w]` into `out[:h][:w]`."""
    taps, half = first.shape[0], w // 2
    margin = taps // 4 + 4
    kept = taps - 2 + start1 - start0
    filled = 0
    evens, odds = line[2 * _HALF : 2 * _HALF + half], line[3 * _HALF : 3 * _HALF + half]
    for top in range(0, h // 2, _BLOCK):
        pairs = min(_BLOCK, h // 2 - top)
        for r in range(filled, kept + 2 * pairs):
            position = (2 * top + start0 + r) % h
            if position % 2:
                source = c[h // 2 + position // 2][:w]
                _copy(source, line[_PAD : _PAD + half])
            else:
                source = c[position // 2][:w]
                _copy(low[position // 2], line[_PAD : _PAD + half])
            _copy(source[half:], line[_PAD + _HALF : _PAD + _HALF + half])
            _wrap(line, _PAD, half, margin)
            _wrap(line, _PAD + _HALF, half, margin)
            _filter_line(line, evens, odds, first, second, start0, start1)
            _interleave(evens, odds, rows[r * _PITCH : r * _PITCH + w])
        for k in range(pairs):
            even, odd = out[2 * (top + k)][:w], out[2 * (top + k) + 1][:w]
            _filter_rows(rows[2 * k * _PITCH :], even, odd, first, second, 0, start1 - start0)
        for r in range(kept):
            _copy(rows[(2 * pairs + r) * _PITCH :], rows[r * _PITCH : r * _PITCH + w])
        filled = kept


@_compiled
def _forward(x: _Real, out: _Real, levels: int, first: _Real, second: _Real, start: int) -> None:
    planes, h, w = x.shape
    rows = np.empty((2 * _BLOCK + first.shape[0] + 2) * _PITCH, x.dtype)
    line = np.empty(2 * _HALF, x.dtype)
    odd, even = np.empty((h // 2, w // 2), x.dtype), np.empty((h // 4, w // 4), x.dtype)
    for plane in range(planes):
        _forward_level(x[plane], h, w, out[plane], odd, first, second, start, rows, line)
        for level in range(1, levels):
            a, b = (odd, even) if level % 2 else (even, odd)
            _forward_level(a, h >> level, w >> level, out[plane], b, first, second, start, rows, line)


@_compiled
def _inverse(c: _Real, out: _Real, levels: int, first: _Real, second: _Real, start0: int, start1: int) -> None:
    planes, h, w = c.shape
    rows = np.empty((2 * _BLOCK + first.shape[0] + 2) * _PITCH, c.dtype)
    line = np.empty(4 * _HALF, c.dtype)
    odd, even = np.empty((h // 2, w // 2), c.dtype), np.empty((h // 4, w // 4), c.dtype)
    for plane in range(planes):
        coefficients, low = c[plane], c[plane]
        for level in range(levels - 1, 0, -1):
            target = odd if level % 2 else even
            _inverse_level(low, coefficients, h >> level, w >> level, target, first, second, start0, start1, rows, line)
            low = target
        _inverse_level(low, coefficients, h, w, out[plane], first, second, start0, start1, rows, line)


class Filters(NamedTuple):
    """Taps for `forward` or `inverse` and where they start, in both precisions."""

    single: tuple[_Real, _Real]
    double: tuple[_Real, _Real]
    starts: tuple[int, int]


def analysis(low: list[float], high: list[float]) -> Filters:
    """Prepare for analysis: `start = 1 - n/2`, taps of `out[k] = sum_j f[j] x[2 k + n/2 - j]` turned round."""
    start = 1 - len(low) // 2
    return _filters((low[::-1], high[::-1]), (start, start))


def synthesis(low: list[float], high: list[float]) -> Filters:
    """Prepare for synthesis, the transpose: for parity p the taps `f[2 t + (n/2 - p) mod 2]`, low and high in turn."""
    half = len(low) // 2
    taps: list[list[float]] = [[], []]
    for parity, values in enumerate(taps):
        for j in range((half - parity) % 2, len(low), 2):
            values += [low[j], high[j]]
    return _filters((taps[0], taps[1]), (-2 * (half // 2), -2 * ((half - 1) // 2)))


def forward(x: _Real, out: _Real, levels: int, filters: Filters) -> None:
    """Transform contiguous real planes `(plane, h, w)` into `out`."""
    first, second = filters.double if x.dtype == np.float64 else filters.single
    _forward(x, out, levels, first, second, filters.starts[0])


def inverse(c: _Real, out: _Real, levels: int, filters: Filters) -> None:
    """Invert the transform of contiguous real planes `(plane, h, w)` into `out`."""
    first, second = filters.double if c.dtype == np.float64 else filters.single
    _inverse(c, out, levels, first, second, *filters.starts)


def _filters(taps: tuple[list[float], list[float]], starts: tuple[int, int]) -> Filters:
    length = -(-len(taps[0]) // 8) * 8  # the loops take eight taps at a time
    double = np.array([[*values, *[0.0] * (length - len(values))] for values in taps])
    single = double.astype(np.float32)
    return Filters((single[0], single[1]), (double[0], double[1]), starts)
