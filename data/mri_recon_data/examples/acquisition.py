"""Simulate the scan of one image as a training example: phase, coils, noise, partial echo, undersampling.

y_c = P F (S_c x + n_c). For a mask of columns only the sampled columns are simulated, and maps, phase and target are
computed for the rows that the example keeps; `network_measurement` computes the same for whole slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mri_recon.coils.combine import combine
from mri_recon.coils.espirit_interpolated import interpolated_espirit_maps
from mri_recon.coils.noise import sigma_from_below
from mri_recon.coils.phase import smooth_phase_of_rows
from mri_recon.masks.types import ColumnMask, Mask
from mri_recon.models.inference import image_scale, network_measurement, unit_maps
from mri_recon.operators.measurement import Measurement
from mri_recon.operators.sense import SenseOperator, in_fft_order
from mri_recon.transforms.fourier import fft1c, fft2c, ifft1c, ifft2c
from mri_recon_data.examples.example import Example
from mri_recon_data.examples.phase import rough_phase, smooth_phase
from mri_recon_data.scenes.crop import fold_columns
from mri_recon_data.simulation.arrays import ArrayConfig, ReceiveArray, draw_array, draw_num_coils
from mri_recon_data.simulation.kspace import complex_noise
from mri_recon_data.simulation.sampling import WideSamplingConfig, draw_columns, draw_pattern, draw_support

__all__ = ["AcquisitionConfig", "Scan", "acquire", "draw_example", "example_of_rows", "example_of_slice", "with_phase"]

Rng = np.random.Generator

_OBJECT = 0.1  # of bright parts: brighter pixels belong to the object
_TRIES = 4
_DARK = 0.4  # of the mean brightness: a band below it holds next to nothing of the object
_FAINT = 3.0  # bright parts of the image over those of the zero-filled image
_LEAST_MAPPED = 0.05
_NOISE_ROWS = 80
_SCALE_ROWS = 24  # the scale of a slice is estimated from about so many rows


class AcquisitionConfig(BaseModel):
    """Ranges and probabilities of a simulated scan of an image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    snr: tuple[float, float] = Field(
        default=(5.0, 500.0), description="log-uniform range of bright signal to sqrt(E|n|^2) of one sample"
    )
    phase: tuple[float, float] = Field(default=(0.0, 1.5), description="smooth phase, radians")
    strong_phase: float = Field(default=0.1, ge=0, le=1, description="probability of a phase up to three times that")
    rough: float = Field(default=0.0, ge=0, le=1, description="probability of a rough phase in addition")
    rough_phase: tuple[float, float] = Field(
        default=(0.1, 3.0), description="log-uniform range of the standard deviation of the rough phase, radians"
    )
    max_shift: tuple[float, float] = Field(
        default=(4.0, 1.5), description="largest shift of the k-space centre along readout and phase, samples"
    )
    tight: float = Field(
        default=0.15, ge=0, le=1, description="probability, for one coil, of a field of view narrower than the object"
    )
    tight_width: tuple[float, float] = Field(
        default=(0.7, 1.0), description="width of that field of view over the object's"
    )
    partial_echo: float = Field(default=0.1, ge=0, le=1, description="probability of an asymmetric echo")
    echo_share: tuple[float, float] = Field(
        default=(0.65, 1.0), description="share of the readout that an asymmetric echo keeps"
    )
    given: float = Field(default=0.2, ge=0, le=1, description="probability of given maps, for several coils")
    cropped: float = Field(default=0.6, ge=0, le=1, description="probability that given maps end at the object's edge")
    calibration: tuple[int, int] = Field(default=(16, 24), description="range of calibration samples along an axis")
    kernel: tuple[int, int] = Field(default=(5, 5), description="range of ESPIRiT's kernel size in training")
    array: ArrayConfig = ArrayConfig()
    sampling: WideSamplingConfig = WideSamplingConfig()


@dataclass(frozen=True)
class Scan:
    """One undersampled slice and its truth.

    Attributes:
        masked: k-space `(coil, readout, phase)`, zero where not sampled.
        mask: which samples were taken.
        maps: true sensitivities S of these coils, complex `(coil, h, w)`; compression leaves sum |S|^2 below 1.
        image: x, complex `(h, w)`; of one coil with its noise, as a real reference has it.
        sigma: noise sqrt(E|n|^2) of one sample, the mean over the coils.
    """

    masked: Tensor
    mask: Mask
    maps: Tensor
    image: Tensor
    sigma: float


def with_phase(magnitude: Tensor, rng: Rng, config: AcquisitionConfig) -> Tensor:
    """Give a magnitude image a random phase: smooth, and with the probability `config.rough` rough too."""
    strength = float(rng.uniform(*config.phase))
    if rng.random() < config.strong_phase:
        strength *= float(rng.uniform(1, 3))
    shape = (int(magnitude.shape[0]), int(magnitude.shape[1]))
    phase = smooth_phase(shape, rng, strength=strength, max_shift=config.max_shift)
    phase = phase + float(rng.uniform(-np.pi, np.pi))
    if config.rough and rng.random() < config.rough:
        rough = float(np.exp(rng.uniform(*np.log(config.rough_phase))))
        phase = phase + rough_phase(magnitude, rng, strength=rough)
    return torch.polar(magnitude, phase)


def acquire(
    image: Tensor,
    mask: Mask,
    array: ReceiveArray,
    rng: Rng,
    *,
    sigma: float,
    readout: slice = slice(None),
    num_virtual: int | None = None,
) -> Scan:
    """Simulate the samples of an image at the positions of a mask.

    Args:
        image: x, complex `(h, w)`.
        mask: of columns, or a pattern.
        array: sensitivities and noise of the coils.
        rng: draws the noise.
        sigma: noise sqrt(E|n|^2) of one sample, the mean over the coils.
        readout: acquired rows of k-space; the others are zero (asymmetric echo).
        num_virtual: compress to so many coils.
    """
    width = int(image.shape[1])
    columns = isinstance(mask, ColumnMask)
    lines = torch.from_numpy(mask.lines.copy()) if isinstance(mask, ColumnMask) else torch.ones(width, dtype=torch.bool)
    one_coil = array.maps.shape[0] == 1
    keep = torch.zeros(int(image.shape[0]), dtype=torch.bool)
    keep[readout] = True
    if not bool(keep.all()):
        image = ifft1c(fft1c(image, dim=-2) * keep[:, None], dim=-2)
    # Noise is drawn where it is sampled; of one coil everywhere, since its reference holds it too.
    if one_coil:
        kspace = fft2c(image[None])
        kspace = (kspace + _noise(kspace.shape, rng, array, sigma)) * keep[:, None]
        image = ifft2c(kspace)[0]
        taken = kspace[..., lines]
    else:
        taken = fft1c(fft1c(array.maps * image)[..., lines], dim=-2)
        taken = (taken + _noise(taken.shape, rng, array, sigma)) * keep[:, None]
    if not columns:
        taken = taken * mask.tensor()
    maps = array.maps
    if num_virtual is not None and num_virtual < maps.shape[0]:
        flat = taken.flatten(1)
        matrix = torch.linalg.eigh(flat @ flat.mH).eigenvectors.mH.flip(0)[:num_virtual]
        taken = (matrix @ flat).reshape(num_virtual, *taken.shape[1:])
        maps = (matrix @ maps.flatten(1)).reshape(num_virtual, *maps.shape[1:])
    masked = taken.new_zeros(int(taken.shape[0]), *image.shape)
    masked[..., lines] = taken
    return Scan(masked, mask, maps, image, sigma)


def example_of_rows(scan: Scan, rng: Rng, config: AcquisitionConfig, rows: int) -> Example:
    """Make the scaled example of a band of rows, its maps estimated from the fully sampled centre.

    The scale is that of the whole slice (`image_scale`), computed from every few rows.

    Args:
        scan: with a mask of columns.
        rng: draws the band and the random parts of the calibration.
        config: ranges.
        rows: of the band, at most.

    Raises:
        MaskError, FormatError: as `interpolated_espirit_maps`.
    """
    height = int(scan.image.shape[0])
    rows = min(rows, height)
    start = _band_start(scan.image, rows, rng)
    step = max(1, height // _SCALE_ROWS)
    sparse = torch.arange(step // 2, height, step)
    wanted = torch.cat([torch.arange(start, start + rows), sparse])
    calibration = int(rng.integers(config.calibration[0], config.calibration[1] + 1))
    kernel = int(rng.integers(config.kernel[0], config.kernel[1] + 1))
    maps, _ = interpolated_espirit_maps(
        scan.masked, scan.mask, wanted, kernel_size=kernel, calibration_size=calibration
    )
    line = scan.mask.tensor()
    hybrid = scan.masked.new_zeros(int(maps.shape[0]), int(wanted.numel()), int(line.numel()))
    hybrid[..., line] = ifft1c(scan.masked[..., line], dim=-2)[:, wanted]
    zero_filled = (maps[:, rows:].conj() * ifft1c(hybrid[:, rows:])).sum(dim=0)
    scale = image_scale(zero_filled[None])
    band = torch.arange(start, start + rows)
    maps = maps[:, :rows]
    maps = maps * smooth_phase_of_rows(scan.masked, scan.mask, maps, band)
    samples = in_fft_order(hybrid[None, :, :rows], (-1,))
    measurement = Measurement(samples, SenseOperator(line, maps[None]), _level(scan))
    target = _target(scan.maps[:, start : start + rows], scan.image[start : start + rows], maps)
    return Example(measurement.scaled(scale), target / scale[0], (rows, int(target.shape[1])))


def example_of_slice(scan: Scan, *, given: Tensor | None = None) -> Example:
    """Make the scaled example of a whole slice, with given maps or those that `network_measurement` estimates.

    Raises:
        MaskError, FormatError: as `network_measurement`.
    """
    maps = None if given is None else unit_maps(given[None])[0]
    sigma = float(_level(scan)) if isinstance(scan.mask, ColumnMask) else None
    measurement, _ = network_measurement(scan.masked[None], scan.mask, sens_maps=maps, sigma=sigma)
    scale = image_scale(measurement.adjoint())
    target = _target(scan.maps, scan.image, measurement.maps[0])
    return Example(measurement.scaled(scale), target / scale[0], (int(target.shape[0]), int(target.shape[1])))


def given_maps(scan: Scan, rng: Rng, config: AcquisitionConfig) -> Tensor:
    """Make maps as a user would pass them: true ones or ESPIRiT's, mostly zero outside the object as in BART.

    Returns:
        complex `(coil, h, w)`, sum |S|^2 = 1 where they are not zero.
    """
    estimated = rng.random() < 0.5
    if estimated:
        everywhere = torch.arange(int(scan.image.shape[0]))
        maps, eigenvalues = interpolated_espirit_maps(scan.masked, scan.mask, everywhere)
    else:
        norm = _norm(scan.maps).clamp_min(1e-6)
        maps, eigenvalues = scan.maps / norm, norm
    if rng.random() >= config.cropped:
        return maps
    if estimated:
        inside = eigenvalues > float(rng.uniform(0.7, 0.95))
    else:
        blurred = torch.nn.functional.avg_pool2d(scan.image.abs()[None, None], 5, stride=1, padding=2)[0, 0]
        inside = blurred > float(rng.uniform(0.02, 0.1))
    # Few noisy lines may have no eigenvalue that near to 1: nobody would give maps of zeros.
    return maps * inside if float(inside.float().mean()) > _LEAST_MAPPED else maps


def draw_example(magnitude: Tensor, rng: Rng, config: AcquisitionConfig, rows: int) -> Example:
    """Simulate a scan of a magnitude image; repeat it where the samples hold next to nothing of the image.

    A strong phase can move the signal to lines that are not sampled. The zero-filled image then says nothing about the
    scale of the image, at inference either.
    """
    for _ in range(_TRIES):
        example = _drawn(magnitude, rng, config, rows)
        if float(image_scale(example.target[None])) < _FAINT:
            break
    return example


def _drawn(magnitude: Tensor, rng: Rng, config: AcquisitionConfig, rows: int) -> Example:
    """Simulate a scan of a magnitude image: its phase, coils, noise, field of view, echo and mask are random.

    Args:
        magnitude: float32 `(h, w)`, bright parts 1.
        rng: the random generator.
        config: ranges and probabilities.
        rows: rows of the example, at most; a 2-D pattern couples the rows, there a part of the image is scanned.

    Returns:
        the scaled example.
    """
    num_coils = draw_num_coils(rng, config.array.several, config.array.num_coils)
    pattern = num_coils > 1 and rng.random() < config.sampling.pattern
    if pattern:
        magnitude = _part(magnitude, rng, config.sampling.pattern_size)
    image = with_phase(magnitude, rng, config)
    # Folded parts have other coil sensitivities than the parts under them: no single set of maps would describe both.
    if num_coils == 1 and rng.random() < config.tight:
        image = _narrow(image, rng, config)
    shape = (int(image.shape[0]), int(image.shape[1]))
    array = draw_array(num_coils, shape, rng, config.array)
    mask: Mask
    if pattern:
        mask = draw_pattern(shape, rng, config.sampling)
    else:
        support = draw_support(shape[1], rng, config.sampling)
        least = 2 if num_coils == 1 else 3
        mask = draw_columns(shape[1], rng, config.sampling, support=support, least_center=least)
    readout = slice(None)
    if rng.random() < config.partial_echo:
        missing = shape[0] - round(shape[0] * float(rng.uniform(*config.echo_share)))
        missing = max(0, min(missing, shape[0] // 2 - config.calibration[1]))  # the centre is there in every scan
        readout = slice(missing, None) if rng.random() < 0.5 else slice(0, shape[0] - missing)
    sigma = float(np.exp(-rng.uniform(*np.log(config.snr))))
    scan = acquire(
        image, mask, array, rng, sigma=sigma, readout=readout, num_virtual=_num_virtual(num_coils, rng, config.array)
    )
    if scan.masked.shape[0] > 1 and rng.random() < config.given:
        given = given_maps(scan, rng, config)
        return _cut(example_of_slice(scan, given=given), rows, rng)
    if pattern:
        return example_of_slice(scan)
    return example_of_rows(scan, rng, config, rows)


def _level(scan: Scan) -> Tensor:
    """Estimate the noise level as at inference, `(1, 1, 1)`; some of the readout rows are enough."""
    height = int(scan.masked.shape[-2])
    gap = max(1, height // _NOISE_ROWS)
    return sigma_from_below(scan.masked[None, :, height // 2 % gap :: gap], scan.mask)


def _num_virtual(num_coils: int, rng: Rng, config: ArrayConfig) -> int | None:
    share = config.compress if num_coils <= config.num_virtual[1] else config.compress_many
    if num_coils < 5 or rng.random() >= share:
        return None
    low, high = config.num_virtual
    wanted = int(rng.integers(low, high + 1))
    return wanted if wanted < num_coils else max(4, num_coils - int(rng.integers(1, 4)))


def _noise(shape: torch.Size, rng: Rng, array: ReceiveArray, sigma: float) -> Tensor:
    white = complex_noise(tuple(shape), rng, sigma=sigma / np.sqrt(2))
    if array.noise is None:
        return white
    return (array.noise @ white.flatten(1)).reshape(shape)


def _target(maps: Tensor, image: Tensor, estimated: Tensor) -> Tensor:
    """Make the target: the image in the phase of the network's maps; of several coils, their root sum of squares."""
    coil_images = maps * image
    combined = combine(coil_images, estimated)
    if maps.shape[0] == 1:
        return combined
    # The phase in the gauge of the estimated maps is the only one that a network can know.
    return torch.polar(_norm(coil_images), combined.angle())


def _norm(coil_images: Tensor) -> Tensor:
    """Root sum of squares; values are near 1, and norms of complex tensors are slow."""
    return torch.view_as_real(coil_images).square().sum(dim=(0, -1)).sqrt()


def _band_start(image: Tensor, rows: int, rng: Rng) -> int:
    """Draw the first row of a band that holds some of the object: bands of air teach nothing."""
    brightness = image.abs().mean(dim=1)
    least = _DARK * float(brightness.mean())
    for _ in range(_TRIES):
        start = int(rng.integers(int(image.shape[0]) - rows + 1))
        if float(brightness[start : start + rows].mean()) >= least:
            break
    return start


def _cut(example: Example, rows: int, rng: Rng) -> Example:
    """Cut a band of rows from a scaled example, where rows are independent problems."""
    height, width = (int(n) for n in example.target.shape)
    if rows >= height or example.measurement.dims != (-1,):
        return example
    start = _band_start(example.target, rows, rng)
    band = slice(start, start + rows)
    return Example(example.measurement.rows(band), example.target[band], (rows, width))


def _part(magnitude: Tensor, rng: Rng, size: tuple[int, int]) -> Tensor:
    """Cut a random part of an image and fade its edges: with a 2-D pattern, whole slices would cost too much."""
    sides = [min(int(n), int(rng.integers(size[0], size[1] + 1))) for n in magnitude.shape]
    top, left = (int(rng.integers(n - side + 1)) for n, side in zip(magnitude.shape, sides, strict=True))
    part = magnitude[top : top + sides[0], left : left + sides[1]]
    fades = [torch.sin(torch.pi * (torch.arange(n) + 0.5) / n).mul(6).clamp_max(1) for n in sides]
    return part * fades[0][:, None] * fades[1]


def _narrow(image: Tensor, rng: Rng, config: AcquisitionConfig) -> Tensor:
    """Narrow the field of view along the phase axis to less than the object, roughly about its middle."""
    columns = torch.nonzero(image.abs().amax(dim=0) > _OBJECT).flatten()
    if not len(columns):
        return image
    first, last = int(columns[0]), int(columns[-1])
    extent = last + 1 - first
    width = min(int(image.shape[1]), max(64, round(extent * float(rng.uniform(*config.tight_width)))))
    start = round(first + (extent - width) / 2 + 0.1 * extent * float(rng.uniform(-1, 1)))
    return fold_columns(image, start, width)
