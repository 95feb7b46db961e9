"""Sampling masks of k-space, and the receipts that say how each came to be.

A mask is boolean, True where a sample was taken. A `ColumnMask` samples whole columns (phase-encoding lines, the last
axis of k-space); a `PatternMask` is any 2-D pattern. The acceleration that was asked for and the one that was realised
are different numbers, and a receipt carries both.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon._arrays import as_complex_tensor
from mri_recon.errors import MaskError, ShapeError

__all__ = [
    "ColumnMask",
    "Mask",
    "PatternMask",
    "as_mask",
    "center_block",
    "column_mask_from_lines",
    "default_center_fraction",
    "drop_constant_axes",
    "equispaced_mask",
    "fastmri_random_mask",
    "mask_from_file",
    "other_values",
    "random_mask",
    "undersample",
]

BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ColumnMask:
    """Whole columns of k-space: True where the line is sampled.

    Attributes:
        lines: bool `(phase,)`, a read-only copy.
        kind: how it came to be: "random", "equispaced", "fastmri-random", "file" or "array".
        acceleration: what was asked for; None where nobody asked (a mask from a file).
        num_low_frequencies: number of lines of the fully sampled centre.
        center_start: column of the first centre line; None where the mask has no fully sampled centre. The centre is
            the `num_low_frequencies` sampled lines from there on; a dead column between them does not count.
        seed: of the random numbers; None where there were none.
        support_width: number W of columns that could have been sampled; 0 stands for all of them.

    Raises:
        MaskError: `lines` is not 1-D boolean, has no sampled line, or more lines than `support_width`.
    """

    lines: BoolArray
    kind: str = "file"
    acceleration: float | None = None
    num_low_frequencies: int = 0
    center_start: int | None = None
    seed: int | str | None = None
    support_width: int = 0

    def __post_init__(self) -> None:
        lines = np.array(self.lines)
        if lines.ndim != 1 or lines.dtype != np.bool_:
            raise MaskError(
                f"expected column lines as a 1-D boolean array, got {lines.dtype} of shape {lines.shape}: "
                "as_mask() takes other layouts"
            )
        if not lines.any():
            raise MaskError(f"expected a mask that samples something, got {lines.size} columns, none sampled")
        lines.flags.writeable = False
        object.__setattr__(self, "lines", lines)
        if self.support_width == 0:
            object.__setattr__(self, "support_width", int(lines.size))
        if not self.num_lines <= self.support_width <= lines.size:
            raise MaskError(
                f"expected a support between the {self.num_lines} sampled lines and the {lines.size} columns, "
                f"got support_width={self.support_width}"
            )

    @property
    def width(self) -> int:
        """Number of columns of k-space."""
        return int(self.lines.size)

    @property
    def num_lines(self) -> int:
        """Number of sampled columns."""
        return int(np.count_nonzero(self.lines))

    @property
    def realised_acceleration(self) -> float:
        """W / (number of sampled lines), W the columns of the support."""
        return self.support_width / self.num_lines

    @property
    def center_lines(self) -> npt.NDArray[np.intp]:
        """Columns of the fully sampled centre, int `(num_low_frequencies,)`, a dead column between them left out."""
        if self.center_start is None:
            return np.empty(0, dtype=np.intp)
        found = self.center_start + np.flatnonzero(self.lines[self.center_start :])
        return found[: self.num_low_frequencies]

    def receipt(self) -> dict[str, Any]:
        """Everything needed to state, check and repeat this mask, ready for JSON."""
        return {
            "kind": self.kind,
            "width": self.width,
            "support_width": self.support_width,
            "lines": [int(column) for column in np.flatnonzero(self.lines)],
            "num_lines": self.num_lines,
            "requested_acceleration": self.acceleration,
            "realised_acceleration": self.realised_acceleration,
            "num_low_frequencies": self.num_low_frequencies,
            "center_start": self.center_start,
            "center_fraction_realised": self.num_low_frequencies / self.support_width,
            "seed": self.seed,
        }

    def tensor(self, device: torch.device | str | None = None) -> Tensor:
        """The lines as a bool tensor `(phase,)`, which broadcasts to k-space."""
        return torch.tensor(self.lines, device=device)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ColumnMask) and self.receipt() == other.receipt()

    def __hash__(self) -> int:
        return hash((self.kind, self.lines.tobytes()))


@dataclass(frozen=True, eq=False)
class PatternMask:
    """A general 2-D pattern, e.g. a Poisson disc.

    Attributes:
        pattern: bool `(readout, phase)`, a read-only copy.
        source: where it came from, in words.

    Raises:
        MaskError: `pattern` is not 2-D boolean, or samples nothing.
    """

    pattern: BoolArray
    source: str = "array"

    def __post_init__(self) -> None:
        pattern = np.array(self.pattern)
        if pattern.ndim != 2 or pattern.dtype != np.bool_:
            raise MaskError(
                f"expected a 2-D boolean pattern (readout, phase), got shape {pattern.shape} of {pattern.dtype}: "
                "as_mask() takes other layouts"
            )
        if not pattern.any():
            raise MaskError(f"expected a mask that samples something, got an all-False pattern {pattern.shape}")
        pattern.flags.writeable = False
        object.__setattr__(self, "pattern", pattern)

    @property
    def kind(self) -> str:
        """Always "pattern"."""
        return "pattern"

    @property
    def width(self) -> int:
        """Number of columns of k-space."""
        return int(self.pattern.shape[1])

    @property
    def num_samples(self) -> int:
        """Number of sampled points."""
        return int(np.count_nonzero(self.pattern))

    @property
    def realised_acceleration(self) -> float:
        """(points of the grid) / (sampled points)."""
        return self.pattern.size / self.num_samples

    def receipt(self) -> dict[str, Any]:
        """What identifies this mask, ready for JSON; the points themselves only by the SHA-256 of their packed bits."""
        return {
            "kind": self.kind,
            "source": self.source,
            "shape": [int(n) for n in self.pattern.shape],
            "width": self.width,
            "num_samples": self.num_samples,
            "requested_acceleration": None,
            "realised_acceleration": self.realised_acceleration,
            "seed": None,
            "sha256": hashlib.sha256(np.packbits(self.pattern).tobytes()).hexdigest(),
        }

    def tensor(self, device: torch.device | str | None = None) -> Tensor:
        """The pattern as a bool tensor `(readout, phase)`, which broadcasts to k-space."""
        return torch.tensor(self.pattern, device=device)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatternMask) and self.receipt() == other.receipt()

    def __hash__(self) -> int:
        return hash(self.pattern.tobytes())


Mask: TypeAlias = ColumnMask | PatternMask


def default_center_fraction(acceleration: float) -> float:
    """Centre fraction where none is given: 0.08 below R = 6, 0.04 from there."""
    return 0.08 if acceleration < 6 else 0.04


def random_mask(
    width: int,
    acceleration: float,
    *,
    center_fraction: float | None = None,
    num_low_frequencies: int | None = None,
    seed: int = 0,
    support: npt.ArrayLike | None = None,
) -> ColumnMask:
    """Draw random columns: exactly round(W / R) lines, n of them a fully sampled centre about DC.

    Of the W columns of the support, n = round(W * center_fraction) are the centre: n neighbouring columns of the
    support from (N - n + 1) // 2 on, N = `width`. Where that column was not acquired, the centre starts at the next one
    that was; where fewer than n acquired columns are left from there, it is the last n. So DC, column N // 2, is in the
    centre whenever it was acquired and n is at least 1. The other round(W / R) - n lines are drawn without replacement
    from the remaining columns by `numpy.random.default_rng(seed).choice`. Columns outside the support are never
    sampled.

    Args:
        width: columns of k-space.
        acceleration: R, at least 1.
        center_fraction: a float in (0, 1); by default `default_center_fraction(acceleration)`.
        num_low_frequencies: n itself, in place of `center_fraction`.
        seed: a non-negative integer.
        support: bool `(width,)`, the acquired columns; all of them by default.

    Raises:
        MaskError: an argument out of range, both centre arguments, a support that does not fit `width`, or a centre
            with more lines than the mask may have.
    """

    def draw(rest: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
        chosen: npt.NDArray[np.intp] = np.random.default_rng(seed).choice(rest, count, replace=False)
        return chosen

    return _exact_mask("random", draw, width, acceleration, center_fraction, num_low_frequencies, seed, support)


def equispaced_mask(
    width: int,
    acceleration: float,
    *,
    center_fraction: float | None = None,
    num_low_frequencies: int | None = None,
    seed: int = 0,
    support: npt.ArrayLike | None = None,
) -> ColumnMask:
    """Draw equally spaced columns around a fully sampled centre: as many lines, and the centre, of `random_mask`.

    Of the M columns outside the centre the m lines are number floor((i + u) M / m), i = 0..m-1, with one offset u in
    [0, 1) from `numpy.random.default_rng(seed)`. The spacing M / m need not be an integer, so neighbouring gaps may
    differ by one.

    Args and Raises: as `random_mask`.
    """

    def draw(rest: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
        offset = np.random.default_rng(seed).random()
        places = np.floor((np.arange(count) + offset) * (rest.size / max(count, 1))).astype(np.intp)
        chosen: npt.NDArray[np.intp] = rest[np.minimum(places, rest.size - 1)]
        return chosen

    return _exact_mask("equispaced", draw, width, acceleration, center_fraction, num_low_frequencies, seed, support)


def fastmri_random_mask(width: int, *, center_fraction: float, acceleration: float, seed: int | str) -> ColumnMask:
    """The mask of fastMRI 0.3.0's `RandomMaskFunc([center_fraction], [acceleration])`, bit for bit.

    Each column outside the n = round(W * center_fraction) central ones is sampled with probability
    (W / R - n) / (W - n): the number of lines is right on average only. Use `random_mask` for an exact number.

    Args:
        width: columns of k-space, W.
        center_fraction: a float in (0, 1).
        acceleration: R, at least 1.
        seed: an integer, or a file name, which seeds as in fastMRI's data transforms, `tuple(map(ord, name))`.

    Raises:
        MaskError: an argument out of range, or a centre that alone has more than W / R lines (fastMRI is silent there
            and returns the centre).

    Source: `fastmri/data/subsample.py` of fastMRI 0.3.0 (MIT licence); Zbontar et al., arXiv:1811.08839.
    """
    width = _check_width(width)
    acceleration = _check_acceleration(acceleration)
    num_low = _num_low_frequencies(width, acceleration, center_fraction, None)
    if num_low == width or num_low > width / acceleration:
        raise _too_much_centre(width, width / acceleration, acceleration, num_low)
    rng = np.random.RandomState()  # the legacy generator is what fastMRI uses
    rng.seed(_fastmri_seed(seed))
    rng.randint(1)  # fastMRI chooses among its (here: one) pairs first; kept so that any state it takes is taken
    probability = (width / acceleration - num_low) / (width - num_low)
    lines = rng.uniform(size=width) < probability
    start = (width - num_low + 1) // 2
    lines[start : start + num_low] = True
    if not lines.any():
        raise MaskError(
            f"fastMRI's random mask of {width} columns at acceleration {acceleration:g} and seed {seed!r} came out "
            "empty: take a larger center_fraction or another seed"
        )
    return ColumnMask(
        lines=lines,
        kind="fastmri-random",
        acceleration=acceleration,
        num_low_frequencies=num_low,
        center_start=start if num_low else None,
        seed=seed if isinstance(seed, str) else operator.index(seed),
        support_width=width,
    )


def column_mask_from_lines(
    lines: npt.ArrayLike, *, kind: str = "file", support: npt.ArrayLike | None = None
) -> ColumnMask:
    """A column mask whose lines are known but not how they were chosen; its centre is the run of lines around N//2.

    Args:
        lines: bool or 0/1, `(phase,)`.
        kind: where the lines came from.
        support: bool `(phase,)`, the columns that could have been sampled; all of them by default.

    Raises:
        MaskError: not 1-D, values other than 0 and 1, nothing sampled, or lines outside the support.
    """
    sampled = _as_bool(np.asarray(lines))
    if sampled.ndim != 1:
        raise MaskError(f"expected the lines of a column mask as a 1-D array, got shape {sampled.shape}")
    columns = _support_columns(sampled.size, support)
    if np.setdiff1d(np.flatnonzero(sampled), columns).size:
        raise MaskError("expected every sampled line inside the support, got lines outside it: pass the right support")
    run = _run_around(sampled, sampled.size // 2)
    return ColumnMask(
        lines=sampled,
        kind=kind,
        num_low_frequencies=run.stop - run.start,
        center_start=run.start if run.stop > run.start else None,
        support_width=columns.size,
    )


def as_mask(mask: Mask | npt.ArrayLike | Tensor, kspace_shape: Sequence[int]) -> Mask:
    """Any accepted form of a mask as a `Mask` that fits k-space `(..., readout, phase)`.

    Args:
        mask: a `Mask`, or bool or 0/1 of shape `(phase,)`, `(readout, phase)`, with 1 for an axis along which it is
            constant and any number of leading axes along which it is constant, such as those of slices and coils. A
            2-D mask that is constant along readout becomes a `ColumnMask`.
        kspace_shape: shape of the k-space it is for.

    Raises:
        MaskError: it does not fit, has values other than 0 and 1, or samples nothing.
        ShapeError: `kspace_shape` has fewer than two axes.
    """
    if len(kspace_shape) < 2:
        raise ShapeError(f"expected k-space (..., readout, phase), got shape {tuple(kspace_shape)}")
    readout, phase = (int(n) for n in kspace_shape[-2:])
    if isinstance(mask, ColumnMask):
        return _fitting(mask, (phase,), kspace_shape)
    if isinstance(mask, PatternMask):
        return _fitting(mask, (readout, phase), kspace_shape)
    given = _as_bool(_to_numpy(mask))
    core = given
    while core.ndim > 2 and core.shape[0] > 0 and bool((core == core[:1]).all()):
        core = core[0]
    shape = (readout, phase) if core.ndim == 2 else (phase,)
    fits = 1 <= core.ndim <= 2 and all(n in (1, wanted) for n, wanted in zip(core.shape, shape, strict=True))
    if not fits:
        raise _misfit(given.shape, kspace_shape)
    return _mask_from_array(np.broadcast_to(core, shape), "array")


def undersample(kspace: npt.NDArray[Any] | Tensor, mask: Mask | npt.ArrayLike | Tensor) -> Tensor:
    """k-space with everything outside the mask set to zero: y = P k.

    Args:
        kspace: complex `(..., readout, phase)`, array or tensor.
        mask: whatever `as_mask` takes.

    Returns:
        complex64 tensor of the same shape, on the input's device.

    Raises:
        ShapeError: k-space that is not complex or has fewer than two axes.
        MaskError: a mask that does not fit.
    """
    full = kspace if isinstance(kspace, Tensor) else np.asarray(kspace)
    if not (full.is_complex() if isinstance(full, Tensor) else np.iscomplexobj(full)):
        raise ShapeError(
            f"expected complex k-space, got {full.dtype}: join real and imaginary parts first (torch.view_as_complex)"
        )
    full = as_complex_tensor(full)
    keep = as_mask(mask, full.shape).tensor(full.device)
    full = full.to(torch.complex64)
    # where, not *: what was not sampled is 0 even where the file held inf or nan.
    return torch.where(keep, full, torch.zeros((), dtype=full.dtype, device=full.device))


def center_block(mask: Mask | npt.ArrayLike | Tensor, *, at: tuple[int, int] | None = None) -> tuple[slice, slice]:
    """Find the fully sampled block at the centre of k-space, as slices `(readout, phase)`.

    For columns: all of readout (`slice(None)`), and the centre lines of the receipt where known, else the run of
    sampled lines around N//2. For a pattern: the fully sampled rectangle of the largest area that contains
    (N//2, N//2).

    With `at`, the block around that position where it is one to calibrate with: at least 2 samples along either axis,
    and half as many columns as the block above.

    Args:
        mask: whatever `as_mask` takes, `(phase,)` or `(readout, phase)`.
        at: `(row, column)` of an echo off the centre (`echo.echo_center`); None for the usual one.

    Raises:
        MaskError: the centre is not sampled.
    """
    if not isinstance(mask, ColumnMask | PatternMask):
        array = _as_bool(_to_numpy(mask))
        if array.ndim > 2 and array.size == math.prod(array.shape[-2:]):
            array = array.reshape(array.shape[-2:])
        if not 1 <= array.ndim <= 2:
            raise MaskError(f"expected a mask (phase,) or (readout, phase), got shape {array.shape}")
        mask = _mask_from_array(array, "array")
    if isinstance(mask, PatternMask):
        return _center_rectangle(mask.pattern, at)
    block = _receipt_run(mask) or _run_around(mask.lines, mask.width // 2)
    if at is not None and not block.start <= at[1] < block.stop:
        run = _run_around(mask.lines, at[1])
        if run.stop - run.start >= max(2, (block.stop - block.start) / 2):
            block = run
    if block.stop <= block.start:
        raise MaskError(
            f"expected a fully sampled centre, got a mask that leaves out column {mask.width // 2} of {mask.width}: "
            "sample a few central lines (center_fraction or num_low_frequencies), or pass sens_maps"
        )
    return slice(None), block


def mask_from_file(array: npt.NDArray[Any], name: str) -> Mask:
    """The mask that the array of a mask file stands for; see `mri_recon.io.load_mask`.

    Args:
        array: as stored in the file.
        name: of the file, for the receipt.

    Raises:
        MaskError: more than two axes, values other than 0 and 1, or nothing sampled.
    """
    array = _as_bool(array)
    squeezed = drop_constant_axes(array, None)
    if squeezed.ndim > 2:
        raise MaskError(
            f"expected a mask (phase,) or (readout, phase) in {name}, got shape {array.shape}: "
            "store one mask for all slices and coils"
        )
    return _mask_from_array(squeezed, "file", source=name)


def drop_constant_axes(array: npt.NDArray[Any], plane: tuple[int, int] | None) -> npt.NDArray[Any]:
    """A mask of a file without its axes of length 1, and without those of slices and coils along which it is constant.

    Args:
        array: as stored.
        plane: `(readout, phase)` of the k-space that it is for: the axes of a larger mask that do not end in these
            may come behind them, as in MATLAB. None where that is not known: they come first.
    """
    squeezed = array.reshape([n for n in array.shape if n != 1] or [1])
    while squeezed.ndim > 2 and squeezed.size:
        behind = plane is not None and squeezed.shape[-2:] != plane and squeezed.shape[:2] == plane
        axis = squeezed.ndim - 1 if behind else 0
        first = squeezed.take([0], axis=axis)
        if not bool((squeezed == first).all()):
            break
        squeezed = first.squeeze(axis)
    slices = plane is not None and squeezed.ndim == 2 and squeezed.shape != plane and squeezed.shape[1] == plane[1]
    return squeezed[0] if slices and bool((squeezed == squeezed[:1]).all()) else squeezed


def other_values(array: npt.NDArray[Any]) -> str:
    """What a mask has beside 0 and 1, in words; for messages."""
    values = array[~np.isin(array, (0, 1))]
    if array.dtype.kind not in "iufc" or values.size == 0:
        return f"other values ({array.dtype})"
    if array.dtype.kind != "c" and values.min() > 1:
        return f"other values up to {values.max()!s} ({array.dtype})"
    return f"other values such as {values[0]!s} ({array.dtype})"


# ---------------------------------------------------------------------------------------------- building


def _exact_mask(
    kind: str,
    draw: Callable[[npt.NDArray[np.intp], int], npt.NDArray[np.intp]],
    width: int,
    acceleration: float,
    center_fraction: float | None,
    num_low_frequencies: int | None,
    seed: int,
    support: npt.ArrayLike | None,
) -> ColumnMask:
    width = _check_width(width)
    acceleration = _check_acceleration(acceleration)
    seed = _check_seed(seed)
    columns = _support_columns(width, support)
    w = columns.size
    num_lines = round(w / acceleration)
    num_low = _num_low_frequencies(w, acceleration, center_fraction, num_low_frequencies)
    if num_lines < 1:
        raise MaskError(
            f"expected at least one line, got round({w} / {acceleration:g}) = 0: lower the acceleration to {w} or less"
        )
    if num_low > num_lines:
        raise _too_much_centre(w, num_lines, acceleration, num_low)
    start = _center_place(columns, width, num_low)
    places = np.arange(w)
    center = places[start : start + num_low]
    rest = np.concatenate([places[:start], places[start + num_low :]])
    lines = np.zeros(width, dtype=np.bool_)
    lines[columns[center]] = True
    if num_lines > num_low:
        lines[columns[draw(rest, num_lines - num_low)]] = True
    return ColumnMask(
        lines=lines,
        kind=kind,
        acceleration=acceleration,
        num_low_frequencies=num_low,
        center_start=int(columns[start]) if num_low else None,
        seed=seed,
        support_width=w,
    )


def _center_place(columns: npt.NDArray[np.intp], width: int, num_low: int) -> int:
    """The place in the list of acquired columns where the centre of `num_low` of them starts; see `random_mask`.

    Of the columns from (N - n + 1) // 2 up to DC there are at most n, so DC is among the n that start there.
    """
    return min(int(np.searchsorted(columns, (width - num_low + 1) // 2)), columns.size - num_low)


def _check_width(width: SupportsIndex) -> int:
    value = _as_int(width)
    if value is None or value < 1:
        raise MaskError(f"expected width as a positive number of columns, got {width!r}")
    return value


def _check_acceleration(acceleration: float) -> float:
    if not _is_real(acceleration) or not math.isfinite(acceleration) or acceleration < 1:
        raise MaskError(
            f"expected a finite acceleration of at least 1 (1 samples everything), got {acceleration!r}: "
            "4 means a quarter of the lines"
        )
    return float(acceleration)


def _check_seed(seed: SupportsIndex) -> int:
    value = _as_int(seed)
    if value is None or value < 0:
        raise MaskError(f"expected seed as a non-negative integer, got {seed!r}")
    return value


def _fastmri_seed(seed: int | str) -> int | tuple[int, ...]:
    if isinstance(seed, str):
        if not seed:
            raise MaskError("expected a file name to seed with, got an empty one")
        return tuple(map(ord, seed))
    value = _check_seed(seed)
    if value >= 1 << 32:
        raise MaskError(f"expected a seed below 2**32 (fastMRI's generator takes no more), got {value}")
    return value


def _num_low_frequencies(
    w: int, acceleration: float, center_fraction: float | None, num_low_frequencies: int | None
) -> int:
    if center_fraction is not None and num_low_frequencies is not None:
        raise MaskError(
            f"expected center_fraction or num_low_frequencies, got both ({center_fraction!r} and "
            f"{num_low_frequencies!r}): drop one"
        )
    if num_low_frequencies is not None:
        value = _as_int(num_low_frequencies)
        if value is None or value < 0:
            raise MaskError(
                f"expected num_low_frequencies as a number of lines (an int, 0 or more), got "
                f"{num_low_frequencies!r}: a share of the columns is center_fraction"
            )
        return value
    fraction = default_center_fraction(acceleration) if center_fraction is None else center_fraction
    # An int is refused even where it is in range of nothing: 8 may mean 8 lines or 8 %, and guessing is worse.
    if isinstance(fraction, int | np.integer) or not _is_real(fraction) or not 0 < fraction < 1:
        raise MaskError(
            f"expected center_fraction as a float between 0 and 1 (0.08 is 8 % of the columns), got {fraction!r}: "
            "a number of lines is num_low_frequencies"
        )
    return round(w * float(fraction))


def _too_much_centre(w: int, num_lines: float, acceleration: float, num_low: int) -> MaskError:
    cure = (
        f"lower the acceleration to {w / num_low:.3g} or less, or the centre to at most {math.floor(num_lines)} lines"
    )
    return MaskError(
        f"expected a centre within the {num_lines:.4g} lines that acceleration {acceleration:g} leaves of {w} columns, "
        f"got {num_low} centre lines: {cure} (center_fraction or num_low_frequencies)"
    )


def _support_columns(width: int, support: npt.ArrayLike | None) -> npt.NDArray[np.intp]:
    if support is None:
        return np.arange(width)
    array = _as_bool(np.asarray(support))
    if array.shape != (width,):
        raise MaskError(f"expected a support of shape ({width},), one entry a column, got {array.shape}")
    if not array.any():
        raise MaskError(f"expected a support with acquired columns, got {width} columns and none acquired")
    return np.flatnonzero(array)


def _as_int(value: object) -> int | None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        return None
    return int(value)


def _is_real(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


# ---------------------------------------------------------------------------------------------- converting


def _to_numpy(mask: npt.ArrayLike | Tensor) -> npt.NDArray[Any]:
    if not isinstance(mask, Tensor):
        return np.asarray(mask)
    mask = mask.detach().cpu().resolve_conj()
    return (mask.float() if mask.dtype == torch.bfloat16 else mask).numpy()  # which NumPy does not have


def _as_bool(array: npt.NDArray[Any]) -> BoolArray:
    if array.dtype.kind == "c" and not array.imag.any():
        array = array.real  # k-space and mask come out of some programs in one type
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise MaskError(
            f"expected a mask of booleans, or of 0 and 1, got {other_values(array)}: "
            "threshold it first (mask > 0 where what was sampled is marked by another number)"
        )
    return array.astype(np.bool_)


def _mask_from_array(array: BoolArray, kind: str, source: str | None = None) -> Mask:
    if array.size == 0:
        raise MaskError(f"expected a mask with samples, got an empty array of shape {array.shape}")
    if array.ndim == 1:
        return column_mask_from_lines(array, kind=kind)
    if bool((array == array[:1]).all()):
        return column_mask_from_lines(array[0], kind=kind)
    return PatternMask(array, source=source or kind)


def _fitting(mask: Mask, shape: tuple[int, ...], kspace_shape: Sequence[int]) -> Mask:
    got = mask.lines.shape if isinstance(mask, ColumnMask) else mask.pattern.shape
    if got != shape:
        raise _misfit(got, kspace_shape)
    return mask


def _misfit(got: tuple[int, ...], kspace_shape: Sequence[int]) -> MaskError:
    readout, phase = kspace_shape[-2:]
    return MaskError(
        f"expected a mask ({phase},) or ({readout}, {phase}) for k-space of shape {tuple(kspace_shape)} "
        f"(..., readout, phase), got {tuple(got)}: make the mask for this width, or check the order of the axes"
    )


# ---------------------------------------------------------------------------------------------- the dense centre


def _run_around(lines: BoolArray, index: int) -> slice:
    """The run of True that contains `index`; empty where `lines[index]` is False."""
    if not lines[index]:
        return slice(index, index)
    gaps = np.flatnonzero(~lines)
    before, after = gaps[gaps < index], gaps[gaps > index]
    return slice(int(before[-1]) + 1 if before.size else 0, int(after[0]) if after.size else int(lines.size))


def _receipt_run(mask: ColumnMask) -> slice | None:
    center = mask.center_lines
    if center.size == 0:
        return None
    # The centre counts columns of the support: where a dead column lies inside, take the longest run between the dead,
    # of equally long ones that nearest to N//2.
    runs = np.split(center, np.flatnonzero(np.diff(center) > 1) + 1)
    longest = max(runs, key=lambda run: (len(run), -int(np.abs(run - mask.width // 2).min(initial=mask.width))))
    return slice(int(longest[0]), int(longest[-1]) + 1) if longest.size else None


def _center_rectangle(pattern: BoolArray, at: tuple[int, int] | None) -> tuple[slice, slice]:
    if at is not None and pattern[at]:
        rows, columns = _rectangle_around(pattern, *at)
        if min(rows.stop - rows.start, columns.stop - columns.start) >= 2:
            return rows, columns
    row, column = (n // 2 for n in pattern.shape)
    if not pattern[row, column]:
        raise MaskError(
            f"expected a fully sampled centre, got a pattern {pattern.shape} that does not sample ({row}, {column}): "
            "pass sens_maps, or check that the centre of k-space is at N//2"
        )
    return _rectangle_around(pattern, row, column)


def _rectangle_around(pattern: BoolArray, row: int, column: int) -> tuple[slice, slice]:
    runs = [_run_around(line, column) for line in pattern]
    left = np.array([column - run.start for run in runs])
    right = np.array([run.stop - column for run in runs])  # 0 where the row does not sample the centre column
    # A rectangle from `up` rows above to `down` rows below the centre is as wide as the narrowest of its rows.
    left_up, right_up = (np.minimum.accumulate(side[row::-1]) for side in (left, right))
    left_down, right_down = (np.minimum.accumulate(side[row:]) for side in (left, right))
    wide_left = np.minimum.outer(left_up, left_down)
    wide_right = np.minimum.outer(right_up, right_down)
    height = np.add.outer(np.arange(left_up.size), np.arange(left_down.size)) + 1
    area = np.where(wide_right > 0, (wide_left + wide_right) * height, 0)
    up, down = (int(i) for i in np.unravel_index(int(np.argmax(area)), area.shape))
    phase = slice(column - int(wide_left[up, down]), column + int(wide_right[up, down]))
    return slice(row - up, row + down + 1), phase
