"""Hold measured samples out: split a mask into the samples that a method sees and those that test it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mri_recon.errors import MaskError
from mri_recon.masks.calibration_region import center_samples
from mri_recon.masks.types import BoolArray, ColumnMask, Mask, PatternMask

__all__ = ["LEAST_UNITS", "NUM_FOLDS", "SHARE", "Fold", "hold_out_folds"]

NUM_FOLDS = 3
"""Folds by default: every reconstruction is then run four times."""

SHARE = 0.2
"""Share of the samples outside the centre that a fold holds out: more would test another, harder acceleration."""

LEAST_UNITS = 6
"""Fewest lines (or samples of a pattern) outside the centre from which folds are made: two a fold by default."""

_KEPT_WITHOUT_CENTER = 2  # columns on either side of the centre of k-space that are never held out


@dataclass(frozen=True)
class Fold:
    """Hold one split of a mask.

    Attributes:
        shown: the mask without the samples held out; its fully sampled centre is that of the whole mask.
        held: bool, `(phase,)` for a column mask, else `(readout, phase)`; True where a sample is held out.
    """

    shown: Mask
    held: BoolArray


def hold_out_folds(
    mask: Mask,
    *,
    num_folds: int = NUM_FOLDS,
    share: float = SHARE,
    seed: int = 0,
    at: tuple[int, int] | None = None,
    without_data: BoolArray | None = None,
) -> list[Fold]:
    """Split the samples outside the fully sampled centre into folds, alike in their distances from the centre.

    Lines of a column mask, or samples of a pattern, are sorted by their distance from the centre of k-space and cut
    into groups of round(1 / share). Each fold takes one of each group at random, no two folds the same. A fold
    therefore holds `share` of the lines at every distance. The centre stays, since maps and phase come from it.

    Args:
        mask: the mask of the scan.
        num_folds: number of folds, at most 1 / share.
        share: share of the samples outside the centre that a fold holds out, in (0, 0.5].
        seed: of the generator that chooses.
        at: `(row, column)` of an echo off the centre (`echo.echo_center`); None for (N//2, N//2).
        without_data: bool like `mask.array`: sampled, but dead; these are never held out. None for nowhere.

    Raises:
        MaskError: fewer than `LEAST_UNITS` samples outside the centre, or impossible numbers of folds and share.
    """
    group = round(1 / share) if 0 < share <= 0.5 else 0
    if not 1 <= num_folds <= group:
        raise MaskError(
            f"expected a share in (0, 0.5] and from 1 to 1 / share folds, got share={share} and num_folds={num_folds}: "
            "hold less out in each fold, or make fewer folds"
        )
    free = mask.array & ~_center(mask, at)
    if without_data is not None:
        free = free & ~without_data
    positions = np.argwhere(free)
    if len(positions) < LEAST_UNITS:
        what = "lines" if isinstance(mask, ColumnMask) else "samples"
        raise MaskError(
            f"expected at least {LEAST_UNITS} sampled {what} outside the fully sampled centre, so that some can be "
            f"held out, got {len(positions)}: leave the check out for this scan"
        )
    rng = np.random.default_rng(seed)
    fold_of = _fold_of(_distance(positions, mask, at), group, rng)
    folds = []
    for number in range(num_folds):
        held = np.zeros_like(mask.array)
        held[tuple(positions[fold_of == number].T)] = True
        folds.append(Fold(_without(mask, held), held))
    return folds


def _center(mask: Mask, at: tuple[int, int] | None) -> BoolArray:
    """Mark the fully sampled centre; without one, the samples next to the centre of k-space."""
    try:
        kept = center_samples(mask, at=at)
    except MaskError:
        kept = np.zeros_like(mask.array)
        middles = [side // 2 for side in kept.shape]
        kept[tuple(slice(n - _KEPT_WITHOUT_CENTER, n + _KEPT_WITHOUT_CENTER + 1) for n in middles)] = True
    if isinstance(mask, ColumnMask):
        kept[mask.center_lines] = True
    return kept


def _distance(positions: npt.NDArray[np.intp], mask: Mask, at: tuple[int, int] | None) -> npt.NDArray[np.float64]:
    """Compute the distance of each position from the centre of k-space, as a share of the side."""
    sides = np.array(mask.array.shape)
    center = sides // 2 if at is None else np.array(at)[-len(sides) :]
    offsets: npt.NDArray[np.float64] = (positions - center) / sides
    distance: npt.NDArray[np.float64] = np.sqrt((offsets**2).sum(axis=1))
    return distance


def _fold_of(distance: npt.NDArray[np.float64], group: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Give every position a number below `group`, each number once among `group` neighbours in distance."""
    order = np.argsort(distance, kind="stable")
    numbers = np.concatenate([rng.permutation(group) for _ in range(-(-len(order) // group))])[: len(order)]
    found = np.empty(len(order), dtype=np.intp)
    found[order] = numbers
    return found


def _without(mask: Mask, held: BoolArray) -> Mask:
    if isinstance(mask, PatternMask):
        return PatternMask(mask.pattern & ~held, source=f"{mask.source}, samples held out")
    return replace(mask, lines=mask.lines & ~held, acceleration=None)
