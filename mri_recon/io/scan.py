"""Hold a scan: k-space in one order of axes, with information from its file and findings in its data.

Samples and reference are NumPy arrays; PyTorch is imported at the first use of `Scan.kspace` or `Scan.target`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mri_recon._arrays import as_tensor, center_crop
from mri_recon.errors import FormatError
from mri_recon.io.axes_check import refuse_wrong_axes
from mri_recon.io.data_crimes.findings import DataCrime, find_data_crimes
from mri_recon.io.geometry import Geometry, make_geometry
from mri_recon.io.reading.axes import ORDER
from mri_recon.io.scan_card import scan_card, scan_line
from mri_recon.io.support import Sampling, inspect_sampling, misses_too_much, sampled_points
from mri_recon.io.writers.result import SIMULATED
from mri_recon.masks.convert import column_mask_from_lines, drop_constant_axes, other_values
from mri_recon.masks.echo import Echo, find_echo
from mri_recon.masks.empty_slices import empty_slices
from mri_recon.masks.types import Mask, PatternMask

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RawScan", "Scan", "make_scan", "sampled_pattern"]

BoolArray = npt.NDArray[np.bool_]


RSS_OF_FULL = "rss of the full k-space"
"""Value of `target_source` for a reference that is computed from the samples."""


@dataclass(frozen=True, repr=False)
class Scan:
    """Hold one scan, independent of its file format.

    Attributes:
        samples: complex64 `(slice, coil, readout, phase)`, in the file's units; `kspace` is the same data as a tensor.
        reference: the file's own reconstruction, float32 magnitudes `(slice, h, w)`, at most of `recon_size`; None if
            there is none. Compare images with `target`.
        target_source: "file: reconstruction_rss", "file: reconstruction_esc", "rss of the full k-space" or "none".
        mask: the file's own mask; None if it has none. It is never guessed, see `sampled_pattern`.
        support: bool `(phase,)`, the columns that the scanner acquired, or would have acquired without a mask.
        recon_size: height and width of the image from the header; the size of k-space if the header has none.
        meta: format, file, axes (and whether they were assumed), header fields, attributes, `note`, `warnings`,
            `empty_slices`; if slices were chosen, also `slices` and `num_slices_in_file`; `geometry` as JSON values.
        source: the file that the scan was loaded from, which `save` never replaces; None if there is none.
    """

    samples: npt.NDArray[np.complex64]
    reference: npt.NDArray[np.float32] | None
    target_source: str
    mask: Mask | None
    support: BoolArray
    recon_size: tuple[int, int]
    meta: dict[str, Any] = field(default_factory=dict)
    source: Path | None = field(default=None, repr=False, compare=False)

    @cached_property
    def kspace(self) -> Tensor:
        """K-space as a tensor, complex64 `(slice, coil, readout, phase)`, on the CPU, in the memory of `samples`."""
        return as_tensor(self.samples)

    @cached_property
    def target(self) -> Tensor | None:
        """Reference magnitudes, float32 `(slice, h, w)`, at most of `recon_size`; None if there are none.

        The reference is the file's own reconstruction, else the root sum of squares of fully sampled k-space, computed
        at first use.
        """
        if self.reference is not None:
            return as_tensor(self.reference)
        return _rss_of_full(self.kspace, self.recon_size) if self.target_source == RSS_OF_FULL else None

    @cached_property
    def geometry(self) -> Geometry | None:
        """Voxel size, position and orientation of the slices; None if the file has none of them."""
        values = self.meta.get("geometry")
        return None if values is None else make_geometry(values)

    @property
    def num_slices(self) -> int:
        """Number of slices."""
        return int(self.samples.shape[0])

    @property
    def num_coils(self) -> int:
        """Number of coils; a single coil has an axis of length 1."""
        return int(self.samples.shape[1])

    @property
    def width(self) -> int:
        """Number of columns of k-space, acquired or not."""
        return int(self.samples.shape[-1])

    @property
    def fully_sampled(self) -> bool:
        """Whether every column of the support holds data: `meta["fully_sampled"]`, else whether there is no mask."""
        return bool(self.meta.get("fully_sampled", self.mask is None))

    @property
    def axes_warning(self) -> str | None:
        """One sentence that the axes are assumed; None if the file or the caller names them."""
        return _axes_warning(self.meta)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to doubt a picture of this scan, one sentence each: assumed axes, empty slices, data crimes, echo."""
        echo = () if self.echo is None else self.echo.warnings()
        return (*self.meta.get("warnings", ()), *(crime.sentence for crime in self.data_crimes), *echo)

    @cached_property
    def echo(self) -> Echo | None:
        """The energy peak of the acquired samples, found at first use; None if no position stands out."""
        return find_echo(self.samples, self.support)

    @cached_property
    def data_crimes(self) -> tuple[DataCrime, ...]:
        """What an acquisition does not do to k-space, found at first use: padding, symmetry, filters, combined coils.

        A scan with a mask of its own is not examined; one that is undersampled without a mask, for padding alone.
        """
        if self.mask is not None and not self.fully_sampled:
            return ()
        declared = self.meta.get("padding") is not None
        return find_data_crimes(self.samples, declared=declared, complete=self.fully_sampled)

    def __repr__(self) -> str:
        return scan_line(self)

    def _repr_html_(self) -> str:
        """Show the scan in a notebook."""
        return scan_card(self)


@dataclass(frozen=True)
class RawScan:
    """Hold the unchecked content that a reader found in a file: the arguments of `make_scan`.

    Attributes:
        kspace: complex `(slice, coil, readout, phase)`.
        name: name of the file.
        meta: format, file, axes, header fields, attributes, `geometry` (see `Geometry.as_dict`).
        mask: the file's own mask, as stored.
        padding: first acquired column and the one after the last, if the file says.
        recon_size: image size from the header.
        target: the file's own reconstruction, as stored.
        target_source: which it is.
    """

    kspace: npt.NDArray[Any]
    name: str
    meta: dict[str, Any]
    mask: npt.NDArray[Any] | None = None
    padding: tuple[int, int] | None = None
    recon_size: tuple[int, int] | None = None
    target: npt.NDArray[Any] | None = None
    target_source: str = "none"

    def scan(self) -> Scan:
        """Check the content and make the scan.

        Raises:
            FormatError: as `make_scan`.
        """
        return make_scan(**{one.name: getattr(self, one.name) for one in fields(self)})


def make_scan(
    kspace: npt.NDArray[Any],
    *,
    name: str,
    meta: dict[str, Any],
    mask: npt.NDArray[Any] | None = None,
    padding: tuple[int, int] | None = None,
    recon_size: tuple[int, int] | None = None,
    target: npt.NDArray[Any] | None = None,
    target_source: str = "none",
) -> Scan:
    """Check the k-space that a reader found and make a scan of it, with its support.

    Args:
        kspace: complex `(slice, coil, readout, phase)`.
        name: name of the file, for messages.
        meta: becomes the scan's `meta`, with the findings of this function added. `reader_notes` come first in its
            `note`, `reader_warnings` in its `warnings`. `axes_by_rank` means that the number of axes alone determines
            the file's layout: the data are then checked against it, as with `axes_assumed`.
        mask: the file's own mask, `(phase,)` or `(readout, phase)`, axes of 1 allowed.
        padding: first acquired column and the one after the last, if the file says.
        recon_size: image size from the header; limited to the size of k-space.
        target: the file's own reconstruction, real `(slice, h, w)`.
        target_source: which it is.

    Raises:
        FormatError: empty, all-zero or non-finite k-space, assumed axes that cannot be right, or a mask, padding or
            reconstruction that does not fit.
    """
    samples = _checked(kspace, name, meta.get("slices"))
    if meta.get("axes_assumed") or meta.get("axes_by_rank"):
        refuse_wrong_axes(samples, [one for one in str(meta["axes"]).split() if one in ORDER], name)
    num_slices, _, readout, phase = samples.shape
    meta = _checked_geometry(meta, num_slices)
    inside, padding_note = _padded_columns(padding, samples)
    sampling = inspect_sampling(samples, inside)
    own = None if mask is None else _own_mask(mask, (readout, phase), inside, name)
    support, fully_sampled, note = _judge(sampling, own, inside)
    size = (min(recon_size[0], readout), min(recon_size[1], phase)) if recon_size else None
    reference = None
    if target is not None and np.isfinite(target).all():
        reference = _checked_target(target, samples, size, name)
    elif target is not None:
        told = f"The {target_source.removeprefix('file: ')} of the file has NaN or infinite values and is left out."
        meta = {**meta, "reader_warnings": [*meta.get("reader_warnings", ()), told]}
    if reference is None:
        target_source = RSS_OF_FULL if fully_sampled else "none"
    notes = "; ".join(part for part in (*meta.get("reader_notes", ()), padding_note, note) if part)
    empty = empty_slices(samples)
    found = {
        "fully_sampled": fully_sampled,
        "padding": list(padding) if padding is not None and not padding_note else None,
        "columns_with_data": int(sampling.columns.sum()),
        "empty_slices": empty,
        "warnings": _warnings(meta, empty, num_slices),
    }
    meta = {key: value for key, value in meta.items() if key not in ("reader_notes", "axes_by_rank")}
    return Scan(
        samples=samples,
        reference=reference,
        target_source=target_source,
        mask=own,
        support=support,
        recon_size=size or ((readout, phase) if reference is None else reference.shape[-2:]),
        meta={**meta, **found, **({"note": notes} if notes else {})},
    )


def sampled_pattern(scan: Scan) -> Mask:
    """Guess the mask from the zeros of k-space: positions above 1e-8 of the maximum in any coil or slice are sampled.

    `load` never makes this guess by itself, because a measured sample may be zero too. A pattern that is the same in
    every row with data becomes a `ColumnMask`.

    Raises:
        MaskError: nothing is sampled.
    """
    points: BoolArray = np.any(sampled_points(scan.samples), axis=0)
    rows, lines = np.any(points, axis=1), np.any(points, axis=0)
    # A measured sample may be exactly zero, but a sampled column has at most a few zeros.
    if not misses_too_much(rows) and (points[rows].mean(axis=0)[lines] > 0.99).all():
        return column_mask_from_lines(lines, kind="from-zeros", support=scan.support | lines)
    return PatternMask(points, source="from-zeros")


def _checked_geometry(meta: dict[str, Any], num_slices: int) -> dict[str, Any]:
    """Leave out a geometry that cannot be right, with a note."""
    if meta.get("geometry") is None:
        return meta
    try:
        positions = make_geometry(meta["geometry"]).positions
        told = "" if positions is None or len(positions) == num_slices else f"{len(positions)} positions of slices"
    except FormatError as error:
        told = str(error)
    if not told:
        return meta
    kept = {key: value for key, value in meta.items() if key != "geometry"}
    note = f"the geometry of the header is left out ({told}, {num_slices} slices)"
    return {**kept, "reader_notes": [*meta.get("reader_notes", ()), note]}


def _checked(kspace: npt.NDArray[Any], name: str, chosen: list[int] | None) -> npt.NDArray[np.complex64]:
    if 0 in kspace.shape:
        raise FormatError(
            f"expected k-space with samples, {name} has an empty array of shape {kspace.shape}: "
            "check how it was exported"
        )
    with np.errstate(over="ignore"):
        # Copy read-only memory, such as a memory-mapped file.
        samples = np.require(kspace, dtype=np.complex64, requirements=["C", "W"])
    # Slice by slice, to avoid a second copy of the whole in memory.
    broken = [number for number, part in enumerate(samples) if not np.isfinite(part).all()]
    if broken:
        numbers = broken if chosen is None else [chosen[number] for number in broken]
        listed = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
        others = ", or read the other slices alone" if len(broken) < len(samples) else ""
        raise FormatError(
            f"expected finite k-space, {name} has NaN or infinite samples, or larger ones than single precision holds, "
            f"in {len(broken)} of {len(samples)} slices (from 0: {listed}): find out where they come from before "
            f"anything is reconstructed{others}"
        )
    if not samples.any():
        where = "" if chosen is None else f" in the slices {str(chosen)[:80]}"
        cure = "check how it was exported" if chosen is None else "choose others, or check how it was exported"
        raise FormatError(
            f"expected k-space with signal, {name} has zeros only{where}: {cure}, or whether its numbers are smaller "
            "than single precision holds, 1e-38, which count as zero"
        )
    return samples


def _axes_warning(meta: Mapping[str, Any]) -> str | None:
    if not meta.get("axes_assumed"):
        return None
    return f"The axes are assumed to be {meta.get('axes')} (the file names none): give axes if they differ."


def _warnings(meta: dict[str, Any], empty: list[int], num_slices: int) -> list[str]:
    assumed = _axes_warning(meta)
    told = [*meta.get("reader_warnings", ()), *([] if assumed is None else [assumed])]
    if meta.get("simulated"):
        told.append(SIMULATED)
    if empty:
        listed = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
        told.append(f"{len(empty)} of {num_slices} slices are empty, with zeros only: {listed} (counted from 0).")
    return told


def _padded_columns(padding: tuple[int, int] | None, kspace: npt.NDArray[np.complex64]) -> tuple[BoolArray, str]:
    """Find the columns acquired according to the header; all columns, with a note, if that leaves none with data."""
    phase = int(kspace.shape[-1])
    everything = np.ones(phase, dtype=np.bool_)
    if padding is None:
        return everything, ""
    left, right = max(0, padding[0]), min(phase, padding[1])
    if left >= right or not kspace[..., left:right].any():
        return everything, f"the header's padding {list(padding)} leaves no columns with data and is ignored"
    inside = np.zeros(phase, dtype=np.bool_)
    inside[left:right] = True
    return inside, ""


def _own_mask(mask: npt.NDArray[Any], plane: tuple[int, int], inside: BoolArray, name: str) -> Mask:
    squeezed = drop_constant_axes(mask, plane)
    if squeezed.dtype.kind == "c" and not squeezed.imag.any():
        squeezed = squeezed.real
    if squeezed.shape not in ((plane[1],), plane) or squeezed.dtype.kind not in "biuf":
        raise FormatError(
            f"expected a mask ({plane[1]},) or {plane} beside the k-space of {name}, "
            f"got {mask.dtype} of shape {mask.shape}: it belongs to another scan, or differs between slices or coils, "
            "of which one at a time can be reconstructed with a mask of its own"
        )
    if not np.isin(squeezed, (0, 1)).all():
        raise FormatError(
            f"expected a mask of 0 and 1 in {name}, got {other_values(squeezed)}: "
            "threshold it first (mask > 0 if sampled positions are marked by another number)"
        )
    chosen = squeezed.astype(np.bool_) & inside
    if not chosen.any():
        raise FormatError(
            f"expected a mask that samples some of the acquired columns of {name}, got none: it belongs to another scan"
        )
    if chosen.ndim == 2 and not (chosen == chosen[:1]).all():
        return PatternMask(chosen, source="file")
    return column_mask_from_lines(chosen if chosen.ndim == 1 else chosen[0], kind="file", support=inside)


def _judge(sampling: Sampling, own: Mask | None, inside: BoolArray) -> tuple[BoolArray, bool, str]:
    """Find the support, whether it is fully sampled, and the notes for the user."""
    if own is None:
        if sampling.undersampled:
            return inside, False, f"{sampling.reason}, and the file has no mask: give the mask it was sampled with"
        dead = sampling.num_missing
        return sampling.columns, True, f"{dead} dead columns inside the support" if dead else ""
    kept = np.atleast_2d(own.array)
    if not sampling.undersampled and bool((sampling.columns[None] & ~kept).any()):
        return sampling.columns, True, "the file's mask leaves out samples that the file holds: it was not applied"
    if not sampling.undersampled and bool((kept | ~inside[None]).all()):
        return sampling.columns, True, ""  # a mask of everything
    return inside, False, ""


def _checked_target(
    target: npt.NDArray[Any], kspace: npt.NDArray[np.complex64], size: tuple[int, int] | None, name: str
) -> npt.NDArray[np.float32]:
    if target.ndim != 3 or target.shape[0] != kspace.shape[0] or target.dtype.kind not in "biuf" or 0 in target.shape:
        raise FormatError(
            f"expected a reconstruction of real numbers ({kspace.shape[0]}, h, w) in {name}, "
            f"got {target.dtype} of shape {target.shape}: it belongs to another scan"
        )
    return np.ascontiguousarray(center_crop(target, size or kspace.shape[-2:]), dtype=np.float32)


def _rss_of_full(kspace: Tensor, size: tuple[int, int]) -> Tensor:
    import torch

    from mri_recon.coils.combine import rss
    from mri_recon.transforms.fourier import ifft2c

    return torch.stack([center_crop(rss(ifft2c(part)), size) for part in kspace])
