"""Check k-space and coil sensitivity maps before anything is computed from them."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.errors import FormatError, ShapeError

__all__ = ["check_kspace", "check_maps_fit", "check_signal", "checked_maps"]


def check_kspace(kspace: Tensor, advice: str = "a single image of one coil is kspace[None, None]") -> None:
    """Require complex k-space `(slice, coil, readout, phase)` without an empty axis.

    Args:
        kspace: the k-space to check.
        advice: advice to the user that ends the message.

    Raises:
        ShapeError: another rank or type, or an axis of no samples.
    """
    if kspace.ndim != 4 or not kspace.is_complex() or 0 in kspace.shape:
        raise ShapeError(
            f"expected complex k-space (slice, coil, readout, phase), got {kspace.dtype} {tuple(kspace.shape)}: "
            f"{advice}"
        )


def check_signal(kspace: Tensor) -> None:
    """Require usable k-space: the right shape, finite, and a signal in every slice.

    Raises:
        ShapeError: as `check_kspace`.
        FormatError: samples that are not finite, or a slice of zeros.
    """
    check_kspace(kspace)
    largest = _largest_part(kspace)
    if not bool(torch.isfinite(largest).all()):
        raise FormatError("expected finite k-space, got infinite or not-a-number samples: repair or mask them out")
    empty = (largest == 0).nonzero().flatten().tolist()
    if empty:
        raise FormatError(f"expected a signal in every slice, got only zeros in slices {empty}: leave them out")


def check_maps_fit(sens_maps: Tensor, kspace: Tensor) -> None:
    """Require complex sensitivity maps of one slice or of all slices of k-space.

    Raises:
        ShapeError: maps of another shape, or real ones.
    """
    if tuple(sens_maps.shape) not in (tuple(kspace.shape), tuple(kspace.shape[1:])) or not sens_maps.is_complex():
        raise ShapeError(
            f"expected complex sens_maps {tuple(kspace.shape[1:])} or {tuple(kspace.shape)} to fit the k-space, got "
            f"{sens_maps.dtype} of shape {tuple(sens_maps.shape)}: give one map a coil"
        )


def checked_maps(sens_maps: Tensor, kspace: Tensor) -> Tensor:
    """Check the sensitivity maps of a user and bring them to shape, precision and device of the k-space.

    Args:
        sens_maps: complex, one slice or all slices of k-space, largest magnitude of a slice between 1e-6 and 1e6.
        kspace: complex `(slice, coil, readout, phase)`.

    Returns:
        the maps in the shape and precision, and on the device, of `kspace`.

    Raises:
        ShapeError: as `check_maps_fit`.
        FormatError: maps that are not finite, or far from normalised.
    """
    check_maps_fit(sens_maps, kspace)
    largest = _largest_part(sens_maps if sens_maps.ndim == 4 else sens_maps[None])
    if not bool(((largest > 1e-6) & (largest < 1e6)).all()):
        raise FormatError(
            "expected finite sens_maps whose largest magnitude in each slice is near 1, between 1e-6 and 1e6, got "
            f"{largest.tolist()}: normalise them or estimate them again"
        )
    return sens_maps.to(device=kspace.device, dtype=kspace.dtype).expand(kspace.shape)


def _largest_part(x: Tensor) -> Tensor:
    """Return the largest |Re| or |Im| of each item, in one pass; NaN if an entry is NaN."""
    extremes = [torch.aminmax(item) for item in torch.view_as_real(x)]  # item by item: along an axis it is far slower
    return torch.stack([torch.maximum(-least, most) for least, most in extremes])
