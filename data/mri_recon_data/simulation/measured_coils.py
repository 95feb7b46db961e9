"""Sensitivities and noise covariance of real coil arrays, measured on registered phantoms, for the simulation.

The coil images of a homogeneous phantom are I_c = rho S_c + noise, rho the phantom with a smooth phase. Divided by
their root sum of squares, and turned to the phase of one virtual coil, they are the sensitivities inside the phantom.
There a smooth function is fitted to each of them,

    a_c = argmin_a sum_r w(r) |s_c(r) - f_a(r)|^2 + mu sum_jk (j^2 + k^2)^2 |a_jk|^2,
    f_a(u, v) = sum_jk a_jk cos(pi j u) cos(pi k v),

w = the power of the phantom's signal with the sum 1, (u, v) in [0, 1]^2 over a square around the phantom, 1.6 times as
large. The penalty is the bending energy, so the fit leaves the phantom as straight as it can: it neither rings at the
edge nor grows. Beyond the phantom the functions are plausible, not measured. They are evaluated wherever a simulated
field of view lies, and divided by their root sum of squares.

mu is about what best predicts a ring at the rim of the phantom from its inner part, over all arrays; the number of
cosines hardly matters then. Noise is taken from the corners of the image, which no phantom reaches: the corners of
k-space hold signal where the matrix is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from mri_recon.coils.noise import noise_covariance
from mri_recon.errors import DataError
from mri_recon.transforms.fourier import ifft2c
from mri_recon_data import registry
from mri_recon_data.registry import Split

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BENDING",
    "EXTENT",
    "MAX_ORDER",
    "MeasuredArray",
    "array_sources",
    "fit_array",
    "measured_arrays",
    "measured_coil_maps",
]

ArrayC = npt.NDArray[np.complex64]
ArrayF = npt.NDArray[np.float64]
ArrayB = npt.NDArray[np.bool_]

MAX_ORDER = 12
"""Cosines with j + k below this: 78 of them."""
BENDING = 1e-6
"""mu, the weight of the bending energy."""
EXTENT = 1.6
"""Side of the square that the cosines span, relative to the phantom's."""

_GRID = 8  # pixels of the simulated image to a point at which the functions are evaluated; between them cubic
_MIN_GRID = 17
_TRIES = 4
_BLIND = 0.2  # of the signal of all coils
_LEAST_SIGNAL = 4.0  # of the corners of the image
_THRESHOLD = 0.25  # of the bright part: darker pixels belong to holes, the rim or noise


@dataclass(frozen=True)
class MeasuredArray:
    """The sensitivities of one array in one slice as functions of the place.

    Attributes:
        name: of the set, and the slice.
        coefficients: a, complex128 `(coil, mode)`.
        covariance: of the noise, complex128 `(coil, coil)`, mean of the diagonal 1.
        center: of the phantom, `(row, column)` in pixels of the measured image.
        size: side of the phantom in pixels.
        residual: root of the mean over the phantom of sum_c |S_c - s_c|^2, S the fit: noise and misfit.
    """

    name: str
    coefficients: npt.NDArray[np.complex128]
    covariance: npt.NDArray[np.complex128]
    center: tuple[float, float]
    size: float
    residual: float

    @property
    def num_coils(self) -> int:
        """Number of coils."""
        return int(self.coefficients.shape[0])

    def evaluate(self, y: ArrayF, x: ArrayF) -> npt.NDArray[np.complex128]:
        """Evaluate the fitted functions, not yet normalised.

        Args:
            y: rows, in units of the phantom's side from its centre.
            x: columns, the same; of one shape with `y`.

        Returns:
            complex128 `(coil, *shape)`.
        """
        values = self.coefficients @ _basis(y.ravel(), x.ravel()).T
        return values.reshape(self.num_coils, *y.shape)

    def on_pixels(self, shape: tuple[int, int]) -> ArrayC:
        """Evaluate the sensitivities `(coil, h, w)` on the measured image's own pixels, sum over coils of |S|^2 = 1."""
        rows, columns = np.indices(shape, dtype=np.float64)
        maps = self.evaluate((rows - self.center[0]) / self.size, (columns - self.center[1]) / self.size)
        return _normalised(maps)


@cache
def measured_arrays(split: Split = "train") -> tuple[tuple[MeasuredArray, ...], ...]:
    """Fit the arrays of a split's phantoms, once a process: a tuple an array, with an entry a slice.

    Args:
        split: train (32, 8 and 4 coils) or validation (16 and 2).

    Raises:
        DataError: a split without arrays, or files that are not at hand.
        FormatError: a file that cannot be read, or the extra `scanners` is not installed.
    """
    found = []
    for file in registry.files(split=split, kind="phantom"):
        scan = file.load()
        if scan.num_coils > 1:
            kspace = scan.kspace
            found.append(tuple(fit_array(one, name=f"{file.set_name} {n}") for n, one in enumerate(kspace)))
    if not found:
        raise DataError(
            f"expected phantoms with several coils in the split {split!r}, got none: train and validation do"
        )
    return tuple(found)


def array_sources(splits: Sequence[Split] = ("train", "validation")) -> list[dict[str, Any]]:
    """List the phantoms of the measured coils for a model card, one row for each set: licence, citation, source.

    Raises:
        DataError, FormatError: as `measured_arrays`.
    """
    used = {split: {slices[0].name.rsplit(" ", 1)[0] for slices in measured_arrays(split)} for split in splits}
    return [
        {
            "name": data_set.name,
            "kind": "coil sensitivities and noise, measured on a phantom",
            "split": split,
            "persons": [],
            "licence": data_set.licence,
            "citation": data_set.citation,
            "source": data_set.source,
        }
        for split in splits
        for data_set in registry.load_registry().sets
        if data_set.name in used[split]
    ]


def fit_array(kspace: Tensor, *, name: str = "array") -> MeasuredArray:
    """Fit smooth sensitivities to the fully sampled k-space of a phantom.

    Args:
        kspace: complex `(coil, readout, phase)`, several coils.
        name: for the result and messages.

    Raises:
        DataError: no connected region of signal to fit to.
    """
    images = ifft2c(kspace).numpy().astype(np.complex128)
    magnitude = np.sqrt((np.abs(images) ** 2).sum(axis=0))
    inside = _phantom(magnitude)
    corners = _corners(magnitude, max(1, min(magnitude.shape) // 16))
    seen = np.sqrt((magnitude[inside] ** 2).mean()) if inside.any() else 0.0
    if inside.sum() < 4 * MAX_ORDER**2 or seen < _LEAST_SIGNAL * np.sqrt((corners**2).mean()):
        raise DataError(f"expected a phantom that fills a part of the image of {name}, found too little signal")
    normalised = images * _phase(images[:, inside], images) / np.maximum(magnitude, np.finfo(float).tiny)
    rows, columns = np.nonzero(inside)
    center = ((rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2)
    size = float(max(np.ptp(rows), np.ptp(columns)) + 1)
    basis = _basis((rows - center[0]) / size, (columns - center[1]) / size)
    weight = magnitude[inside] ** 2
    weight /= weight.sum()
    orders = _orders().astype(np.float64)
    normal = basis.T @ (basis * weight[:, None]) + np.diag(BENDING * (orders**2).sum(axis=1) ** 2)
    values = normalised[:, inside]
    # The constant has no bending energy; the phantom determines it.
    coefficients = np.linalg.solve(normal, (basis * weight[:, None]).T @ values.T).T
    fitted = _normalised(coefficients @ basis.T)
    residual = float(np.sqrt((np.abs(fitted - values) ** 2).sum(axis=0).mean()))
    return MeasuredArray(name, coefficients, _covariance(images), (float(center[0]), float(center[1])), size, residual)


def measured_coil_maps(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    num_coils: int | None = None,
    split: Split = "train",
) -> tuple[ArrayC, ArrayC]:
    """Draw sensitivities of a measured array over a field of view, and the covariance of its noise.

    The array is drawn from those with enough coils; then a slice, a rotation, a field of view of 0.9 to 1.5 times the
    phantom, a shift of up to 0.15 of it, and a mirror. Fewer coils than the array has are a random subset or, as often,
    virtual coils: the leading principal components of the sensitivities.

    Args:
        shape: `(h, w)` of the image; pixels are square.
        rng: the random generator.
        num_coils: how many; None: all of the array, or, as often, a random number from 2.
        split: whose phantoms, see `measured_arrays`.

    Returns:
        maps, complex64 `(coil, h, w)`, sum over coils of |S|^2 = 1, smooth over the whole image; and the noise
        covariance, complex64 `(coil, coil)`, Hermitian, mean of the diagonal 1.

    Raises:
        DataError: more coils than any array of the split has, fewer than one, or as `measured_arrays`.
    """
    arrays = [slices for slices in measured_arrays(split) if num_coils is None or slices[0].num_coils >= num_coils]
    if not arrays or (num_coils is not None and num_coils < 1):
        most = max(slices[0].num_coils for slices in measured_arrays(split))
        raise DataError(f"expected 1 to {most} coils of the measured arrays of the split {split!r}, got {num_coils}")
    slices = arrays[rng.integers(len(arrays))]
    array = slices[rng.integers(len(slices))]
    available = array.num_coils
    if num_coils is None:
        wanted = available if available == 2 or rng.random() < 0.5 else int(rng.integers(2, available))
    else:
        wanted = num_coils
    maps = array.evaluate(*_field_of_view(shape, rng))
    mixing = _mixing(maps, wanted, rng)
    maps = np.tensordot(mixing, maps, axes=1)
    covariance = mixing @ array.covariance @ mixing.conj().T
    covariance /= np.trace(covariance).real / wanted
    return _on_image(maps, shape), covariance.astype(np.complex64)


def _field_of_view(shape: tuple[int, int], rng: np.random.Generator) -> tuple[ArrayF, ArrayF]:
    """Places of a coarse grid over the image, in units of the phantom: rotated, scaled, shifted, mirrored."""
    longest = max(shape)
    points = [max(_MIN_GRID, -(-side // _GRID) + 1) for side in shape]
    y, x = np.meshgrid(
        *(np.linspace(-0.5, 0.5, count) * side / longest for count, side in zip(points, shape, strict=True)),
        indexing="ij",
    )
    angle, side = rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 1.5)
    shift_y, shift_x = rng.uniform(-0.15, 0.15, size=2)
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    cosine, sine = side * np.cos(angle), side * np.sin(angle)
    return cosine * y - sine * mirror * x + shift_y, sine * y + cosine * mirror * x + shift_x


def _mixing(maps: npt.NDArray[np.complex128], wanted: int, rng: np.random.Generator) -> npt.NDArray[np.complex128]:
    """Rows that make the wanted coils out of all: some of them, or principal components.

    A subset that is blind somewhere has no smooth normalised sensitivities there: another one is drawn.
    """
    available = maps.shape[0]
    identity = np.eye(available, dtype=np.complex128)
    if wanted == available:
        return identity
    samples = maps.reshape(available, -1)
    if rng.random() < 0.5:
        power = np.sqrt((np.abs(samples) ** 2).sum(axis=0))
        for _ in range(_TRIES):
            chosen = np.sort(rng.choice(available, wanted, replace=False))
            if (np.sqrt((np.abs(samples[chosen]) ** 2).sum(axis=0)) > _BLIND * power).all():
                return identity[chosen]
    _, vectors = np.linalg.eigh(samples @ samples.conj().T)
    return np.asarray(vectors[:, ::-1][:, :wanted].conj().T)


def _on_image(maps: npt.NDArray[np.complex128], shape: tuple[int, int]) -> ArrayC:
    """Cubic interpolation from the coarse grid to the image, divided by the root sum of squares over coils."""
    rows, columns = (_cubic(count, side) for count, side in zip(maps.shape[1:], shape, strict=True))
    parts = torch.from_numpy(np.concatenate([maps.real, maps.imag]).astype(np.float32))
    full = rows @ parts @ columns.T
    full *= full.square().sum(dim=0).clamp_min(torch.finfo(torch.float32).tiny).rsqrt()
    return torch.complex(full[: len(maps)], full[len(maps) :]).numpy()


@lru_cache(maxsize=64)
def _cubic(count: int, size: int) -> Tensor:
    """Matrix `(size, count)` that interpolates `count` equally spaced values, the ends included, by cubics."""
    identity = torch.eye(count)[None, None]
    found: Tensor = torch.nn.functional.interpolate(identity, size=(size, count), mode="bicubic", align_corners=True)
    return found[0, 0]


def _normalised(maps: npt.NDArray[Any]) -> ArrayC:
    power = np.sqrt((np.abs(maps) ** 2).sum(axis=0))
    return np.asarray(maps / np.maximum(power, np.finfo(np.float32).tiny), dtype=np.complex64)


def _orders() -> npt.NDArray[np.int64]:
    return np.array([(j, k) for j in range(MAX_ORDER) for k in range(MAX_ORDER - j)], dtype=np.int64)


def _basis(y: ArrayF, x: ArrayF) -> ArrayF:
    """Cosines at places in units of the phantom, `(place, mode)`."""
    angles = [np.pi * (axis[:, None] / EXTENT + 0.5) * np.arange(MAX_ORDER) for axis in (y, x)]
    rows, columns = (np.cos(angle) for angle in angles)
    orders = _orders()
    return np.asarray(rows[:, orders[:, 0]] * columns[:, orders[:, 1]])


def _phantom(magnitude: ArrayF) -> ArrayB:
    """The largest connected region of signal, without its rim and without holes of no signal."""
    bright = magnitude > _THRESHOLD * np.percentile(magnitude, 98)
    labels, count = ndimage.label(ndimage.binary_opening(bright, iterations=2))
    if not count:
        return np.zeros(magnitude.shape, dtype=np.bool_)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.asarray(ndimage.binary_erosion(ndimage.binary_fill_holes(largest), iterations=2) & bright)


def _phase(samples: npt.NDArray[np.complex128], images: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    """Compute the conjugate phase of the virtual coil with most signal, which removes the common phase of the coils."""
    _, vectors = np.linalg.eigh(samples @ samples.conj().T)
    virtual = np.tensordot(vectors[:, -1].conj(), images, axes=1)
    return np.asarray(np.conj(virtual) / np.maximum(np.abs(virtual), np.finfo(float).tiny))


def _covariance(images: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    """Noise covariance from the four corners of the image, drawn towards its diagonal by coils over samples."""
    num_coils, h, w = images.shape
    # At least eight samples a coil.
    side = max(min(h, w) // 16, int(np.ceil(np.sqrt(2 * num_coils))))
    samples = _corners(images, side)
    covariance = noise_covariance(torch.from_numpy(samples)).numpy()
    share = num_coils / samples.shape[1]
    covariance = (1 - share) * covariance + share * np.diag(np.diag(covariance))
    return np.asarray(covariance / (np.trace(covariance).real / num_coils))


def _corners(images: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """Squares of `side` pixels at the corners of images `(..., h, w)`, their pixels along one last axis."""
    h, w = images.shape[-2:]
    squares = [
        images[..., rows, columns].reshape(*images.shape[:-2], -1)
        for rows in (slice(0, side), slice(h - side, h))
        for columns in (slice(0, side), slice(w - side, w))
    ]
    return np.concatenate(squares, axis=-1)
