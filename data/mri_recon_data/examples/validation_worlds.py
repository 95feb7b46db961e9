"""Validation examples by world: the same few scans for every run, from subjects and pictures that no training sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mri_recon.coils.combine import combine, rss
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data.examples.acquisition import AcquisitionConfig, with_phase
from mri_recon_data.examples.example import Example, raw_example
from mri_recon_data.examples.raw_slice import RawSlice
from mri_recon_data.scenes.content import ContentConfig
from mri_recon_data.scenes.images import ImageSlice
from mri_recon_data.scenes.pictures import PicturePool
from mri_recon_data.scenes.sources import SceneConfig, scene_of_picture, scene_of_slice
from mri_recon_data.simulation.arrays import draw_array, measured_array
from mri_recon_data.simulation.kspace import complex_noise

__all__ = ["PLAIN_ACQUISITION", "PLAIN_SCENE", "ValidationScan", "validation_scans", "validation_worlds"]

Rng = np.random.Generator

_ACCELERATIONS = (4, 8)
_OTHER_ANATOMY = "neck-axial"
_MEASURED = "measured-16coil"
_ROUGH = "rough-phase"
_RAW = 6
_RAW_SET = "raw/brain-0.055T"  # the only raw set of the validation split
_ONE_COIL = 4
_SNRS = (10.0, 40.0, 200.0)
_EACH = 3  # scans of every other kind
_PICTURE_SEED = 1  # training pictures have seed 0

# Anatomy without augmentation: nobody will reconstruct the artificial variations of training.
PLAIN_SCENE = SceneConfig(
    size=(96, 256),
    resolution=(0.7, 1.0),
    gamma=(0.8, 1.25),
    wrap=0.0,
    bias=0.0,
    overlay=0.0,
    content=ContentConfig(),
)
PLAIN_ACQUISITION = AcquisitionConfig(strong_phase=0.0)
_ROUGH_ACQUISITION = AcquisitionConfig(strong_phase=0.0, rough=1.0, rough_phase=(0.5, 3.0))


@dataclass(frozen=True)
class ValidationScan:
    """Hold one slice to validate on.

    Attributes:
        kind: its world and acceleration, e.g. "simulated-8coil-snr40-4x".
        kspace: full k-space, complex64 `(coil, readout, phase)`.
        mask: the undersampling mask.
        sens_maps: true maps like `kspace`; None for raw k-space.
        image: true image without noise, complex `(readout, phase)`; None where the full k-space is the reference.
        source: set of the registry it was made from, "" for a procedural picture.
    """

    kind: str
    kspace: Tensor
    mask: ColumnMask
    sens_maps: Tensor | None = None
    image: Tensor | None = None
    source: str = ""

    @property
    def reference(self) -> Tensor:
        """Magnitude to compare with, `(readout, phase)`: the true image, else the RSS of the coils."""
        if self.image is None or self.sens_maps is None:
            return rss(ifft2c(self.kspace))
        return combine(self.sens_maps * self.image, self.sens_maps).abs()

    def example(self) -> Example:
        """Make the example that a network is validated on."""
        return raw_example(self.kspace, self.mask, sens_maps=self.sens_maps, image=self.image)


def validation_worlds(
    raw: Sequence[RawSlice], images: Sequence[ImageSlice], *, seed: int, measured: bool = False
) -> list[tuple[str, Example]]:
    """Make an example of each of `validation_scans`, with its kind.

    Args and Raises: as `validation_scans`.
    """
    scans = validation_scans(raw, images, seed=seed, measured=measured)
    return [(scan.kind, scan.example()) for scan in scans]


def validation_scans(
    raw: Sequence[RawSlice], images: Sequence[ImageSlice], *, seed: int, measured: bool = False
) -> Iterator[ValidationScan]:
    """Yield the validation scans of every world that is at hand, whole slices at R = 4 and 8.

    Kinds, each with "-4x" or "-8x": "raw"; of the validation persons' images "simulated-1coil" and, with the SNR,
    "simulated-8coil-snr10", "-snr40", "-snr200", and "measured-16coil" (SNR 40, noise correlated as measured) where
    `measured`; "neck" (4 coils, SNR 40); "procedural" (8 coils, SNR 40); "rough-phase" (heads, 8 coils, SNR 40, a phase
    that the fully sampled centre does not resolve). Maps are estimated as at inference. Several coils are judged by the
    image without noise, one coil by its reference.

    Args:
        raw: raw slices of the validation persons.
        images: magnitude slices of the validation split.
        seed: of the run; equal seeds give equal examples.
        measured: whether training has measured coils: then those of a validation phantom are here.

    Raises:
        DataError: measured coils whose files are not at hand.
    """
    for number, piece in enumerate(_spread(raw, _RAW)):
        for acceleration in _ACCELERATIONS:
            mask = random_mask(piece.support.size, acceleration, seed=number, support=piece.support)
            yield ValidationScan(f"raw-{acceleration}x", piece.kspace, mask, source=_RAW_SET)
    heads = [image for image in images if not image.source.endswith(_OTHER_ANATOMY)]
    necks = [image for image in images if image.source.endswith(_OTHER_ANATOMY)]
    planned = [
        _Planned("simulated-1coil", *drawn, 1, float(np.exp(drawn[0].uniform(*np.log((10.0, 200.0))))))
        for drawn in _drawn(heads, _ONE_COIL, [seed, 1])
    ]
    for number, snr in enumerate(_SNRS):
        planned += [
            _Planned(f"simulated-8coil-snr{snr:g}", *drawn, 8, snr) for drawn in _drawn(heads, _EACH, [seed, 2, number])
        ]
    planned += [_Planned(_MEASURED, *drawn, 16, 40.0) for drawn in _drawn(heads, _EACH * measured, [seed, 5])]
    planned += [_Planned("neck", *drawn, 4, 40.0) for drawn in _drawn(necks, _EACH, [seed, 3])]
    pictures = PicturePool(_EACH, seed=_PICTURE_SEED)
    for number in range(_EACH):
        rng = np.random.default_rng([seed, 4, number])
        planned.append(_Planned("procedural", rng, scene_of_picture(pictures[number], rng, PLAIN_SCENE), "", 8, 40.0))
    planned += [_Planned(_ROUGH, *drawn, 8, 40.0) for drawn in _drawn(heads, _EACH, [seed, 6])]
    for number, plan in enumerate(planned):
        yield from _simulated(plan, seed=number)


@dataclass(frozen=True)
class _Planned:
    """Hold what a simulated scan is made of, and the generator that draws the rest."""

    kind: str
    rng: Rng
    magnitude: Tensor
    source: str
    num_coils: int
    snr: float


def _simulated(plan: _Planned, *, seed: int) -> Iterator[ValidationScan]:
    shape, rng = (int(plan.magnitude.shape[0]), int(plan.magnitude.shape[1])), plan.rng
    if plan.kind == _MEASURED:
        array = measured_array(plan.num_coils, shape, rng, whiten=False, split="validation")
    else:
        array = draw_array(plan.num_coils, shape, rng, PLAIN_ACQUISITION.array)
    image = with_phase(plan.magnitude, rng, _ROUGH_ACQUISITION if plan.kind == _ROUGH else PLAIN_ACQUISITION)
    noise = complex_noise((plan.num_coils, *shape), rng, sigma=1 / plan.snr / 2**0.5)
    if array.noise is not None:
        noise = (array.noise @ noise.flatten(1)).reshape(noise.shape)
    kspace = fft2c(array.maps * image + noise)
    clean = image if plan.num_coils > 1 else None
    for acceleration in _ACCELERATIONS:
        mask = random_mask(shape[1], acceleration, seed=seed)
        yield ValidationScan(f"{plan.kind}-{acceleration}x", kspace, mask, array.maps, clean, plan.source)


def _spread(pieces: Sequence[RawSlice], count: int) -> list[RawSlice]:
    """Select `count` slices evenly from first to last, for other contrasts and positions."""
    return [pieces[round(place)] for place in np.linspace(0, len(pieces) - 1, min(count, len(pieces)))]


def _drawn(slices: Sequence[ImageSlice], count: int, seed: list[int]) -> Iterator[tuple[Rng, Tensor, str]]:
    for number in range(count if slices else 0):
        rng = np.random.default_rng([*seed, number])
        chosen = slices[int(rng.integers(len(slices)))]
        yield rng, scene_of_slice(chosen.magnitude, rng, PLAIN_SCENE), chosen.source
