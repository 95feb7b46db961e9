"""Receive arrays for simulated scans: modelled and measured coil sensitivities with the noise between their coils."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mri_recon_data.registry import Split
from mri_recon_data.simulation.measured_coils import measured_coil_maps

__all__ = ["ArrayConfig", "ReceiveArray", "draw_array", "draw_num_coils", "measured_array", "modelled_maps"]

Rng = np.random.Generator


class ArrayConfig(BaseModel):
    """Ranges and probabilities of the receive coils."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    several: float = Field(default=0.6, ge=0, le=1, description="probability of more than one coil")
    num_coils: tuple[int, int] = Field(default=(2, 32), description="log-uniform range of coils then")
    measured: float = Field(
        default=0.0, ge=0, le=1, description="probability that several coils are those of a measured array"
    )
    whiten: float = Field(default=0.5, ge=0, le=1, description="probability that a measured array's noise is whitened")
    compress: float = Field(default=0.25, ge=0, le=1, description="probability of compression of 5 to 12 coils")
    compress_many: float = Field(default=0.85, ge=0, le=1, description="the same for more than 12 coils")
    num_virtual: tuple[int, int] = Field(default=(8, 12), description="range of virtual coils; 4 at least of few coils")


@dataclass(frozen=True)
class ReceiveArray:
    """Sensitivities `(coil, h, w)` with sum |S|^2 = 1, and the lower factor L of the noise covariance L L^H.

    `noise` is None where the noise is white.
    """

    maps: Tensor
    noise: Tensor | None = None


def draw_num_coils(rng: Rng, several: float, num_coils: tuple[int, int]) -> int:
    """Draw one coil, or with the probability `several` a log-uniform number of the range `num_coils`."""
    if rng.random() >= several:
        return 1
    low, high = num_coils
    return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))


def draw_array(num_coils: int, shape: tuple[int, int], rng: Rng, config: ArrayConfig) -> ReceiveArray:
    """Draw the array of a simulated scan: modelled or measured coils.

    Args:
        num_coils: at least 1; one coil is constant 1.
        shape: `(h, w)`.
        rng: the random generator.
        config: the probability of measured coils, which training persons' phantoms give.

    Raises:
        DataError: measured coils whose files are not at hand, or more than any array has.
    """
    if num_coils == 1:
        return ReceiveArray(torch.ones((1, *shape), dtype=torch.complex64))
    if config.measured and rng.random() < config.measured:
        return measured_array(num_coils, shape, rng, whiten=bool(rng.random() < config.whiten))
    return ReceiveArray(modelled_maps(num_coils, shape, rng))


def measured_array(
    num_coils: int, shape: tuple[int, int], rng: Rng, *, whiten: bool, split: Split = "train"
) -> ReceiveArray:
    """Draw an array of `measured_coils.measured_coil_maps` with its noise.

    Args:
        num_coils: at least 2.
        shape: `(h, w)`.
        rng: the random generator.
        whiten: combine the coils so that their noise is white (`whiten`), as a reconstruction may do.
        split: whose phantoms.

    Raises:
        DataError: files that are not at hand, or more coils than any array has.
    """
    drawn, covariance = measured_coil_maps(shape, rng, num_coils=num_coils, split=split)
    maps, factor = torch.from_numpy(drawn), torch.linalg.cholesky(torch.from_numpy(covariance))
    if not whiten:
        return ReceiveArray(maps, factor)
    white = torch.linalg.solve_triangular(factor, maps.flatten(1), upper=False).reshape(maps.shape)
    energy = torch.view_as_real(white).square().sum(dim=(0, -1))
    return ReceiveArray(white * energy.clamp_min(torch.finfo(energy.dtype).tiny).rsqrt())


def modelled_maps(num_coils: int, shape: tuple[int, int], rng: Rng) -> Tensor:
    """Draw smooth sensitivities of coils in one of three arrangements, complex64 `(coil, h, w)`, sum |S|^2 = 1.

    A coil sees S = exp(i phi(r)) / (1 + (d/w)^2), d the distance to it: the fall-off of a loop, with a phase that
    varies slowly. The coils sit on an ellipse around the object (a head coil), in two rows above and below it (body
    arrays), or on one side (a spine or surface array). The image spans -1..1 along its longer side.
    """
    longest = max(shape)
    y = torch.linspace(-1, 1, shape[0])[:, None] * (shape[0] / longest)
    x = torch.linspace(-1, 1, shape[1])[None, :] * (shape[1] / longest)
    arrangement = rng.random()
    numbers = np.arange(num_coils)
    if arrangement < 0.65:
        angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * (numbers + rng.uniform(-0.2, 0.2, num_coils)) / num_coils
        half = rng.uniform(0.95, 1.3, 2)
        places = np.stack([half[0] * np.sin(angles), half[1] * np.cos(angles)], axis=1)
        places *= rng.uniform(0.95, 1.15, (num_coils, 1))
    else:
        side = np.where(numbers % 2 == 0, -1.0, 1.0) if arrangement < 0.85 else np.ones(num_coils)
        along = np.linspace(-1, 1, num_coils) + rng.normal(scale=0.1, size=num_coils)
        places = np.stack([side * rng.uniform(1.0, 1.3, num_coils), along], axis=1)
        if rng.random() < 0.5:
            places = places[:, ::-1]
    spread = np.exp(rng.uniform(np.log(0.35), np.log(1.0))) * rng.uniform(0.8, 1.25, num_coils)
    slopes = rng.normal(scale=0.9, size=(num_coils, 2))
    offsets = rng.uniform(-np.pi, np.pi, num_coils)
    py, px, width, sy, sx, offset = (
        torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32))[:, None, None]
        for part in (places[:, 0], places[:, 1], spread, slopes[:, 0], slopes[:, 1], offsets)
    )
    fall = 1 / (1 + ((y - py).square() + (x - px).square()) / width.square())
    fall = fall * fall.square().sum(dim=0).rsqrt()
    rows, columns = (torch.polar(torch.ones_like(angle), angle) for angle in (sy * y + offset, sx * x))
    maps: Tensor = fall * (rows * columns)
    return maps
