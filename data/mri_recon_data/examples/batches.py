"""Simulate training examples in batches on the network's device, so that no loader has to keep up with a GPU.

Model and settings are those of `simulation.image_slice` and `simulation.kspace`. All
slices lie on the device (magnitudes in float16, raw k-space in complex64). Small quantities are drawn on the host by
`numpy.random.default_rng([seed, step, 1 + item])`: which slice, its orientation, contrast, phase, coils, noise level,
mask. Large arrays are made on the device: Fourier crop, phase, maps, noise, transforms, the estimated maps and phase.
So a batch depends on the seed and its step alone, item by item: several processes that share it make the same items.
Nothing reads a value back from the device, but for `maps = "espirit"`.

Items of a batch have one size and one number of coils: its slices are of one size (of one person or several), and axes,
resolution, field of view and number of coils are drawn once a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mri_recon.coils.batched import maps_from_centers, smooth_phases
from mri_recon.coils.combine import combine
from mri_recon.coils.noise import sigma_from_below
from mri_recon.coils.sensitivity_maps import estimate_maps
from mri_recon.errors import ConfigError
from mri_recon.masks.types import ColumnMask
from mri_recon.models import Measurement, measure
from mri_recon.models.inference import image_scale
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.raw_slice import RawSlice
from mri_recon_data.examples.slices import FolderSlices, RegistrySlices
from mri_recon_data.scenes.crop import fourier_crop
from mri_recon_data.simulation.arrays import draw_num_coils
from mri_recon_data.simulation.sampling import draw_mask

__all__ = ["Batch", "BatchConfig", "BatchSimulator"]

_Piece = TypeVar("_Piece")
Rng = np.random.Generator

_MODES = 4  # cosine modes of the phase along each axis


class BatchConfig(BaseModel):
    """Device of the batches, and the estimate of their sensitivity maps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    where: Literal["loader", "device"] = Field(
        default="loader", description="loader: examples one by one, in data.workers processes; device: in batches"
    )
    maps: Literal["espirit", "center"] = Field(
        default="espirit", description="device: by ESPIRiT, one by one; or from the windowed centre, in a batch"
    )


@dataclass(frozen=True)
class Batch:
    """Input and target of a network, B items of equal size.

    `measurement`: scaled, with maps that hold the smooth phase, as `network_measurement` makes it; `target`:
    complex64 `(B, h, w)`, as `raw_example` makes it; `valid`: rows and columns of the centre that counts.
    """

    measurement: Measurement
    target: Tensor
    valid: tuple[int, int]


class BatchSimulator:
    """Simulates the batches of a training set.

    Sensitivity maps are estimated from the fully sampled centre, as for a user's scan. The default is ESPIRiT, one item
    after the other, as at inference. On a CPU it is a small part of a training step
    (`benchmarks/networks/training_batches.py` measures it on any device). ESPIRiT computes eigenvectors at every pixel
    and sometimes waits for the device. Where that is too slow, `maps = "center"` takes
    S_c = m_c / sqrt(sum_d |m_d|^2) of the windowed centre (`sens_maps_from_center`) for all items at once. Those maps
    equal ESPIRiT's for one coil and are rougher for several: finish such a run with a shorter one on ESPIRiT's maps.

    Args:
        slices: of the registry.
        data: the same settings as of the loader's examples.
        config: of the batches.
        seed: of the run.
        device: where the slices lie and the batches are made.

    Raises:
        ConfigError: the files of a user, which are k-space already, another target than the truth, a fixed number of
            problems, a tight field of view, or changed content, which is made on the host.
    """

    def __init__(
        self,
        slices: RegistrySlices | FolderSlices,
        data: DataConfig,
        config: BatchConfig,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        if isinstance(slices, FolderSlices):
            raise ConfigError(
                "batches.where: expected loader for the files of data.root, got device: their slices are read one at a "
                "time, raise data.workers where they do not keep up"
            )
        known: tuple[tuple[str, Any, Any], ...] = (
            ("target", "truth", data.target),
            ("problems", 0, data.problems),
            ("simulation.tight", 0.0, data.simulation.tight),
            ("worlds", None, data.worlds),
            *((f"simulation.content.{key}", 0.0, value) for key, value in data.simulation.content),
        )
        for key, only, value in known:
            if value != only:
                raise ConfigError(
                    f"batches.where: device knows data.{key}={only} only, got {value}: set batches.where=loader"
                )
        self._data, self._config, self._seed, self._device = data, config, seed, device
        # Slices of one size in one tensor.
        self._images = [
            [
                _to(np.stack([image.magnitude for image in group]), device)
                for group in _by_size(pool, lambda image: image.magnitude.shape)
            ]
            for pool in slices.pools
        ]
        groups = _by_size(slices.raw, lambda piece: tuple(piece.kspace.shape))
        self._raw = [torch.stack([piece.kspace for piece in group]).to(device) for group in groups]
        self._supports = [[piece.support for piece in group] for group in groups]
        self._noise = torch.Generator(device=device)

    def batch(self, step: int, items: range) -> Batch:
        """Make items of the batch of a step: all of them, or the share of one process."""
        common = np.random.default_rng([self._seed, step])
        rngs = [np.random.default_rng([self._seed, step, 1 + item]) for item in items]
        data = self._data
        rows = data.full_rows if common.random() < data.full_probability else data.rows
        has_images = any(self._images)
        if self._raw and (not has_images or common.random() < data.raw_probability):
            kspace, masks = self._flipped_raw(common, rngs)
            return self._examples(kspace, masks, ifft2c(kspace), None, rows, rngs)
        kspace, maps, images = self._simulated(step, items, common, rngs)
        masks = [draw_mask(int(kspace.shape[-1]), rng, data.sampling) for rng in rngs]
        # Several coils are judged by the image without noise, as in `dataset`.
        coil_images = maps * images[:, None] if kspace.shape[1] > 1 else ifft2c(kspace)
        return self._examples(kspace, masks, coil_images, maps, rows, rngs)

    def _flipped_raw(self, common: Rng, rngs: Sequence[Rng]) -> tuple[Tensor, list[ColumnMask]]:
        """Draw raw k-space `(B, coil, h, w)`, randomly mirrored along each axis."""
        number = _choose([len(stack) for stack in self._raw], common)
        items, masks = [], []
        for rng in rngs:
            chosen = int(rng.integers(len(self._raw[number])))
            piece = RawSlice(self._raw[number][chosen], self._supports[number][chosen]).mirrored(rng)
            items.append(piece.kspace)
            masks.append(draw_mask(piece.support.size, rng, self._data.sampling, support=piece.support))
        return torch.stack(items), masks

    def _simulated(self, step: int, items: range, common: Rng, rngs: Sequence[Rng]) -> tuple[Tensor, Tensor, Tensor]:
        """Simulate full k-space y_c = F (S_c x + n_c); returns it, its maps, `(B, coil, h, w)`, and x, `(B, h, w)`."""
        config = self._data.simulation
        isotropic, others = self._images
        volume = not others or (bool(isotropic) and common.random() < self._data.volume_probability)
        pool = isotropic if volume else others
        stack = pool[_choose([len(stack) for stack in pool], common)]
        swapped = common.random() < 0.5
        keep = float(common.uniform(*config.resolution))
        air = float(common.uniform(0, config.air)) if common.random() < 0.3 else 0.0
        num_coils = draw_num_coils(common, config.multi_coil, config.num_coils)

        # Axes, resolution, contrast, field of view.
        oriented = [_flipped(stack[int(rng.integers(len(stack)))], rng) for rng in rngs]
        magnitude = torch.stack(oriented).float()
        if swapped:
            magnitude = magnitude.mT
        size = tuple(min(side, max(config.min_size, round(side * keep))) for side in magnitude.shape[-2:])
        magnitude = fourier_crop(magnitude, (size[0], size[1])).abs()
        magnitude = magnitude ** self._column([rng.uniform(*config.gamma) for rng in rngs])
        padding = round(size[1] * air)
        magnitude = torch.nn.functional.pad(magnitude, (padding // 2, padding - padding // 2))
        height, width = (int(n) for n in magnitude.shape[-2:])
        shifts = [int(rng.integers(width)) if rng.random() < config.wrap else 0 for rng in rngs]
        magnitude = torch.stack([image.roll(shift, dims=-1) for image, shift in zip(magnitude, shifts, strict=True)])

        # Phase, coils, noise.
        strengths = [float(rng.uniform(*config.phase_strength)) for rng in rngs]
        phase = _smooth_phases((height, width), rngs, strengths, config.max_shift, self._device)
        maps = _coil_maps(num_coils, (height, width), rngs, self._device)
        images = torch.polar(magnitude, phase)
        coil_images = maps * images[:, None]
        sigmas = [float(np.exp(-rng.uniform(*np.log(config.snr)))) for rng in rngs]
        noise = [self._white(step, item, tuple(coil_images.shape[1:])) for item in items]
        return fft2c(coil_images + torch.stack(noise) * self._column(sigmas)[:, None]), maps, images

    def _white(self, step: int, item: int, shape: tuple[int, ...]) -> Tensor:
        """Draw complex white noise of one item, each part with standard deviation 1."""
        seed = np.random.SeedSequence([self._seed, step, 1 + item, 1]).generate_state(1, np.uint64)[0]
        self._noise.manual_seed(int(seed) >> 1)
        return torch.view_as_complex(torch.randn((*shape, 2), generator=self._noise, device=self._device))

    def _examples(
        self,
        kspace: Tensor,
        masks: Sequence[ColumnMask],
        coil_images: Tensor,
        true_maps: Tensor | None,
        rows: int,
        rngs: Sequence[Rng],
    ) -> Batch:
        """Apply `raw_example`, `image_scale` and `crop_rows` to all items at once.

        `coil_images`, shaped like `kspace`, are combined to the target.
        """
        lines = _to(np.stack([mask.lines for mask in masks]), self._device)[:, None, None]
        masked = torch.where(lines, kspace, torch.zeros((), dtype=kspace.dtype, device=self._device))
        if self._config.maps == "espirit" and kspace.shape[1] > 1:
            maps = torch.cat([estimate_maps(masked[i : i + 1], mask, everywhere=True) for i, mask in enumerate(masks)])
        else:
            maps = maps_from_centers(masked, masks)
        maps = maps * smooth_phases(masked, masks, maps)[:, None]
        target = combine(coil_images, maps)
        if kspace.shape[1] > 1:
            magnitude = _norm(coil_images) if true_maps is None else combine(coil_images, true_maps).abs()
            target = torch.polar(magnitude, target.angle())
        levels = [sigma_from_below(masked[i : i + 1], mask) for i, mask in enumerate(masks)]
        measurement = measure(masked, lines, maps, torch.cat(levels))
        scale = image_scale(measurement.adjoint())
        return _band(measurement.scaled(scale), target / scale, rows, rngs)

    def _column(self, values: Sequence[float]) -> Tensor:
        return _to(np.asarray(values, dtype=np.float32), self._device)[:, None, None]


def _smooth_phases(
    shape: tuple[int, int], rngs: Sequence[Rng], strengths: Sequence[float], max_shift: float, device: torch.device
) -> Tensor:
    """Draw `smooth_phase` for each generator and strength, real `(batch, h, w)`."""
    weights = np.zeros((len(rngs), _MODES, _MODES), dtype=np.float32)
    ramps = np.zeros((len(rngs), 3), dtype=np.float32)
    squares = np.arange(_MODES)[:, None] ** 2 + np.arange(_MODES) ** 2
    for i, rng in enumerate(rngs):
        weights[i].flat[1:] = rng.normal(size=_MODES**2 - 1) / squares.flat[1:]
        ramps[i, :2] = 2 * np.pi * rng.uniform(-max_shift, max_shift, size=2)
        ramps[i, 2] = rng.uniform(-np.pi, np.pi)
    y, x = (np.linspace(0.0, 1.0, n) if n > 1 else np.zeros(1) for n in shape)
    modes = [_to(np.cos(np.pi * np.arange(_MODES)[:, None] * axis).astype(np.float32), device) for axis in (y, x)]
    phase = torch.einsum("bij,ih,jw->bhw", _to(weights, device), *modes)
    deviation = phase.std(dim=(1, 2), correction=0, keepdim=True)
    wanted = _to(np.asarray(strengths, dtype=np.float32), device)[:, None, None]
    phase = phase * torch.where(deviation > 0, wanted / deviation, torch.ones_like(deviation))
    ramp = _to(ramps, device)[:, :, None, None]
    rows, columns = (_to(axis.astype(np.float32), device) for axis in (y[:, None], x))
    return phase + ramp[:, 0] * rows + ramp[:, 1] * columns + ramp[:, 2]


def _coil_maps(num_coils: int, shape: tuple[int, int], rngs: Sequence[Rng], device: torch.device) -> Tensor:
    """Draw `coil_maps` for each generator, complex64 `(batch, coil, h, w)`."""
    if num_coils == 1:
        return torch.ones((len(rngs), 1, *shape), dtype=torch.complex64, device=device)
    drawn = np.empty((7, len(rngs), num_coils), dtype=np.float32)
    for i, rng in enumerate(rngs):
        start = rng.uniform(0, 2 * np.pi)
        for c in range(num_coils):
            angle = start + 2 * np.pi * (c + rng.uniform(-0.2, 0.2)) / num_coils
            radius, spread = rng.uniform(1.05, 1.4), rng.uniform(0.5, 1.0)
            slope_y, slope_x = rng.normal(scale=0.8, size=2)
            twist, offset = rng.normal(scale=0.3), rng.uniform(-np.pi, np.pi)
            center_y, center_x = radius * np.sin(angle), radius * np.cos(angle)
            drawn[:, i, c] = center_y, center_x, spread, slope_y, slope_x, twist, offset
    center_y, center_x, spread, slope_y, slope_x, twist, offset = _to(drawn, device)[..., None, None]
    y, x = (torch.linspace(-1.0, 1.0, n, device=device) for n in shape)
    y = y[:, None]
    magnitude = 1 / (1 + ((y - center_y) ** 2 + (x - center_x) ** 2) / spread**2)
    magnitude = magnitude / torch.linalg.vector_norm(magnitude, dim=1, keepdim=True)
    return torch.polar(magnitude, slope_y * y + slope_x * x + twist * x * y + offset)


def _band(measurement: Measurement, target: Tensor, rows: int, rngs: Sequence[Rng]) -> Batch:
    """Cut a random band of rows from each item."""
    height, width = (int(n) for n in target.shape[-2:])
    if rows >= height:
        return Batch(measurement, target, (height, width))
    starts = [int(rng.integers(0, height - rows + 1)) for rng in rngs]

    def cut(x: Tensor) -> Tensor:
        return torch.stack([item[..., s : s + rows, :] for item, s in zip(x, starts, strict=True)])

    band = replace(measurement.with_maps(cut(measurement.maps)), samples=cut(measurement.samples))
    return Batch(band, cut(target), (rows, width))


def _flipped(image: Tensor, rng: Rng) -> Tensor:
    """Mirror an image along each axis with probability 1/2."""
    return image.flip([axis for axis in (0, 1) if rng.random() < 0.5])


def _norm(coil_images: Tensor) -> Tensor:
    """Root sum of squares. `rss` scales by the largest value, and so would wait for the device."""
    norm: Tensor = torch.linalg.vector_norm(coil_images, dim=1)
    return norm


def _by_size(pieces: Sequence[_Piece], size: Callable[[_Piece], tuple[int, ...]]) -> list[list[_Piece]]:
    groups: dict[tuple[int, ...], list[_Piece]] = {}
    for piece in pieces:
        groups.setdefault(size(piece), []).append(piece)
    return list(groups.values())


def _choose(sizes: Sequence[int], rng: Rng) -> int:
    """Choose a group with a probability by its size, so that a random slice of it is a random slice of all."""
    return int(np.searchsorted(np.cumsum(sizes), rng.integers(sum(sizes)), side="right"))


def _to(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device, non_blocking=True)
