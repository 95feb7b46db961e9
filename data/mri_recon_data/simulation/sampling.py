"""Undersampling masks of many kinds: random, equispaced and variable-density columns, partial Fourier, 2-D patterns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.ndimage import maximum_filter

from mri_recon.errors import MaskError
from mri_recon.masks.draw import default_center_fraction, equispaced_mask, random_mask
from mri_recon.masks.types import ColumnMask, PatternMask

__all__ = ["SamplingConfig", "WideSamplingConfig", "draw_columns", "draw_mask", "draw_pattern", "draw_support"]

BoolArray = npt.NDArray[np.bool_]
Rng = np.random.Generator


class SamplingConfig(BaseModel):
    """Ranges of random column masks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    acceleration: tuple[float, float] = Field(default=(2.0, 12.0), description="uniform range of R")
    default_center: float = Field(default=0.75, ge=0, le=1, description="probability of the default centre fraction")
    center_fraction: tuple[float, float] = Field(default=(0.03, 0.1), description="uniform range otherwise")


class WideSamplingConfig(BaseModel):
    """Ranges and probabilities of the masks of many worlds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    acceleration: tuple[float, float] = Field(default=(1.5, 12.0), description="log-uniform range of R")
    default_center: float = Field(default=0.4, ge=0, le=1, description="probability of the default centre fraction")
    center_fraction: tuple[float, float] = Field(default=(0.02, 0.15), description="log-uniform range otherwise")
    equispaced: float = Field(default=0.2, ge=0, le=1, description="probability of equally spaced columns")
    variable_density: float = Field(default=0.2, ge=0, le=1, description="probability of columns denser at the centre")
    partial: float = Field(default=0.15, ge=0, le=1, description="probability of partial Fourier along the phase axis")
    partial_share: tuple[float, float] = Field(
        default=(0.625, 1.0), description="share of the columns that partial Fourier keeps"
    )
    pattern: float = Field(default=0.12, ge=0, le=1, description="probability of a 2-D pattern, for several coils")
    pattern_size: tuple[int, int] = Field(default=(64, 128), description="sides of slices with a 2-D pattern")


def draw_mask(width: int, rng: Rng, config: SamplingConfig, *, support: BoolArray | None = None) -> ColumnMask:
    """Draw a random column mask with a random acceleration and centre."""
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


def draw_support(width: int, rng: Rng, config: WideSamplingConfig) -> BoolArray:
    """Draw the acquired columns: all of them, or a part that leaves out columns on one side (partial Fourier)."""
    support = np.ones(width, dtype=np.bool_)
    if rng.random() < config.partial:
        missing = width - round(width * float(rng.uniform(*config.partial_share)))
        support[:missing] = False
        if rng.random() < 0.5:
            support = support[::-1].copy()
    return support


def draw_columns(
    width: int, rng: Rng, config: WideSamplingConfig, *, support: BoolArray | None = None, least_center: int = 2
) -> ColumnMask:
    """Draw a mask of columns: acceleration, centre and arrangement of the other columns are random.

    Args:
        width: columns of k-space.
        rng: the random generator.
        config: ranges and probabilities.
        support: acquired columns, bool `(width,)`; all of them by default.
        least_center: fewest lines of the fully sampled centre.

    Returns:
        a mask with at least one line outside the centre where R > 1.
    """
    support = np.ones(width, dtype=np.bool_) if support is None else support
    columns = int(np.count_nonzero(support))
    acceleration = float(np.exp(rng.uniform(*np.log(config.acceleration))))
    fraction = default_center_fraction(acceleration)
    if rng.random() >= config.default_center:
        fraction = float(np.exp(rng.uniform(*np.log(config.center_fraction))))
    arrangement = rng.random()
    seed = int(rng.integers(2**31))
    acceleration = min(acceleration, columns / (least_center + 2))
    lines = round(columns / acceleration)
    centre = min(max(least_center, round(columns * fraction)), max(least_center, round(0.7 * lines)))
    if arrangement < config.equispaced:
        return equispaced_mask(width, acceleration, num_low_frequencies=centre, seed=seed, support=support)
    mask = random_mask(width, acceleration, num_low_frequencies=centre, seed=seed, support=support)
    if arrangement < config.equispaced + config.variable_density:
        return _denser_at_centre(mask, support, rng)
    return mask


def _denser_at_centre(mask: ColumnMask, support: BoolArray, rng: Rng) -> ColumnMask:
    """The same number of lines and the same centre; the others are drawn with a weight that falls with |k|."""
    centre = np.zeros(mask.width, dtype=np.bool_)
    centre[mask.center_lines] = True
    rest = np.flatnonzero(support & ~centre)
    count = mask.num_lines - int(np.count_nonzero(centre))
    far = np.abs(rest - mask.width // 2) / (mask.width / 2)
    weight = (1 - np.minimum(far, 1) + 0.02) ** float(rng.uniform(1, 4))
    lines = centre.copy()
    lines[rng.choice(rest, count, replace=False, p=weight / weight.sum())] = True
    return ColumnMask(
        lines,
        kind="variable-density",
        acceleration=mask.acceleration,
        num_low_frequencies=mask.num_low_frequencies,
        center_start=mask.center_start,
        support_width=mask.support_width,
    )


def draw_pattern(shape: tuple[int, int], rng: Rng, config: WideSamplingConfig) -> PatternMask:
    """Draw a 2-D pattern with a fully sampled rectangle: a Poisson disc or independent points, denser at the centre.

    Exactly round(h w / R) positions are sampled.

    Args:
        shape: `(readout, phase)`.
        rng: the random generator.
        config: the range of R.
    """
    height, width = shape
    acceleration = float(np.exp(rng.uniform(*np.log(config.acceleration))))
    count = round(height * width / acceleration)
    side = int(min(rng.integers(10, 25), max(6, 0.7 * np.sqrt(count))))
    y = (np.arange(height) - height // 2)[:, None]
    x = (np.arange(width) - width // 2)[None, :]
    centre = (np.abs(y + 0.5) <= side / 2) & (np.abs(x + 0.5) <= side / 2)
    far = np.sqrt((y / (height / 2)) ** 2 + (x / (width / 2)) ** 2)
    available = np.ones(shape, dtype=np.bool_)
    if rng.random() < 0.5:  # corners are often left out
        available &= far <= 1
    density = (1 - np.minimum(far, 1) * float(rng.uniform(0, 0.9))) ** 2
    # Points in the order in which they are taken: by a random key, those too close to an earlier one last.
    key = rng.random(shape) ** (1 / np.maximum(density, 1e-3))
    if rng.random() < 0.7:
        key = key + _apart(key, available, acceleration)
    key = np.where(available, key, -1.0)
    key = np.where(centre, 4.0, key)
    pattern = np.zeros(height * width, dtype=np.bool_)
    pattern[np.argsort(key, axis=None)[::-1][:count]] = True
    return PatternMask(pattern.reshape(shape), source="simulated")


def _apart(key: npt.NDArray[np.float64], available: BoolArray, acceleration: float) -> BoolArray:
    """Points no two of which are neighbours within a radius: those whose key is the largest around, again and again."""
    reach = 2 * max(1, round(0.45 * np.sqrt(acceleration))) + 1
    alive, taken = available.copy(), np.zeros_like(available)
    for _ in range(6):
        standing = np.where(alive, key, -1.0)
        found = alive & (standing == maximum_filter(standing, size=reach))
        taken |= found
        alive &= ~np.asarray(maximum_filter(found, size=reach))
        if not alive.any():
            break
    return taken
