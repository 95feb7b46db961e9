"""The blocking work behind a request, as plain functions: they know files, fields and the library, nothing of HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mri_recon.compare import Comparison, compare
from mri_recon.errors import MriReconError
from mri_recon.io import Scan, load
from mri_recon.masks import Mask, undersample
from mri_recon.methods import Reconstruction, reconstruct
from mri_recon.sampling import choose_mask
from mri_recon.service.problems import Problem, problem_of
from mri_recon.service.schemas import CompareFields, ReconstructionFields, ScanFields
from mri_recon.service.settings import Settings

__all__ = ["Outcome", "run_comparison", "run_reconstruction"]


@dataclass(frozen=True)
class Outcome:
    """A reconstruction with what it was made from."""

    reconstruction: Reconstruction
    scan: Scan
    mask: Mask
    slice_index: int


def run_reconstruction(
    files: Mapping[str, Path], fields: ReconstructionFields, options: Mapping[str, Any], settings: Settings
) -> Outcome:
    """The same as `load`, `undersample` and `reconstruct` in Python.

    Raises:
        Problem: whatever the library refuses.
    """
    try:
        scan, mask, index = _prepare(files, fields, settings)
        _check_levels(scan, options)
        result = reconstruct(
            undersample(scan.kspace, mask), mask, method=fields.method, device=settings.device, **options
        )
    except MriReconError as error:
        raise problem_of(error) from error
    return Outcome(result, scan, mask, index)


def run_comparison(
    files: Mapping[str, Path],
    fields: CompareFields,
    methods: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    settings: Settings,
) -> tuple[Comparison, int]:
    """The same as `mri_recon.compare.compare` in Python, and the slice to show.

    Raises:
        Problem: whatever the library refuses.
    """
    try:
        scan, mask, index = _prepare(files, fields, settings)
        for name, given in options.items():
            _check_levels(scan, given, prefix=f"{name}.")
        return compare(scan, mask, methods, device=settings.device, options=options), index
    except MriReconError as error:
        raise problem_of(error) from error


def _prepare(files: Mapping[str, Path], fields: ScanFields, settings: Settings) -> tuple[Scan, Mask, int]:
    if (fields.mask is not None or "mask" in files) and fields.acceleration is not None:
        raise Problem(
            "conflicting-masks",
            f"expected one mask, got 'mask' and an acceleration of {fields.acceleration:g}: give one of them",
        )
    scan = load(files["file"], axes=fields.axes, variable=fields.variable, max_bytes=settings.max_decoded_bytes)
    index = scan.num_slices // 2 if fields.slice is None else fields.slice
    if index >= scan.num_slices:
        raise Problem(
            "invalid-request", f"slice: expected 0 to {scan.num_slices - 1}, got {index}: choose one of these"
        )
    _check_sampling(scan, fields, has_file="mask" in files)
    mask = choose_mask(
        scan,
        mask_file=files.get("mask"),
        acceleration=fields.acceleration,
        center_fraction=fields.center_fraction,
        num_low_frequencies=fields.num_low_frequencies,
        seed=fields.seed,
        kind=fields.mask_kind,
    )
    return scan, mask, index


def _check_levels(scan: Scan, options: Mapping[str, Any], *, prefix: str = "") -> None:
    """Sides are padded to multiples of 2^levels: without a bound one small number takes all memory there is."""
    levels = options.get("levels")
    most = min(scan.kspace.shape[-2:]).bit_length() - 1
    if isinstance(levels, int) and not 1 <= levels <= max(most, 1):
        raise Problem(
            "invalid-option",
            f"option '{prefix}levels': expected 1 to {max(most, 1)} for images of "
            f"{scan.kspace.shape[-2]} x {scan.kspace.shape[-1]}, got {levels}: leave it out for the default",
        )


def _check_sampling(scan: Scan, fields: ScanFields, *, has_file: bool) -> None:
    """The cases of `choose_mask` whose cure has another name here than on the command line."""
    if has_file:
        return
    if fields.acceleration is None and scan.mask is None:
        raise Problem(
            "missing-mask",
            "expected a sampling mask, got a scan that has none of its own: give the field 'acceleration', e.g. 4, "
            "for a fully sampled scan, or the mask that it was sampled with as a file in the field 'mask'",
        )
    if fields.acceleration is not None and not scan.fully_sampled:
        raise Problem(
            "invalid-mask",
            "expected fully sampled k-space to draw a mask for, got a scan that is already undersampled: leave "
            "'acceleration' out, and give mask=file or the mask as a file",
        )
