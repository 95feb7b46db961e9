"""Draw undersampling masks: random, equispaced, and those of fastMRI."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from mri_recon.errors import MaskError
from mri_recon.masks.convert import support_columns
from mri_recon.masks.types import ColumnMask

__all__ = [
    "as_int",
    "default_center_fraction",
    "equispaced_mask",
    "fastmri_random_mask",
    "is_real",
    "random_mask",
]


def default_center_fraction(acceleration: float) -> float:
    """Return the default centre fraction: 0.08 below R = 6, 0.04 from R = 6 on."""
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

    Of the W columns of the support, n = round(W * center_fraction) form the centre: n neighbouring columns of the
    support from (N - n + 1) // 2 on, N = `width`. If that column was not acquired, the centre starts at the next
    acquired one; if fewer than n acquired columns remain from there, the centre is the last n. So the centre includes
    DC, column N // 2, whenever DC was acquired and n is at least 1. The other round(W / R) - n lines are drawn without
    replacement from the remaining columns by `numpy.random.default_rng(seed).choice`. Columns outside the support are
    never sampled.

    Args:
        width: columns of k-space.
        acceleration: R, at least 1.
        center_fraction: a float in (0, 1); by default `default_center_fraction(acceleration)`.
        num_low_frequencies: n itself, instead of `center_fraction`.
        seed: a non-negative integer.
        support: bool `(width,)`, the acquired columns; all of them by default.

    Raises:
        MaskError: an argument out of range, both centre arguments, a support that does not fit `width`, or a centre
            with more lines than the whole mask.
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
    """Draw equally spaced columns around a fully sampled centre; centre and number of lines are those of `random_mask`.

    Of the M columns outside the centre, numbers floor((i + u) M / m), i = 0..m-1, are sampled, with one offset u in [0,
    1) from `numpy.random.default_rng(seed)`. The spacing M / m need not be an integer, so neighbouring gaps may differ
    by one.

    Args and Raises: as `random_mask`.
    """

    def draw(rest: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
        offset = np.random.default_rng(seed).random()
        places = np.floor((np.arange(count) + offset) * (rest.size / max(count, 1))).astype(np.intp)
        chosen: npt.NDArray[np.intp] = rest[np.minimum(places, rest.size - 1)]
        return chosen

    return _exact_mask("equispaced", draw, width, acceleration, center_fraction, num_low_frequencies, seed, support)


def fastmri_random_mask(width: int, *, center_fraction: float, acceleration: float, seed: int | str) -> ColumnMask:
    """Draw the mask of fastMRI 0.3.0's `RandomMaskFunc([center_fraction], [acceleration])`, bit for bit.

    Each column outside the n = round(W * center_fraction) central ones is sampled with probability
    (W / R - n) / (W - n): only the expected number of lines is W / R. Use `random_mask` for an exact number.

    Args:
        width: columns of k-space, W.
        center_fraction: a float in (0, 1).
        acceleration: R, at least 1.
        seed: an integer, or a file name, which fastMRI's data transforms turn into the seed `tuple(map(ord, name))`.

    Raises:
        MaskError: an argument out of range, or a centre that alone has more than W / R lines (fastMRI silently returns
            the centre).

    Source: `fastmri/data/subsample.py` of fastMRI 0.3.0 (MIT licence); Zbontar et al., arXiv:1811.08839.
    """
    width = _check_width(width)
    acceleration = _check_acceleration(acceleration)
    num_low = _num_low_frequencies(width, acceleration, center_fraction, None)
    if num_low == width or num_low > width / acceleration:
        raise _too_much_centre(width, width / acceleration, acceleration, num_low)
    rng = np.random.RandomState()  # fastMRI uses the legacy generator
    rng.seed(_fastmri_seed(seed))
    rng.randint(1)  # fastMRI first chooses among its pairs (here: one), which advances the generator
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
    columns = support_columns(width, support)
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
    """Find the index in the list of acquired columns where the centre of `num_low` columns starts; see `random_mask`.

    At most n columns lie from (N - n + 1) // 2 up to DC, so the n columns from there on include DC.
    """
    return min(int(np.searchsorted(columns, (width - num_low + 1) // 2)), columns.size - num_low)


def _check_width(width: SupportsIndex) -> int:
    value = as_int(width)
    if value is None or value < 1:
        raise MaskError(f"expected width as a positive number of columns, got {width!r}")
    return value


def _check_acceleration(acceleration: float) -> float:
    if not is_real(acceleration) or not math.isfinite(acceleration) or acceleration < 1:
        raise MaskError(
            f"expected a finite acceleration of at least 1 (1 samples everything), got {acceleration!r}: "
            "4 means a quarter of the lines"
        )
    return float(acceleration)


def _check_seed(seed: SupportsIndex) -> int:
    value = as_int(seed)
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
        value = as_int(num_low_frequencies)
        if value is None or value < 0:
            raise MaskError(
                f"expected num_low_frequencies as a number of lines (an int, 0 or more), got "
                f"{num_low_frequencies!r}: a share of the columns is center_fraction"
            )
        return value
    fraction = default_center_fraction(acceleration) if center_fraction is None else center_fraction
    # Every int is refused: 8 may mean 8 lines or 8 %, and a guess would be worse.
    if isinstance(fraction, int | np.integer) or not is_real(fraction) or not 0 < fraction < 1:
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


def as_int(value: object) -> int | None:
    """Return an integer of any integer type as `int`; None for anything else, booleans included."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        return None
    return int(value)


def is_real(value: object) -> bool:
    """Tell whether a value is a real number and not a boolean."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
