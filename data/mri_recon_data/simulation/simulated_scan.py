"""Simulate a scan from a user's magnitude images, with their place in the patient, and write it.

For every slice x of the images

    y_c = F (S_c exp(i phi) x + n_c),

x Fourier-cropped to the wanted matrix, phi a smooth random phase of the slice, S_c modelled sensitivities of coils
around the object, the same for all slices, and n_c complex white noise. The reference is |x|, without noise. The file
says that it is SIMULATED, and so does everything that is reconstructed from it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mri_recon._system.hashes import file_sha256
from mri_recon.errors import ShapeError
from mri_recon.io import save_scan
from mri_recon.io.geometry import Geometry
from mri_recon.io.pictures import NO_PICTURES
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES
from mri_recon.notice import RESEARCH_ONLY
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.magnitudes.images import MagnitudeImages
from mri_recon_data.registry import load_registry
from mri_recon_data.scenes.crop import fourier_crop
from mri_recon_data.simulation.kspace import coil_maps, complex_noise, smooth_phase

__all__ = ["ScanOptions", "SimulatedScan", "simulate_scan", "write_scan"]

_BRIGHT = 99.5  # percentile of the volume that counts as the signal
_MAX_COILS = 128
_MAX_LISTED = 20  # source files in the provenance


@dataclass(frozen=True)
class ScanOptions:
    """Coils, noise, phase and size of a simulated scan.

    Attributes:
        num_coils: number of receive coils; one coil is constant 1.
        snr: bright signal (the 99.5th percentile of the volume) over the standard deviation of the noise in each of
            real and imaginary part, in the image of one coil of sensitivity 1.
        phase_strength: standard deviation of the smooth phase, radians.
        matrix: readout and phase samples, at most those of the images; None: those of the images.
        seed: of phase, coils and noise.

    Raises:
        ShapeError: a value outside its range.
    """

    num_coils: int = 8
    snr: float = 40.0
    phase_strength: float = 0.6
    matrix: tuple[int, int] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.num_coils <= _MAX_COILS:
            raise ShapeError(f"expected 1 to {_MAX_COILS} coils, got {self.num_coils}: choose a number between")
        if not 0.1 <= self.snr <= 1e9:
            raise ShapeError(f"expected an SNR from 0.1 to 1e9, got {self.snr:g}: choose one between, such as 40")
        if not 0 <= self.phase_strength <= 10:
            raise ShapeError(f"expected a phase of 0 to 10 radians, got {self.phase_strength:g}: choose one between")
        if self.seed < 0:
            raise ShapeError(f"expected a seed of at least 0, got {self.seed}: choose another number")


@dataclass(frozen=True)
class SimulatedScan:
    """Hold k-space `(slice, coil, readout, phase)`, complex64, the images without noise, and their geometry."""

    kspace: npt.NDArray[np.complex64]
    image: npt.NDArray[np.float32]
    geometry: Geometry | None


def simulate_scan(
    images: MagnitudeImages, options: ScanOptions | None = None, *, max_bytes: int = DEFAULT_MAX_BYTES
) -> SimulatedScan:
    """Simulate full k-space of every slice, in the units of the images.

    The Fourier crop to a smaller matrix keeps the field of view and the place of the pixel `(h // 2, w // 2)`, so
    the voxels grow and everything stays where it was.

    Args:
        images: the slices.
        options: coils, noise, phase and size.
        max_bytes: largest k-space.

    Raises:
        ShapeError: a matrix larger than the images, or k-space larger than `max_bytes`.
    """
    options = options or ScanOptions()
    num_slices, h, w = images.magnitude.shape
    size = options.matrix or (h, w)
    if not (1 <= size[0] <= h and 1 <= size[1] <= w):
        raise ShapeError(
            f"expected a matrix of at most {h}x{w} (readout x phase), got {size[0]}x{size[1]}: a simulation adds no "
            "resolution"
        )
    needed = 8 * num_slices * options.num_coils * size[0] * size[1]
    if needed > max_bytes:
        raise ShapeError(
            f"expected k-space of at most {max_bytes} bytes, {num_slices} slices of {options.num_coils} coils take "
            f"{needed}: choose fewer slices or coils, or a smaller matrix"
        )
    seeds = np.random.SeedSequence(options.seed).spawn(num_slices + 1)
    maps = torch.from_numpy(coil_maps(options.num_coils, size, np.random.default_rng(seeds[-1])))
    sigma = float(np.percentile(images.magnitude, _BRIGHT)) / options.snr
    if sigma <= 0:  # less than half a per cent of the pixels belong to the object
        sigma = float(images.magnitude.max()) / options.snr
    kspace = np.empty((num_slices, options.num_coils, *size), dtype=np.complex64)
    truth = np.empty((num_slices, *size), dtype=np.float32)
    for number, plane in enumerate(images.magnitude):
        rng = np.random.default_rng(seeds[number])
        image = torch.from_numpy(plane)
        if size != (h, w):
            image = fourier_crop(image, size).abs()
        truth[number] = image.numpy()
        phase = torch.from_numpy(smooth_phase(size, rng, strength=options.phase_strength))
        noise = complex_noise((options.num_coils, *size), rng, sigma=sigma)
        kspace[number] = fft2c(maps * torch.polar(image, phase) + noise).numpy()
    geometry = images.geometry
    if geometry is not None:
        x, y, z = geometry.voxel_size
        geometry = replace(geometry, voxel_size=(x * h / size[0], y * w / size[1], z))
    return SimulatedScan(kspace, truth, geometry)


def write_scan(path: str | Path, images: MagnitudeImages, options: ScanOptions | None = None) -> SimulatedScan:
    """Simulate a scan and write it in fastMRI's layout, marked as simulated.

    The attributes `simulated`, `notice` and `provenance` (JSON: source files with SHA-256, options, what was assumed)
    say how it was made. Images of a registered set that may not be pictured stay so.

    Raises:
        ShapeError: as `simulate_scan`.
        FormatError: a source that was changed or removed meanwhile.
        OutputError: as `save_scan`.
    """
    options = options or ScanOptions()
    made = simulate_scan(images, options)
    digests = {file: file_sha256(file) for file in images.files}
    hidden = {one.sha256 for one in load_registry().files(kind="image") if one.no_pictures}
    provenance = {
        "made_by": "mri-recon data simulate",
        "source": images.name,
        "files": [{"name": file.name, "sha256": digest} for file, digest in list(digests.items())[:_MAX_LISTED]],
        "num_files": len(digests),
        "notes": list(images.notes),
        "num_coils": options.num_coils,
        "coils": "modelled loops around the object, sum |S|^2 = 1",
        "snr": options.snr,
        "phase_strength": options.phase_strength,
        "matrix": list(made.image.shape[-2:]),
        "matrix_of_images": list(images.magnitude.shape[-2:]),
        "seed": options.seed,
        "reference": "the images without noise and phase",
    }
    notice = f"SIMULATED k-space, made from the magnitude images {images.name}: no measurement. {RESEARCH_ONLY}"
    attributes: dict[str, str | float | bool] = {
        "simulated": True,
        "notice": notice,
        "provenance": json.dumps(provenance),
    }
    if hidden & set(digests.values()):
        attributes[NO_PICTURES] = True
    save_scan(
        path,
        made.kspace,
        target=made.image,
        acquisition=images.acquisition or None,
        geometry=made.geometry,
        attributes=attributes,
    )
    return made
