"""Magnitude images of many sizes to simulate scans from: MR slices, crops of photographs and procedural pictures."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mri_recon_data.scenes.content import ContentConfig, vary_content
from mri_recon_data.scenes.crop import fourier_crop, random_orientation

__all__ = ["SceneConfig", "crop_of_picture", "normalised", "scene_of_picture", "scene_of_slice", "smooth_modes"]

Rng = np.random.Generator
Picture = npt.NDArray[np.float16]

_TRIES = 4
_FLAT = 0.08
_BRIGHT = 0.99  # quantile of the magnitude that is scaled to 1


class SceneConfig(BaseModel):
    """Ranges and probabilities of the magnitude image of a simulated scan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[int, int] = Field(default=(96, 384), description="smallest and largest side of the matrix")
    resolution: tuple[float, float] = Field(default=(0.5, 1.0), description="kept fraction of the matrix of MR slices")
    gamma: tuple[float, float] = Field(default=(0.6, 1.7), description="contrast: magnitude ** gamma, log-uniform")
    air: float = Field(default=0.3, ge=0, le=1, description="probability of more air around an MR slice")
    wrap: float = Field(default=0.1, ge=0, le=1, description="probability of an object that crosses the phase edge")
    bias: float = Field(default=0.5, ge=0, le=1, description="probability of a smooth brightness over the image")
    overlay: float = Field(default=0.2, ge=0, le=1, description="probability of a picture mixed into an MR slice")
    outline: float = Field(default=0.7, ge=0, le=1, description="probability that a picture gets an outline with air")
    content: ContentConfig = ContentConfig(contrast=0.2, shapes=0.05, bright_rim=0.1)


def scene_of_slice(magnitude: Picture, rng: Rng, config: SceneConfig, *, overlay: Picture | None = None) -> Tensor:
    """Vary orientation, content, resolution, contrast and field of view of one MR slice.

    The resolution is only lowered: interpolated k-space would be an easier truth. A larger matrix has more air.

    Args:
        magnitude: `(h, w)`, bright tissue about 1.
        rng: the random generator.
        config: ranges and probabilities.
        overlay: a picture to mix into a smooth region of it; None: nothing.

    Returns:
        float32 `(h', w')`, bright tissue 1.
    """
    varied = vary_content(random_orientation(magnitude.astype(np.float32), rng), rng, config.content)
    image = torch.from_numpy(varied)
    smallest, largest = config.size
    keep = float(rng.uniform(*config.resolution))
    stretch = float(np.exp(rng.normal(scale=0.08)))  # acquired pixels need not be square
    wanted = (keep * stretch, keep / stretch)
    size = [min(n, largest, max(smallest, round(n * part))) for n, part in zip(image.shape, wanted, strict=True)]
    image = fourier_crop(image, (size[0], size[1])).abs()
    if overlay is not None:
        shape = (int(image.shape[0]), int(image.shape[1]))
        region = torch.sigmoid(12 * (smooth_modes(shape, rng, modes=4) - float(rng.uniform(0.3, 1.2))))
        share = float(rng.uniform(0.3, 1.0)) * region
        image = image * (1 - share) + share * crop_of_picture(overlay, shape, rng)
    image = normalised(image, rng, config)
    if rng.random() < config.air:
        for axis in (-2, -1):
            side = int(image.shape[axis])
            more = max(0, min(largest, round(side * float(rng.uniform(1, 1.5)))) - side)
            before = int(rng.integers(more + 1))
            pad = (before, more - before) if axis == -1 else (0, 0, before, more - before)
            image = torch.nn.functional.pad(image, pad)
    if rng.random() < config.wrap:
        image = image.roll(int(rng.integers(image.shape[-1])), dims=-1)
    return image


def scene_of_picture(picture: Picture, rng: Rng, config: SceneConfig) -> Tensor:
    """Crop a picture at a random place, size, rotation and scale, mostly inside a smooth outline with air around it.

    Args:
        picture: `(h, w)` in [0, 1].
        rng: the random generator.
        config: ranges and probabilities.

    Returns:
        float32 `(h', w')`, bright parts 1.
    """
    low, high = np.log(config.size)
    common = rng.uniform(low, high)
    sides = np.clip(common + rng.normal(scale=0.15, size=2), low, high)
    shape = (round(math.exp(sides[0])), round(math.exp(sides[1])))
    for _ in range(_TRIES):
        image = crop_of_picture(picture, shape, rng)
        if float(image.std()) > _FLAT:  # a piece of sky teaches nothing
            break
    if rng.random() < 0.3:
        image = 1 - image
    if rng.random() < config.outline:
        image = image * _outline(shape, rng)
    image = normalised(image, rng, config)
    if rng.random() < config.wrap:
        image = image.roll(int(rng.integers(shape[1])), dims=-1)
    return image


def crop_of_picture(picture: Picture, shape: tuple[int, int], rng: Rng) -> Tensor:
    """Sample a rotated, scaled and perhaps mirrored part of a picture.

    Args:
        picture: `(h, w)` in [0, 1].
        shape: `(h', w')` of the result.
        rng: the random generator.

    Returns:
        float32 `(h', w')`; beyond the picture's edge its mirror image.
    """
    height, width = picture.shape
    longest = max(shape)
    # Pixels of the picture to one of the result; at most so many that the crop fits.
    most = max(0.4, min(1.6, min(height, width) / longest))
    step = float(np.exp(rng.uniform(np.log(0.4), np.log(most)))) if most > 0.4 else 0.4
    angle = float(rng.uniform(0, 2 * np.pi))
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    reach = math.ceil(longest * step * 0.75) + 2
    cy, cx = (float(rng.uniform(min(reach, n / 2), max(n - reach, n / 2))) for n in (height, width))
    top, left = max(0, int(cy) - reach), max(0, int(cx) - reach)
    part = torch.from_numpy(picture[top : int(cy) + reach + 1, left : int(cx) + reach + 1].astype(np.float32))
    rows, columns = int(part.shape[0]), int(part.shape[1])
    cos, sin = math.cos(angle), math.sin(angle)
    y = (torch.arange(shape[0], dtype=torch.float32) - shape[0] / 2)[:, None] * step
    x = (torch.arange(shape[1], dtype=torch.float32) - shape[1] / 2)[None, :] * (step * mirror)
    at_y, at_x = cy - top + cos * y + sin * x, cx - left - sin * y + cos * x
    grid = torch.stack([2 * at_x / max(columns - 1, 1) - 1, 2 * at_y / max(rows - 1, 1) - 1], dim=-1)
    sampled = torch.nn.functional.grid_sample(
        part[None, None], grid[None], mode="bilinear", padding_mode="reflection", align_corners=True
    )
    found: Tensor = sampled[0, 0]
    return found


def normalised(image: Tensor, rng: Rng, config: SceneConfig) -> Tensor:
    """Change contrast and brightness of a magnitude image, and scale it to bright parts of 1."""
    image = image / _bright(image)
    gamma = float(np.exp(rng.uniform(*np.log(config.gamma))))
    image = image.clamp_min(0) ** gamma
    if rng.random() < config.bias:
        shape = (int(image.shape[0]), int(image.shape[1]))
        image = image * torch.exp(float(rng.uniform(0.1, 0.5)) * smooth_modes(shape, rng, modes=3))
    return image / _bright(image)


def smooth_modes(shape: tuple[int, int], rng: Rng, *, modes: int) -> Tensor:
    """Draw a sum of the lowest cosine modes with falling weights, float32 `(h, w)` of standard deviation 1."""
    powers = np.add.outer(np.arange(modes) ** 2, np.arange(modes) ** 2).astype(np.float64)
    powers[0, 0] = np.inf
    weights = torch.from_numpy((rng.standard_normal((modes, modes)) / powers).astype(np.float32))
    along = [torch.cos(torch.pi * torch.outer(torch.linspace(0, 1, n), torch.arange(modes))) for n in shape]
    field = along[0] @ weights @ along[1].T
    found: Tensor = field / field.std().clamp_min(1e-6)
    return found


def _outline(shape: tuple[int, int], rng: Rng) -> Tensor:
    """Draw a smooth closed region about the middle: 1 inside, 0 outside, with an edge of about a pixel."""
    y, x = (torch.linspace(-1, 1, n) for n in shape)
    half = rng.uniform(0.55, 0.98, size=2)
    power = float(rng.uniform(1.6, 4.0))
    distance = (y.abs() / half[0]).pow(power)[:, None] + (x.abs() / half[1]).pow(power)[None, :]
    distance = distance + float(rng.uniform(0, 0.25)) * smooth_modes(shape, rng, modes=6)
    return torch.sigmoid((1 - distance) * (0.5 * min(shape)))


def _bright(image: Tensor) -> Tensor:
    flat = image.flatten()
    bright = flat.kthvalue(max(1, math.ceil(_BRIGHT * flat.numel()))).values
    largest = flat.amax()
    found = torch.where(bright > 0.05 * largest, bright, largest)
    return torch.where(found > 0, found, torch.ones_like(found))
