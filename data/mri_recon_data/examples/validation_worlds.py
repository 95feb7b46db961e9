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
from mri_recon_data.simulation.arrays import ReceiveArray, draw_array, measured_array
from mri_recon_data.simulation.kspace import complex_noise

__all__ = ["PLAIN_ACQUISITION", "PLAIN_SCENE", "ValidationScan", "validation_scans", "validation_worlds"]

Rng = np.random.Generator

_ACCELERATIONS = (4, 8)
_OTHER_ANATOMY = "neck-axial"
_MEASURED = "measured-16coil"
_ROUGH = "rough-phase"
_RAW = 6
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
    """

    kind: str
    kspace: Tensor
    mask: ColumnMask
    sens_maps: Tensor | None = None
    image: Tensor | None = None

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
            yield ValidationScan(f"raw-{acceleration}x", piece.kspace, mask)
    heads = [image for image in images if not image.source.endswith(_OTHER_ANATOMY)]
    necks = [image for image in images if image.source.endswith(_OTHER_ANATOMY)]
    scans: list[tuple[str, Rng, Tensor, int, float]] = []  # kind, generator, magnitude, coils, SNR
    for rng, image in _drawn(heads, _ONE_COIL, [seed, 1]):
        scans.append(("simulated-1coil", rng, image, 1, float(np.exp(rng.uniform(*np.log((10.0, 200.0)))))))
    for number, snr in enumerate(_SNRS):
        for rng, image in _drawn(heads, _EACH, [seed, 2, number]):
            scans.append((f"simulated-8coil-snr{snr:g}", rng, image, 8, snr))
    for rng, image in _drawn(heads, _EACH if measured else 0, [seed, 5]):
        scans.append((_MEASURED, rng, image, 16, 40.0))
    for rng, image in _drawn(necks, _EACH, [seed, 3]):
        scans.append(("neck", rng, image, 4, 40.0))
    pictures = PicturePool(_EACH, seed=_PICTURE_SEED)
    for number in range(_EACH):
        rng = np.random.default_rng([seed, 4, number])
        scans.append(("procedural", rng, scene_of_picture(pictures[number], rng, PLAIN_SCENE), 8, 40.0))
    for rng, image in _drawn(heads, _EACH, [seed, 6]):
        scans.append((_ROUGH, rng, image, 8, 40.0))
    for number, (kind, rng, image, num_coils, snr) in enumerate(scans):
        shape = (int(image.shape[0]), int(image.shape[1]))
        if kind == _MEASURED:
            array = measured_array(num_coils, shape, rng, whiten=False, split="validation")
        else:
            array = draw_array(num_coils, shape, rng, PLAIN_ACQUISITION.array)
        yield from _simulated(kind, image, array, rng, snr=snr, seed=number)


def _simulated(
    kind: str, magnitude: Tensor, array: ReceiveArray, rng: Rng, *, snr: float, seed: int
) -> Iterator[ValidationScan]:
    image = with_phase(magnitude, rng, _ROUGH_ACQUISITION if kind == _ROUGH else PLAIN_ACQUISITION)
    num_coils = int(array.maps.shape[0])
    noise = complex_noise((num_coils, *image.shape), rng, sigma=1 / snr / 2**0.5)
    if array.noise is not None:
        noise = (array.noise @ noise.flatten(1)).reshape(noise.shape)
    kspace = fft2c(array.maps * image + noise)
    clean = image if num_coils > 1 else None
    for acceleration in _ACCELERATIONS:
        mask = random_mask(int(image.shape[1]), acceleration, seed=seed)
        yield ValidationScan(f"{kind}-{acceleration}x", kspace, mask, array.maps, clean)


def _spread(pieces: Sequence[RawSlice], count: int) -> list[RawSlice]:
    """Select `count` slices evenly from first to last, for other contrasts and positions."""
    return [pieces[round(place)] for place in np.linspace(0, len(pieces) - 1, min(count, len(pieces)))]


def _drawn(slices: Sequence[ImageSlice], count: int, seed: list[int]) -> Iterator[tuple[Rng, Tensor]]:
    for number in range(count if slices else 0):
        rng = np.random.default_rng([*seed, number])
        chosen = slices[int(rng.integers(len(slices)))]
        yield rng, scene_of_slice(chosen.magnitude, rng, PLAIN_SCENE)
