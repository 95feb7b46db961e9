"""Procedural pictures: dead leaves, textures and curved stripes, as magnitudes for simulated scans.

They are no anatomy. A general network needs edges, textures and structures of every size and direction, more than a
few training subjects show. Dead leaves (opaque shapes of power-law sizes that hide each
other) have the scale-invariant statistics of natural images (Lee, Mumford and Huang, Int J Comput Vis 2001).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, zoom

__all__ = ["PicturePool", "dead_leaves", "power_law_texture", "procedural_picture", "stripes"]

ArrayF = npt.NDArray[np.float32]
Rng = np.random.Generator

_SIZE = 512
_COVERED = 3.0  # total area of the leaves over that of the picture


def dead_leaves(size: int, rng: Rng, *, smallest: float = 2.0, largest: float = 0.35) -> ArrayF:
    """Draw opaque shapes over each other until they cover the picture several times.

    Radii follow a power law p(r) ~ r^-3. A shape is an ellipse, a box or a polygon of random direction with an edge
    smoothed over one pixel. It is filled with a level, a linear shade, stripes or a texture.

    Args:
        size: pixels of a side.
        rng: the random generator.
        smallest: smallest radius, pixels.
        largest: largest radius, as a share of the side.

    Returns:
        float32 `(size, size)` in [0, 1].
    """
    background = power_law_texture(size, rng, exponent=2.0)
    canvas = background.copy()
    texture = power_law_texture(size, rng, exponent=float(rng.uniform(0.5, 2.5)))
    most = largest * size
    covered, shapes = 0.0, 0
    while covered < _COVERED * size * size and shapes < 4000:
        # p(r) ~ r^-3 between the two radii, by inversion.
        u = rng.random(256)
        radii = 1 / np.sqrt(1 / smallest**2 - u * (1 / smallest**2 - 1 / most**2))
        for radius in radii:
            _leaf(canvas, texture, float(radius), rng)
        covered += float((np.pi * radii**2).sum())
        shapes += radii.size
    return np.clip(canvas, 0, 1)


def _leaf(canvas: ArrayF, texture: ArrayF, radius: float, rng: Rng) -> None:
    """Draw one shape of a radius over the canvas, in place."""
    size = canvas.shape[0]
    cy, cx = rng.uniform(0, size, 2)
    reach = radius * 1.5 + 1
    top, bottom = max(0, int(cy - reach)), min(size, int(cy + reach) + 2)
    left, right = max(0, int(cx - reach)), min(size, int(cx + reach) + 2)
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(cy)
    x = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(cx)
    angle = rng.uniform(0, np.pi)
    aspect = rng.uniform(0.35, 1.0)
    along = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    across = (np.float32(np.cos(angle)) * y - np.float32(np.sin(angle)) * x) / np.float32(aspect)
    kind = rng.integers(3)
    if kind == 0:
        distance = np.sqrt(along**2 + across**2)
    elif kind == 1:
        distance = np.maximum(np.abs(along), np.abs(across))
    else:
        turns = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(int(rng.integers(3, 7))) / 4.5
        sides = [np.float32(np.cos(turn)) * along + np.float32(np.sin(turn)) * across for turn in turns]
        distance = np.maximum(np.maximum.reduce(sides), np.sqrt(along**2 + across**2) / 1.3)
    inside = np.clip((radius - distance) * aspect + 0.5, 0, 1)
    level = np.float32(rng.random())
    fill: ArrayF | np.float32 = level
    finish = rng.integers(5)
    if finish == 1:
        fill = level + np.float32(rng.uniform(-0.5, 0.5) / radius) * along
    elif finish == 2 and radius > 4:
        period = rng.uniform(3, max(3.5, radius))
        fill = level + np.float32(rng.uniform(0.05, 0.4)) * np.sin(np.float32(2 * np.pi / period) * along)
    elif finish == 3:
        fill = level + np.float32(rng.uniform(-0.8, 0.8)) * (texture[top:bottom, left:right] - np.float32(0.5))
    part = canvas[top:bottom, left:right]
    part += inside * (fill - part)


def power_law_texture(size: int, rng: Rng, *, exponent: float) -> ArrayF:
    """Draw Gaussian noise whose amplitude falls as 1 / |f|^exponent, stretched to [0, 1].

    Args:
        size: pixels of a side.
        rng: the random generator.
        exponent: 0 is white, 2 is as smooth as clouds.
    """
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    stretch, turn = np.exp(rng.uniform(-0.7, 0.7)), rng.uniform(0, np.pi)
    u, v = np.cos(turn) * fx + np.sin(turn) * fy, np.cos(turn) * fy - np.sin(turn) * fx
    radius = np.sqrt((u * stretch) ** 2 + (v / stretch) ** 2 + (0.5 / size) ** 2)
    noise = np.fft.rfft2(rng.standard_normal((size, size), dtype=np.float32))
    field = np.fft.irfft2(noise * radius**-exponent, s=(size, size))
    low, high = np.percentile(field, [1, 99])
    return np.asarray(np.clip((field - low) / max(high - low, 1e-12), 0, 1), dtype=np.float32)


def stripes(size: int, rng: Rng) -> ArrayF:
    """Draw curved stripes, the sine of a smooth random field: folds, layers and vessels without an anatomy.

    Args:
        size: pixels of a side.
        rng: the random generator.

    Returns:
        float32 `(size, size)` in [0, 1].
    """
    field = zoom(rng.standard_normal((size // 8 + 1, size // 8 + 1)), 8, order=3)[:size, :size]
    field = gaussian_filter(field, float(np.exp(rng.uniform(np.log(6.0), np.log(30.0)))))
    field = (field - field.mean()) / field.std()
    wave = np.sin(2 * np.pi * np.exp(rng.uniform(np.log(0.3), np.log(3.0))) * field + rng.uniform(0, 2 * np.pi))
    sharp = rng.uniform(0.5, 6.0)
    picture = 0.5 + 0.5 * np.tanh(sharp * wave) / np.tanh(sharp)
    shade = power_law_texture(size, rng, exponent=2.0)
    return np.asarray(picture * (0.4 + 0.6 * shade), dtype=np.float32)


def procedural_picture(rng: Rng, size: int = _SIZE) -> ArrayF:
    """Draw one picture: dead leaves mostly, else a texture, stripes, or two of them side by side in smooth regions.

    Args:
        rng: the random generator.
        size: pixels of a side.

    Returns:
        float32 `(size, size)` in [0, 1].
    """
    makers: list[Callable[[], ArrayF]] = [
        lambda: dead_leaves(size, rng, smallest=float(np.exp(rng.uniform(np.log(1.5), np.log(8))))),
        lambda: power_law_texture(size, rng, exponent=float(rng.uniform(0.8, 2.2))),
        lambda: stripes(size, rng),
    ]
    first = int(rng.choice(3, p=[0.6, 0.15, 0.25]))
    picture = makers[first]()
    if rng.random() < 0.5:
        other = makers[int(rng.integers(3))]()
        region = power_law_texture(size, rng, exponent=2.5)
        edge = np.clip((region - np.float32(rng.uniform(0.3, 0.7))) * 60 + 0.5, 0, 1)
        picture = picture + edge * (other - picture)
    return np.asarray(picture, dtype=np.float32)


class PicturePool:
    """Procedural pictures by number, drawn when first asked for and kept.

    Picture n depends on the seed and n alone, so an example that names one is the same in every process.
    """

    def __init__(self, count: int, *, seed: int = 0, size: int = _SIZE) -> None:
        self.count, self._seed, self._size = count, seed, size
        self._drawn: dict[int, npt.NDArray[np.float16]] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> npt.NDArray[np.float16]:
        if not 0 <= number < self.count:
            raise IndexError(f"expected a picture between 0 and {self.count - 1}, got {number}")
        if number not in self._drawn:
            picture = procedural_picture(np.random.default_rng([self._seed, number]), self._size)
            self._drawn[number] = picture.astype(np.float16)
        return self._drawn[number]
