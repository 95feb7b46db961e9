"""Finish k-space sorted from a scanner's lines: repeats averaged, partitions to slices, oversampling removed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mri_recon._arrays import center_window
from mri_recon.errors import FormatError
from mri_recon.transforms.array_fourier import fft_of_array, ifft_of_array

__all__ = ["average_repeats", "different_lines", "noise_scale", "partitions_to_slices", "without_oversampling"]


def average_repeats(
    kspace: npt.NDArray[np.complex64], count: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], int]:
    """Divide the sum of repeated lines by their number, in place.

    Args:
        kspace: sums, `(slab, partition, coil, readout, phase)`.
        count: number of lines in each place, `(slab, partition, phase)`.

    Returns:
        the columns that were acquired anywhere, and the largest number of repeats of a line.
    """
    repeats = int(count.max())
    if repeats > 1:
        with np.errstate(over="ignore", invalid="ignore"):
            kspace /= np.maximum(count, 1)[:, :, None, None].astype(np.float32)
    return np.asarray(count.any(axis=(0, 1)), dtype=np.bool_), repeats


def noise_scale(noise_time: float, image_time: float, bandwidth: float = 1.0, repeats: int = 1) -> np.float32:
    """Compute the factor from samples of a noise scan to the noise of image lines.

    The power of white noise is inversely proportional to the sample time t, and a receiver filter that is not flat
    passes the fraction b of it:

        scale^2 = t_noise / (t_image b r),

    r the number of averaged lines. Image lines are read in the middle of the filter, where it is flat.

    Args:
        noise_time, image_time: sample times in one unit; where one of them is not known (0) their ratio counts as 1.
        bandwidth: relative receiver noise bandwidth b.
        repeats: number of lines that were averaged.

    Source: Kellman and McVeigh, Magn Reson Med 54:1439 (2005).
    """
    ratio = noise_time / image_time if noise_time > 0 and image_time > 0 else 1.0
    power = ratio / (bandwidth * repeats) if bandwidth > 0 and repeats > 0 else ratio
    return np.float32(np.sqrt(power) if np.isfinite(power) and power > 0 else 1.0)


def different_lines(name: str) -> FormatError:
    """Make the error of a file whose slices or partitions have different lines."""
    return FormatError(
        f"expected the same lines in every slice and partition of {name}, got different ones: it was not finished, "
        "or it is undersampled in two directions, which is not read; read some slices only"
    )


def partitions_to_slices(kspace: npt.NDArray[np.complex64], center: int, name: str) -> npt.NDArray[np.complex64]:
    """Transform the partitions of a 3-D scan to slices.

    Args:
        kspace: `(slab, partition, coil, readout, phase)`.
        center: partition of the centre of k-space; 0 if the file does not say.
        name: name of the file, for messages.

    Raises:
        FormatError: partial Fourier along partitions.
    """
    slabs, partitions = kspace.shape[:2]
    if center > 0 and abs(center - partitions // 2) > 2:
        raise FormatError(
            f"expected all partitions of the 3-D scan {name}, their centre is number {center} of {partitions}: "
            "partial Fourier along partitions is not read"
        )
    images = np.stack([ifft_of_array(slab, (0,)) for slab in kspace])
    return images.reshape(slabs * partitions, *kspace.shape[2:])


def without_oversampling(
    kspace: npt.NDArray[np.complex64], factor: float
) -> tuple[npt.NDArray[np.complex64], list[str]]:
    """Crop the image along the readout to the requested field of view."""
    size = round(kspace.shape[-2] / factor)
    if size >= kspace.shape[-2]:
        return kspace, []
    out = np.empty((*kspace.shape[:2], size, kspace.shape[-1]), dtype=np.complex64)
    rows, _ = center_window(kspace.shape[-2:], (size, kspace.shape[-1]))
    for index, part in enumerate(kspace):  # slice by slice, to avoid a second copy of the whole in memory
        out[index] = fft_of_array(ifft_of_array(part, (-2,))[:, rows], (-2,))
    return out, [f"readout oversampling of {factor:g} removed"]
