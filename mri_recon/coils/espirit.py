"""Estimate coil sensitivity maps by ESPIRiT.

At each pixel, the map is the eigenvector with eigenvalue 1 of an operator computed from the calibration region.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon._arrays import as_complex_tensor
from mri_recon._system.threads import Tell, one_thread, side_by_side
from mri_recon.coils._eigenvectors import orthogonal_iteration, principal_coil, row_chunks, turn_to
from mri_recon.coils.checks import check_kspace
from mri_recon.errors import FormatError, MaskError, MethodError
from mri_recon.masks.calibration_region import calibration_block
from mri_recon.masks.convert import as_mask
from mri_recon.masks.echo import echo_center

if TYPE_CHECKING:
    from mri_recon.masks.types import Mask

__all__ = [
    "EspiritMaps",
    "check_options",
    "checked_largest",
    "crop_weight",
    "espirit_maps",
    "kernel_correlation",
    "kernel_that_fits",
    "pixel_matrices",
    "ramps",
]

_MIN_KERNEL = 2
"""Minimum number of kernel samples along an axis: one sample cannot show how sensitivities vary along the axis."""

_COARSE_STEP = 4
"""Every fourth pixel of every fourth row is decomposed exactly, and its eigenvectors start the iteration at its
neighbours. In small images the step is smaller, to have at least two such pixels in the finest period of G.
"""

_ITERATIONS = 6
"""Number of orthogonal iterations at every pixel from that start."""


@dataclass(frozen=True)
class EspiritMaps:
    """Hold sensitivity maps, and the eigenvalues that tell how reliable they are.

    Attributes:
        maps: S, complex `(slice, set, coil, readout, phase)`; methods take `maps[:, 0]` as `sens_maps`.
        eigenvalues: real `(slice, set, readout, phase)`, decreasing along the sets: near 1 where there is signal that
            needs the set, small elsewhere.
        kernel_size: `(readout, phase)` samples of the kernel; `(0, 0)` for one coil, which needs no kernel.
        calibration_size: `(readout, phase)` samples of the calibration block; `(0, 0)` for one coil.
    """

    maps: Tensor
    eigenvalues: Tensor
    kernel_size: tuple[int, int]
    calibration_size: tuple[int, int]


@one_thread()
def espirit_maps(
    kspace: Tensor | npt.NDArray[Any],
    mask: Mask | npt.ArrayLike | Tensor,
    *,
    num_sets: int = 1,
    kernel_size: int = 6,
    calibration_size: int = 24,
    threshold: float = 0.001,
    crop: float = 0.8,
    soft_crop: bool = True,
    compiled: bool = False,
) -> EspiritMaps:
    """Estimate sensitivity maps from the space that the k-space patches of the fully sampled centre span.

    The patches of `kernel_size` samples of all coils span a space of much smaller dimension than a patch has samples.
    Projecting every patch onto this space, and averaging each sample over the patches that contain it, leaves the
    k-space of the object unchanged. In the image, this operation is one Hermitian coil-by-coil matrix at each pixel,
    with eigenvalues in [0, 1]:

        G(r) S(r) = S(r)   where there is signal,   S(r) the sensitivities at r with sum_c |S_c|^2 = 1.

    Set j holds the eigenvector of the j-th largest eigenvalue lambda_j(r). The eigenvalues of further sets are near 1
    where one vector cannot explain the data (an object that folds over, motion).

    Phase: the phase of an eigenvector is arbitrary. The eigenvector is rotated so that its part in the first virtual
    coil (the principal component of the calibration data, with its largest entry real and positive) is real and
    positive, as in BART.

    Crop: the vectors are multiplied by a weight w(lambda), so sum_c |S_c|^2 = w^2, which is 1 on the support. The soft
    crop, as `bart ecalib -S`, is w = 1/2 + x / (1 + x^2) with x = (sqrt(lambda) - crop) / (1 - crop) limited to [-1,
    1]. The hard crop, BART's default, is w = 1 where lambda > crop, else 0.

    Narrow centres: along each axis the kernel is at most a third of the calibration block, and at least 2 samples, so
    that there are always enough patches to find their common space, even with few lines and many coils. BART keeps its
    kernel as long as it fits at all. A single line is an error, because it carries no information along the phase axis.
    One coil has the map 1 and the eigenvalue 1 everywhere, and needs no centre.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, tensor or array; only the calibration block is read, of each
            slice by itself.
        mask: the sampling mask of that k-space.
        num_sets: sets of maps, at most the number of coils.
        kernel_size: maximum number of kernel samples along each axis.
        calibration_size: maximum number of samples of the calibration block along each axis, around the centre of
            k-space, or around an echo off the centre (`echo.echo_center`).
        threshold: threshold of the null space: squared singular values of the patches below this fraction of the
            largest one count as noise, as `bart ecalib -t`.
        crop: threshold of the crop in [0, 1), as `bart ecalib -c`.
        soft_crop: use the soft crop instead of the hard one.
        compiled: compute one set on a CPU in a loop compiled by Numba, where it is installed. The maps are the same up
            to rounding, in two thirds of the time once the compiler is loaded.

    Returns:
        `EspiritMaps`, in the precision and on the device of `kspace`; independent of the scale of `kspace`. Additional
        memory holds, for each slice computed at the same time, two copies of its maps and the matrices of a fixed
        number of pixels.

    Raises:
        ShapeError: `kspace` is not complex `(slice, coil, readout, phase)`.
        MaskError: the mask does not fit, or has no fully sampled centre of at least 2 samples along both axes.
        FormatError: calibration data that are not finite, have rows or columns of zeros, or a slice without any signal.
        MethodError: an option out of range.

    Source: Uecker et al., Magn Reson Med 71:990-1001, 2014.
    """
    check_options(num_sets, kernel_size, calibration_size, threshold, crop)
    kspace = as_complex_tensor(kspace)
    check_kspace(kspace, "keep the slice and coil axes, also for one")
    checked_mask = as_mask(mask, kspace.shape)
    num_slices, num_coils, h, w = kspace.shape
    if num_sets > num_coils:
        raise MethodError(f"expected at most one set of maps a coil, got num_sets={num_sets} and {num_coils} coils")
    maps = kspace.new_ones(num_slices, num_sets, num_coils, h, w)
    values = kspace.real.new_ones(num_slices, num_sets, h, w)
    if num_coils == 1:
        return EspiritMaps(maps, values, (0, 0), (0, 0))
    at = echo_center(kspace, checked_mask)
    rows, columns = calibration_block(checked_mask, kspace.shape, (calibration_size, calibration_size), at=at)
    block = kspace[..., rows, columns]
    size = (block.shape[-2], block.shape[-1])
    kernel = kernel_that_fits(kernel_size, size, (h, w))
    largest = checked_largest(block)

    def one_slice(number: int, _: Tell) -> None:
        vectors, eigenvalues = maps[number], values[number]  # views, which the steps fill in place
        calibration = block[number] / largest[number]
        operator = kernel_correlation(calibration, kernel, threshold)  # 1. patches -> their common space -> A(d)
        _decompose(operator, vectors, eigenvalues, compiled)  # 2. G(r) from A(d), its eigenvectors at each pixel
        turn_to(vectors, principal_coil(calibration))  # 3. phase
        vectors *= crop_weight(eigenvalues, crop, soft=soft_crop)[:, None]  # 4. crop

    side_by_side(one_slice, range(num_slices), device=kspace.device.type)
    return EspiritMaps(maps, values, kernel, size)


def check_options(num_sets: int, kernel_size: int, calibration_size: int, threshold: float, crop: float) -> None:
    """Refuse options of `espirit_maps` that are out of range."""
    for name, value, least in (
        ("num_sets", num_sets, 1),
        ("kernel_size", kernel_size, _MIN_KERNEL),
        ("calibration_size", calibration_size, _MIN_KERNEL),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise MethodError(f"expected {name} as an integer of at least {least}, got {value!r}")
    if not 0 < threshold < 1:
        raise MethodError(f"expected a threshold in (0, 1), got {threshold}: 0.001 is BART's")
    if not 0 <= crop < 1:
        raise MethodError(f"expected crop in [0, 1), got {crop}: 0.8 is BART's")


def kernel_that_fits(wanted: int, block: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
    """Choose a kernel: at most a third of the block, and at least `_MIN_KERNEL` samples along each axis.

    It has 1 sample along an axis of k-space that has one sample.
    """
    if any(samples < min(_MIN_KERNEL, full) for samples, full in zip(block, image, strict=True)):
        raise MaskError(
            f"expected a fully sampled centre of at least {_MIN_KERNEL} x {_MIN_KERNEL} samples (readout x phase) to "
            f"estimate maps from, got {block[0]} x {block[1]}: sample more central lines (center_fraction or "
            "num_low_frequencies), or pass sens_maps"
        )
    ky, kx = (min(wanted, samples, max(_MIN_KERNEL, samples // 3)) for samples in block)
    return ky, kx


def checked_largest(block: Tensor) -> Tensor:
    """Find the largest magnitude of each slice; refuse data that are not finite, zero, or do not fill the block."""
    largest = block.abs().flatten(1).amax(dim=1)
    if not bool(torch.isfinite(largest).all()):
        raise FormatError(
            "expected finite k-space, got infinite or not-a-number samples in its centre: repair or mask them out"
        )
    empty = (largest == 0).nonzero().flatten().tolist()
    if empty:
        raise FormatError(
            f"expected a signal in the centre of every slice, got only zeros in slices {empty}: leave them out, or "
            "check that the mask belongs to this k-space"
        )
    filled = (block != 0).any(dim=1)
    for axis, dim in (("rows", 2), ("columns", 1)):
        missing = (~filled.any(dim=dim)).any(dim=0).nonzero().flatten().tolist()
        if missing:
            raise FormatError(
                f"expected samples in the whole centre that the mask calls acquired, got only zeros in {axis} "
                f"{missing} of its {tuple(block.shape[-2:])} samples: correct the mask, or lower calibration_size"
            )
    return largest


def kernel_correlation(data: Tensor, kernel: tuple[int, int], threshold: float) -> Tensor:
    """Compute the Fourier coefficients of the image-domain operator, complex `(coil, coil, 2 ky - 1, 2 kx - 1)`.

    The patches of the calibration data span a space with the projector Pi. Projecting every patch of a k-space, and
    averaging each sample over the patches that contain it, is a convolution. In the image, the convolution is a
    coil-by-coil matrix at each pixel,

        G(r) = sum_d A(d) exp(-2 pi i d r / N),   A(d) = 1/|k| sum_m Pi[m, m + d].
    """
    num_coils, (ky, kx) = data.shape[0], kernel
    # (row of the kernel, column, coil) x (position in the block)
    patches = data.unfold(1, ky, 1).unfold(2, kx, 1).permute(3, 4, 0, 1, 2).reshape(ky * kx * num_coils, -1)
    basis = _signal_space(patches, threshold)
    projector = (basis @ basis.mH).reshape(ky, kx, num_coils, ky, kx, num_coils).permute(0, 1, 2, 5, 3, 4)
    correlation = data.new_zeros(num_coils, num_coils, 2 * ky - 1, 2 * kx - 1)
    for my in range(ky):
        for mx in range(kx):
            correlation[..., ky - 1 - my : 2 * ky - 1 - my, kx - 1 - mx : 2 * kx - 1 - mx] += projector[my, mx]
    return correlation / (ky * kx)


def _signal_space(patches: Tensor, threshold: float) -> Tensor:
    """Find an orthonormal basis of the columns: left singular vectors with energy above `threshold` of the largest.

    The smaller of the two Gram matrices is decomposed. Only squared singular values down to `threshold` of the largest
    are needed, and these are accurate after squaring even in single precision.
    """
    if patches.shape[0] <= patches.shape[1]:
        energy, vectors = torch.linalg.eigh(patches @ patches.mH)
        basis: Tensor = vectors[:, energy > threshold * energy[-1]]
        return basis
    energy, vectors = torch.linalg.eigh(patches.mH @ patches)
    kept = energy > threshold * energy[-1]
    basis = patches @ (vectors[:, kept] / energy[kept].sqrt())
    return basis


def _decompose(operator: Tensor, vectors: Tensor, eigenvalues: Tensor, compiled: bool) -> None:
    """Write the leading eigenvectors `(set, coil, h, w)` and eigenvalues `(set, h, w)` of G at every pixel in place."""
    num_sets, num_coils, h, w = vectors.shape
    ramps_y, ramps_x = ramps(h, operator.shape[2], operator), ramps(w, operator.shape[3], operator)
    step_y, step_x = _coarse_step(h, operator.shape[2]), _coarse_step(w, operator.shape[3])
    coarse_y, near_y = _coarse_grid(h, step_y, vectors.device)
    coarse_x, near_x = _coarse_grid(w, step_x, vectors.device)
    starts = []
    for rows in row_chunks(coarse_y.numel(), coarse_x.numel() * num_coils**2, vectors.device):
        matrices = pixel_matrices(operator, ramps_y[coarse_y[rows]], ramps_x[coarse_x])
        exact = torch.linalg.eigh(matrices.permute(2, 3, 0, 1)).eigenvectors
        starts.append(exact[..., -num_sets:].flip(-1).permute(3, 2, 0, 1))
    start = torch.cat(starts, dim=2)[..., near_x]
    for rows in row_chunks(h, w * num_coils**2, vectors.device):
        matrices = pixel_matrices(operator, ramps_y[rows], ramps_x)
        values, found = orthogonal_iteration(matrices, start[:, :, near_y[rows]], _ITERATIONS, compiled=compiled)
        if num_sets > 1:
            values, order = values.sort(dim=0, descending=True)
            found = found.gather(0, order.unsqueeze(1).expand_as(found))
        vectors[:, :, rows], eigenvalues[:, rows] = found, values


def ramps(size: int, num_offsets: int, like: Tensor) -> Tensor:
    """Compute `exp(-2 pi i d r / size)`, `(pixel, offset)`, for pixels r counted from the centre and offsets d."""
    pixels = torch.arange(size, device=like.device, dtype=torch.float64) - size // 2
    offsets = torch.arange(num_offsets, device=like.device, dtype=torch.float64) - num_offsets // 2
    angle = -2 * torch.pi / size * torch.outer(pixels, offsets)
    return torch.polar(torch.ones_like(angle), angle).to(like.dtype)


def pixel_matrices(operator: Tensor, ramps_y: Tensor, ramps_x: Tensor) -> Tensor:
    """Compute G at some rows and columns, `(coil, coil, row, column)`: one axis after the other, without padding."""
    return ramps_y @ operator @ ramps_x.T


def _coarse_step(size: int, num_offsets: int) -> int:
    return max(1, min(_COARSE_STEP, size // (2 * num_offsets)))


def _coarse_grid(size: int, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """List the coarse-grid pixels along an axis, and for every pixel the list index of a nearby one."""
    coarse = torch.arange(min(step // 2, size - 1), size, step, device=device)
    near = torch.arange(size, device=device) // step
    return coarse, near.clamp(max=coarse.numel() - 1)


def crop_weight(eigenvalues: Tensor, crop: float, *, soft: bool) -> Tensor:
    """Compute the crop weight: 1 where the eigenvalue is 1, towards 0 below `crop`; see `espirit_maps`."""
    if not soft:
        return (eigenvalues > crop).to(eigenvalues.dtype)
    x = ((eigenvalues.clamp_min(0).sqrt() - crop) / (1 - crop)).clamp(-1, 1)
    return (1 + 2 * x / (1 + x.square())) / 2
