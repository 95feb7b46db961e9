"""Judge the measures of k-space, and say what was found in a sentence.

Paper: Shimron, Tamir, Wang, Lustig, Implicit data crimes: machine learning bias arising from misuse of public data,
PNAS 119(13), 2022.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mri_recon.io.data_crimes.background import Background, Borders, measure_background, measure_borders
from mri_recon.io.data_crimes.lines import empty_edges, largest_step, share_of_faint_lines
from mri_recon.io.data_crimes.planes import Planes, acquired_extent, representative_planes
from mri_recon.io.data_crimes.symmetry import conjugate_symmetry

__all__ = ["CRIMES", "MIN_SIDE", "DataCrime", "find_data_crimes"]

CRIMES = ("zero-padded", "conjugate-symmetric", "filtered", "coil-combined", "undersampled", "interpolated", "masked")
"""What k-space may look like."""

MIN_SIDE = 64
"""Rows and columns below which nothing is judged: the background holds too few samples."""

# Thresholds lie between the scans of the training and validation splits and the simulated cases; both are in the table
# that benchmarks/trust/data_crimes.py makes.
_PADDED = 0.05
"""Empty lines on either side, as a fraction of the axis, that no scanner leaves out."""

_STEP = 10.0
"""Least ratio of power at a step: 10 dB."""

_SYMMETRIC = 0.99
_EDGE_DROP = 8.0
_STEEPER = 2.0
"""A filter falls by that factor, in dB, more beyond the middle of k-space than inside; signal does not."""

_NOISE_LIKE = 4.0
_MAGNITUDE = 0.55
_REAL = 0.8
_FAINT = 0.1
_ZERO = 0.02
_BORDER = 0.07
"""Anti-aliasing filters of receivers leave more at the border of the readout: 0.15 and more in the scans at hand."""

_LINES = {-2: "rows", -1: "columns"}
_AXES = {-2: "readout", -1: "phase"}


@dataclass(frozen=True)
class DataCrime:
    """Hold one finding.

    Attributes:
        name: one of `CRIMES`.
        sentence: what was expected, what was found, with figures, and what it means.
        figures: the measures, by name.
    """

    name: str
    sentence: str
    figures: dict[str, float] = field(default_factory=dict)


def find_data_crimes(
    kspace: npt.NDArray[np.complex64], *, declared: bool = False, complete: bool = True
) -> tuple[DataCrime, ...]:
    """Find what an acquisition does not do to k-space.

    At most eight planes are examined, see `representative_planes`. A file that hides it well is not found: noise added
    after simulation, weak filters, adaptive combinations of coils. Nothing found is no proof.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, finite, not all zero.
        declared: whether the file's header says which columns were acquired; empty columns are then no finding.
        complete: whether k-space counts as fully sampled. If it does not, only padding is searched for: images that are
            folded say nothing about their background.

    Returns:
        findings, at most one of a name and axis; none where an acquired side has fewer than `MIN_SIDE` samples.
    """
    planes = representative_planes(kspace)
    extents = [acquired_extent(planes, axis) for axis in (-2, -1)]
    if min(end - first for first, end in extents) < MIN_SIDE:
        return ()
    padding = list(_empty_edges(planes, declared=declared)) or list(_steps(planes))
    if not complete:
        return tuple(padding)
    acquired = _acquired(planes, padding)
    single = kspace.shape[1] == 1
    zeros = list(_zeros(measure_borders(planes), planes.shape[-2:], single=single))
    found = [*padding, *_symmetry(planes), *_faint_lines(acquired), *zeros]
    if not zeros and min(acquired.shape[-2:]) >= MIN_SIDE:
        found += [*_borders(measure_borders(acquired)), *_noise(measure_background(acquired), single=single)]
    return tuple(found)


def _empty_edges(planes: Planes, *, declared: bool) -> Iterator[DataCrime]:
    for axis in (-2,) if declared else (-2, -1):
        before, after = empty_edges(planes, axis)
        size = int(planes.shape[axis])
        if min(before, after) >= _PADDED * size:
            yield DataCrime(
                "zero-padded",
                f"expected k-space with noise up to its edges, found zeros in the first {before} and the last {after} "
                f"of {size} {_LINES[axis]}: an interpolated matrix, whose image holds fewer pixels than it shows. "
                "Cut the zeros off, or metrics flatter every method",
                {"axis": axis, "before": before, "after": after},
            )


def _steps(planes: Planes) -> Iterator[DataCrime]:
    for axis in (-2, -1):
        size = int(planes.shape[axis])
        (before, after), step = largest_step(planes, axis, math.ceil(_PADDED * size))
        if step >= _STEP:
            decibels = 10 * math.log10(step)
            yield DataCrime(
                "zero-padded",
                f"expected noise of equal power up to the edges of k-space, found {decibels:.0f} dB less in the first "
                f"{before} and the last {after} of {size} {_LINES[axis]}: an interpolated matrix, saved as an image in "
                "between. Cut these samples off, or metrics flatter every method",
                {"axis": axis, "before": before, "after": after, "step_db": decibels},
            )


def _acquired(planes: Planes, padding: list[DataCrime]) -> Planes:
    """Cut off lines that hold nothing, and those beyond a step."""
    for axis in (-2, -1):
        first, end = acquired_extent(planes, axis)
        for one in padding:
            if one.figures["axis"] == axis:
                first = max(first, int(one.figures["before"]))
                end = min(end, int(planes.shape[axis] - one.figures["after"]))
        planes = planes[:, first:end] if axis == -2 else planes[..., first:end]
    return planes


def _symmetry(planes: Planes) -> Iterator[DataCrime]:
    values = {axis: conjugate_symmetry(planes, axis) for axis in (-2, -1)}
    axis, value = max(values.items(), key=lambda pair: pair[1])
    if value >= _SYMMETRIC:
        both = min(values.values()) >= _SYMMETRIC
        what = "samples" if both else _LINES[axis]
        source = "of a real image, such as a magnitude" if both else "completed by symmetry (partial Fourier)"
        yield DataCrime(
            "conjugate-symmetric",
            "expected independent noise on both sides of the centre of k-space, found that the outer "
            f"{what} mirror each other (symmetry {value:.3f}, 1 is exact): k-space {source}. Half of these samples "
            "tell nothing new, and undersampling looks easier than it is",
            {"symmetry_readout": values[-2], "symmetry_phase": values[-1]},
        )


def _faint_lines(acquired: Planes) -> Iterator[DataCrime]:
    for axis in (-2, -1):
        share = share_of_faint_lines(acquired, axis)
        if share > _FAINT:
            yield DataCrime(
                "undersampled",
                f"expected noise of equal power on every line, found {share:.0%} of the {_LINES[axis]} with less than "
                "1/1000 of the power of their neighbours: k-space that was undersampled and is called full. "
                "Give the mask it was sampled with, and take no reference from it",
                {"axis": axis, "faint_lines": share},
            )


def _zeros(borders: Borders, shape: tuple[int, ...], *, single: bool) -> Iterator[DataCrime]:
    if borders.zero_inside >= _ZERO:
        what = "an image that was masked" if single else "images that were masked, or simulated without noise"
        yield DataCrime(
            "coil-combined" if single else "masked",
            f"expected noise in the background of the image, found {borders.zero_pixels:.0%} of its pixels zero: "
            f"k-space of {what}, no raw data. Noise and metrics found in it are those of a simulation",
            {"zero_pixels": borders.zero_pixels},
        )
        return
    for axis, (before, after) in zip((-2, -1), borders.zero_frame, strict=True):
        if before + after >= _PADDED * shape[axis]:
            yield DataCrime(
                "interpolated",
                f"expected noise up to the border of the image, found zeros in its first {before} and last {after} of "
                f"{shape[axis]} {_LINES[axis]}: k-space was interpolated by zeros around the image. Neighbouring "
                f"samples along {_AXES[axis]} are not independent, and accelerations count lines never measured",
                {"axis": axis, "before": before, "after": after},
            )


def _borders(borders: Borders) -> Iterator[DataCrime]:
    for axis, value in zip((-2, -1), borders.border_to_middle, strict=True):
        if value < _BORDER:
            yield DataCrime(
                "interpolated",
                f"expected noise of equal power up to the border of the image, found {value:.1%} of it there along "
                f"{_AXES[axis]}: neighbouring samples of k-space are correlated, as after gridding or interpolation. "
                "Accelerations count lines never measured",
                {"axis": axis, "border_to_middle": value},
            )


def _noise(background: Background, *, single: bool) -> Iterator[DataCrime]:
    for axis, middle, edge in zip((-2, -1), background.middle_drop, background.edge_drop, strict=True):
        if edge > _EDGE_DROP and math.log(edge) > _STEEPER * math.log(max(middle, 1.0)):
            yield DataCrime(
                "filtered",
                f"expected noise of equal power up to the edges of k-space, found 1/{edge:.3g} of it there along "
                f"{_AXES[axis]}: k-space was filtered (apodised), or its image smoothed. The noise estimated at the "
                "edges is too small, and outer lines seem to matter less than they do",
                {"axis": axis, "edge_drop": edge, "middle_drop": middle},
            )
    likes_noise = max(background.middle_drop) < _NOISE_LIKE
    if single and likes_noise and background.mean_to_rms > _MAGNITUDE and background.real_part > _REAL:
        yield DataCrime(
            "coil-combined",
            "expected complex noise of mean 0 in the background of the image, found noise of one sign (|mean|^2 / mean "
            f"square {background.mean_to_rms:.2f}; magnitudes of one coil have 0.79): the one coil is a magnitude "
            "image, no raw data. Its noise is not Gaussian, and its phase is lost or made up",
            {"mean_to_rms": background.mean_to_rms, "real_part": background.real_part},
        )
