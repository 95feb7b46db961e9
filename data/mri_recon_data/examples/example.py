"""Training examples: a measurement and the image it should become, from simulated or from real k-space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mri_recon._arrays import center_window
from mri_recon.coils.combine import combine, rss
from mri_recon.errors import MaskError, ShapeError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import default_center_fraction, random_mask
from mri_recon.masks.types import ColumnMask, Mask
from mri_recon.models.inference import network_measurement
from mri_recon.operators.measurement import Measurement
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data.scenes.content import ContentConfig, vary_content
from mri_recon_data.scenes.crop import fold_columns, fourier_crop
from mri_recon_data.scenes.images import ImageSlice
from mri_recon_data.simulation.kspace import coil_maps, complex_noise, smooth_phase

__all__ = [
    "Example",
    "SamplingConfig",
    "Simulated",
    "SimulationConfig",
    "crop_rows",
    "draw_mask",
    "draw_num_coils",
    "raw_example",
    "simulate_kspace",
]

BoolArray = npt.NDArray[np.bool_]

_OBJECT = 0.1  # of bright tissue: what is brighter belongs to the object


class SamplingConfig(BaseModel):
    """How masks are drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    acceleration: tuple[float, float] = Field(default=(2.0, 12.0), description="uniform range of R")
    default_center: float = Field(default=0.75, ge=0, le=1, description="probability of the default centre fraction")
    center_fraction: tuple[float, float] = Field(default=(0.03, 0.1), description="uniform range otherwise")


class SimulationConfig(BaseModel):
    """What is random about k-space simulated from a magnitude image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: tuple[float, float] = Field(default=(0.55, 1.0), description="kept fraction of the matrix")
    min_size: int = Field(default=96, ge=16, description="smallest side after the resolution is lowered")
    gamma: tuple[float, float] = Field(default=(0.7, 1.5), description="contrast: magnitude ** gamma")
    air: float = Field(default=0.25, ge=0, description="largest added field of view along the phase axis")
    phase_strength: tuple[float, float] = Field(default=(0.0, 1.5), description="smooth phase, radians")
    max_shift: float = Field(default=3.0, ge=0, description="largest shift of the k-space centre, samples")
    multi_coil: float = Field(default=0.35, ge=0, le=1, description="probability of more than one coil")
    num_coils: tuple[int, int] = Field(default=(2, 32), description="log-uniform range of coils then")
    wrap: float = Field(default=0.15, ge=0, le=1, description="probability of an object that crosses the phase edge")
    tight: float = Field(
        default=0.0, ge=0, le=1, description="probability, for one coil, of a field of view narrower than a wide object"
    )
    tight_width: tuple[float, float] = Field(default=(0.75, 1.0), description="its share of the object's width")
    snr: tuple[float, float] = Field(default=(8.0, 400.0), description="log-uniform range of bright signal to sigma")
    content: ContentConfig = ContentConfig()


@dataclass(frozen=True)
class Simulated:
    """A simulated slice: full k-space and true maps, complex64 `(coil, h, w)`, and the image without noise `(h, w)`."""

    kspace: Tensor
    sens_maps: Tensor
    image: Tensor


@dataclass(frozen=True)
class Example:
    """What a network gets and what it should answer.

    `measurement`: what `learned.network_measurement` makes of the undersampled k-space, a batch of one; `target`: the
    image to answer with the same phase taken out, complex64 `(h, w)`. The loss counts on the centre of `valid` rows and
    columns: oversampled margins are not judged. `held_out`: samples that the network does not see, with the maps of
    `measurement`; where they are there, the loss looks at them and not at the target (see `data.targets`).
    """

    measurement: Measurement
    target: Tensor
    valid: tuple[int, int]
    held_out: Measurement | None = None


def draw_mask(
    width: int, rng: np.random.Generator, config: SamplingConfig, *, support: BoolArray | None = None
) -> ColumnMask:
    """A random column mask with a random acceleration and centre."""
    acceleration = float(rng.uniform(*config.acceleration))
    fraction = default_center_fraction(acceleration)
    if rng.random() >= config.default_center:
        fraction = float(rng.uniform(*config.center_fraction))
    seed = int(rng.integers(2**31))
    try:
        return random_mask(width, acceleration, center_fraction=fraction, seed=seed, support=support)
    except MaskError:
        # A random centre may need more lines than a random acceleration has; the default one fits the default range.
        fraction = default_center_fraction(acceleration)
        return random_mask(width, acceleration, center_fraction=fraction, seed=seed, support=support)


def draw_num_coils(rng: np.random.Generator, config: SimulationConfig) -> int:
    """One coil, or with the probability `multi_coil` a log-uniform number of the range."""
    if rng.random() >= config.multi_coil:
        return 1
    low, high = config.num_coils
    return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))


def simulate_kspace(
    source: ImageSlice, rng: np.random.Generator, config: SimulationConfig, *, num_coils: int | None = None
) -> Simulated:
    """Simulated full k-space of one slice, its coil maps and its image.

    Orientation, content, resolution, contrast, field of view, phase, coils and noise are drawn from `rng`; `num_coils`
    fixes the number of coils. y_c = F (S_c x + n_c), n_c complex white noise.
    """
    oriented = _augment(source.magnitude.astype(np.float32), rng)
    magnitude = torch.from_numpy(vary_content(oriented, rng, config.content))
    keep = rng.uniform(*config.resolution)
    size = tuple(min(side, max(config.min_size, round(side * keep))) for side in magnitude.shape)
    magnitude = fourier_crop(magnitude, (size[0], size[1])).abs()
    magnitude = magnitude ** float(rng.uniform(*config.gamma))
    padding = round(magnitude.shape[1] * rng.uniform(0, config.air)) if rng.random() < 0.3 else 0
    magnitude = torch.nn.functional.pad(magnitude, (padding // 2, padding - padding // 2))
    if rng.random() < config.wrap:
        magnitude = magnitude.roll(int(rng.integers(magnitude.shape[1])), dims=1)
    shape = (int(magnitude.shape[0]), int(magnitude.shape[1]))
    strength = float(rng.uniform(*config.phase_strength))
    phase = torch.from_numpy(smooth_phase(shape, rng, strength=strength, max_shift=config.max_shift))
    image = torch.polar(magnitude, phase)
    if num_coils is None:
        num_coils = draw_num_coils(rng, config)
    # What folds over has other coil sensitivities than what it lies on: no single set of maps would describe it.
    if config.tight and num_coils == 1 and rng.random() < config.tight:
        image = _narrow(image, rng, config)
        shape = (shape[0], int(image.shape[1]))
    maps = torch.from_numpy(coil_maps(num_coils, shape, rng))
    sigma = float(np.exp(-rng.uniform(*np.log(config.snr))))
    coil_images = maps * image + complex_noise((num_coils, *shape), rng, sigma=sigma)
    return Simulated(fft2c(coil_images), maps, image)


def _narrow(image: Tensor, rng: np.random.Generator, config: SimulationConfig) -> Tensor:
    """A field of view along the phase axis narrower than the object, roughly about its middle; `min_size` at least."""
    columns = torch.nonzero(image.abs().amax(dim=0) > _OBJECT).flatten()
    if not len(columns):
        return image
    first, last = int(columns[0]), int(columns[-1])
    extent = last + 1 - first
    width = min(int(image.shape[1]), max(config.min_size, round(extent * float(rng.uniform(*config.tight_width)))))
    start = round(first + (extent - width) / 2 + 0.1 * extent * float(rng.uniform(-1, 1)))
    return fold_columns(image, start, width)


def raw_example(
    kspace: Tensor,
    mask: Mask,
    *,
    sens_maps: Tensor | None = None,
    image: Tensor | None = None,
    valid: tuple[int, int] | None = None,
) -> Example:
    """The example that one slice of full k-space and a mask make.

    The target is `image` where it is known (simulation of several coils); else the full k-space, combined with
    `sens_maps` where they are known, else with the maps estimated from the centre and brought to the
    root-sum-of-squares magnitude, the reference of the metrics. Then its noise on the sampled lines is the input's: a
    network that keeps what was measured is not punished for it, as a real single-coil reference asks for. Simulated
    scans of several coils are judged by an image without noise.

    Args:
        kspace: full, complex64 `(coil, readout, phase)`.
        mask: the mask to learn from.
        sens_maps: true maps `(coil, readout, phase)`.
        image: true image `(readout, phase)` of the true maps, without noise.
        valid: centre that the loss counts on; everything by default.

    Raises:
        MaskError: the mask has no dense centre.
        ShapeError: an image without its maps.
    """
    if image is not None and sens_maps is None:
        raise ShapeError("raw_example: expected true maps with the true image, got the image alone: give both or none")
    masked = undersample(kspace, mask)[None]
    measurement, _ = network_measurement(masked, mask)
    coil_images = ifft2c(kspace) if image is None or sens_maps is None else sens_maps * image
    target = combine(coil_images, measurement.maps[0])  # the phase is in these maps already
    if kspace.shape[0] > 1:
        magnitude = rss(coil_images) if sens_maps is None else combine(coil_images, sens_maps).abs()
        # The phase in the gauge of the estimated maps is the only one that a network can know.
        target = torch.polar(magnitude, target.angle())
    return Example(measurement, target, valid or (int(target.shape[0]), int(target.shape[1])))


def crop_rows(example: Example, scale: Tensor, rows: int, rng: np.random.Generator) -> Example:
    """Divide by `scale` and cut a random band of `rows` readout rows.

    Undersampled columns alias along the phase axis only, so a band of readout rows is a complete reconstruction problem
    at a fraction of the cost. A pattern of two dimensions couples the rows: its slices stay whole.
    """
    height, width = (int(side) for side in example.target.shape)
    measurement, target, valid = example.measurement.scaled(scale), example.target / scale[0], example.valid
    held_out = None if example.held_out is None else example.held_out.scaled(scale)
    if rows >= height or measurement.dims != (-1,):
        return Example(measurement, target, valid, held_out)
    # Inside the rows that are judged; around them where these are fewer than the band.
    inside, _ = center_window((height, width), (min(height, max(rows, valid[0])), width))
    start = int(rng.integers(inside.start, inside.stop - rows + 1))
    band = slice(start, start + rows)
    return Example(
        measurement.rows(band),
        target[band],
        (min(rows, valid[0]), valid[1]),
        None if held_out is None else held_out.rows(band),
    )


def _augment(magnitude: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """One of the eight orientations of a plane: either axis may be the phase axis, either end may be up."""
    if rng.random() < 0.5:
        magnitude = magnitude.T
    for axis in (0, 1):
        if rng.random() < 0.5:
            magnitude = np.flip(magnitude, axis=axis)
    return np.ascontiguousarray(magnitude)
