"""Estimate the smooth phase of an image from the fully sampled centre of k-space."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.coils.checks import check_kspace
from mri_recon.coils.combine import combine, rss
from mri_recon.errors import ShapeError
from mri_recon.masks.calibration_region import center_block
from mri_recon.masks.echo import echo_center
from mri_recon.masks.types import Mask
from mri_recon.transforms.fourier import ifft2c

__all__ = ["smooth_phase_map", "smooth_phase_of_rows"]

# Fraction of the readout inside the window: rows beyond it contain anatomy rather than the phase of coil and echo.
READOUT_SHARE = 4


def smooth_phase_map(kspace: Tensor, mask: Mask | Tensor, sens_maps: Tensor | None = None) -> Tensor:
    """Estimate the phase of the low-resolution image of each slice, as complex numbers of modulus 1.

        m = sum_c conj(S_c) F^-1 (H y_c),   p = m / |m|,   and p = 1 where m = 0

    H is a Hann window inside the fully sampled centre of the mask, around the energy peak of that centre and not around
    N//2. An echo is often a few samples off N//2, which is a linear phase of the image, and a window of a few columns
    around N//2 would miss it. If the echo lies outside that centre (`echo.echo_center`), the sampled block around the
    echo replaces it. Along the readout, the window has about h/4 rows around the row of the largest energy of the slice
    (summed over coils and centre columns). Along the phase axis it is centred at the column of the largest energy, and
    reaches to the further end of the fully sampled centre.

    An image times conj(p) is nearly real where the phase is smooth, so that its real and imaginary parts can be
    penalised separately (`magnitude="parts"` in `mri_recon.solvers.admm`); its forward operator uses the maps times p.

    Args:
        kspace: y, complex `(slice, coil, readout, phase)`; only its fully sampled centre is read.
        mask: the sampling mask of that k-space.
        sens_maps: S, complex, one slice or all slices of k-space; `None` is 1 for one coil, and needs one coil.

    Returns:
        p, complex `(slice, readout, phase)`, of the type of `kspace`.

    Raises:
        ShapeError: k-space of another rank or type, maps that do not fit it, or several coils without maps.
        MaskError: the mask has no fully sampled centre.

    Source: Noll, Nishimura and Macovski, IEEE TMI 1991 (homodyne detection).
    """
    check_kspace(kspace)
    if sens_maps is None:
        if kspace.shape[1] > 1:
            raise ShapeError(
                f"expected sens_maps for {kspace.shape[1]} coils, got none: pass maps, or combine the coils"
            )
        sens_maps = torch.ones_like(kspace[0])
    rows, columns, block = _windowed_center(kspace, mask)
    low = torch.zeros_like(kspace)
    low[..., rows, columns] = block
    return direction(combine(ifft2c(low), sens_maps))


def smooth_phase_of_rows(kspace: Tensor, mask: Mask | Tensor, sens_maps: Tensor, rows: Tensor) -> Tensor:
    """Compute some rows of `smooth_phase_map` of one slice, from the samples of its windowed centre alone.

    Args:
        kspace: y, complex `(coil, readout, phase)`; only its fully sampled centre is read.
        mask: the sampling mask of that k-space.
        sens_maps: S at those rows, complex `(coil, row, phase)`.
        rows: int64 `(row,)`.

    Returns:
        p, complex `(row, phase)`.

    Raises:
        ShapeError: maps that do not fit the coils, the rows and the columns.
        MaskError: the mask has no fully sampled centre.
    """
    num_coils, h, w = kspace.shape
    if tuple(sens_maps.shape) != (num_coils, rows.numel(), w):
        raise ShapeError(
            f"expected sens_maps {(num_coils, rows.numel(), w)} at those rows, got {tuple(sens_maps.shape)}: "
            "pass the rows of the maps, coil axis first"
        )
    center_rows, center_columns, block = _windowed_center(kspace[None], mask)
    used = block[0].abs().amax(dim=(0, 2)) > 0
    frequencies = torch.arange(center_rows.start, center_rows.stop, device=kspace.device)[used]
    readout = _inverse_dft(rows, frequencies, h, kspace)
    columns = torch.arange(center_columns.start, center_columns.stop, device=kspace.device)
    phase = _inverse_dft(torch.arange(w, device=kspace.device), columns, w, kspace)
    images = readout @ (block[0][:, used] @ phase.T)
    return direction((sens_maps.conj() * images).sum(dim=0))


def _inverse_dft(pixels: Tensor, frequencies: Tensor, size: int, like: Tensor) -> Tensor:
    """Build the matrix `(pixel, frequency)` of the centred, orthonormal inverse transform."""
    # The product is reduced modulo the size first, because the angle of a large number would lose digits.
    turns = torch.outer(pixels - size // 2, frequencies - size // 2) % size
    angle = 2 * torch.pi / size * turns.double()
    return torch.polar(torch.full_like(angle, size**-0.5), angle).to(like.dtype)


def _windowed_center(kspace: Tensor, mask: Mask | Tensor) -> tuple[slice, slice, Tensor]:
    """Find rows and columns of the fully sampled centre, and its samples times H, the largest scaled to 1."""
    rows, columns = center_block(mask, at=echo_center(kspace, mask))
    rows, columns = (slice(*block.indices(n)) for block, n in zip((rows, columns), kspace.shape[-2:], strict=True))
    block = kspace[..., rows, columns]
    # Divide by the largest sample first: squares of 1e-30 underflow in single precision.
    largest = block.abs().flatten(1).amax(dim=1)[:, None, None, None]
    block = block / torch.where(largest > 0, largest, torch.ones_like(largest))
    energy = rss(block).square()
    window_rows = _window(energy.sum(dim=2), max(1, kspace.shape[-2] // READOUT_SHARE))
    window_columns = _window(energy.sum(dim=1), None)
    return rows, columns, block * (window_rows[:, None, :, None] * window_columns[:, None, None, :])


def direction(image: Tensor) -> Tensor:
    """Divide every pixel by its magnitude; pixels of 0 become 1."""
    magnitude = image.abs()
    found = magnitude > 0
    return torch.where(found, image / torch.where(found, magnitude, torch.ones_like(magnitude)), torch.ones_like(image))


def _window(energy: Tensor, width: int | None) -> Tensor:
    """Make a Hann window around the largest energy along the last axis, `(slice, n)`, zero from half its width away.

    A width of `None` reaches to the further end.
    """
    n = energy.shape[-1]
    peak = energy.argmax(dim=-1, keepdim=True)
    half = torch.maximum(peak, n - 1 - peak) + 1 if width is None else (width + 1) / 2
    share = (torch.arange(n, device=energy.device) - peak).to(energy.dtype) / half
    return torch.where(share.abs() < 1, 0.5 * (1 + torch.cos(torch.pi * share)), torch.zeros_like(share))
