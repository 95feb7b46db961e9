"""Make the embedded sample from Colin27: `python -m mri_recon_data.simulation.make_sample OUT.h5`.

Four axial slices of the registered magnitude volume become multi-coil k-space:

    y_c = F (S_c exp(i phi) x) + n_c,

x the slice Fourier-cropped to the support it truly has, phi a smooth random phase, S_c the receive sensitivity of one
of eight loops around the head by the law of Biot and Savart, n_c complex white noise. Nothing is drawn from a global
generator: the same volume gives the same file, up to the last bits of the FFT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch

from mri_recon._system.files import write_atomically
from mri_recon.errors import DataError
from mri_recon.io.writers.hdf5 import hdf5_content
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data.registry import RegisteredFile, load_registry
from mri_recon_data.scenes.crop import fourier_crop
from mri_recon_data.simulation.kspace import complex_noise, smooth_phase

__all__ = ["loop_sensitivities", "read_volume", "simulate_sample", "write_sample"]

SEED = 27
SLICES = (56, 72, 88, 104)  # of the volume's third axis: from the basal ganglia to the centrum semiovale
SIZE = (151, 127)  # of 217x181: 0.7 of the Nyquist frequency, above which the average over 27 scans is smooth
NUM_COILS = 8
SNR = 40.0  # mean of the noiseless root-sum-of-squares over the head, over the noise's deviation per real part
PHASE_STRENGTH = 0.6  # radians
LOOP_RADIUS = 75.0  # millimetres
FORMER = (135.0, 155.0)  # semi-axes of the ellipse on which the loops stand, millimetres: left-right, front-back

NOTICE = (
    "SIMULATED from the Colin27 average brain. For demonstration and tests, not for clinical use; never trained on."
)
COPYRIGHT = (
    "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill "
    "University. Permission to use, copy, modify, and distribute this software and its documentation for any purpose "
    "and without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors and "
    "McGill University make no representations about the suitability of this software for any purpose. It is provided "
    '"as is" without express or implied warranty. The authors are not responsible for any data loss, equipment damage, '
    "property loss, or injury to subjects or patients resulting from the use or misuse of this software package."
)

Volume = npt.NDArray[np.uint8]
Real = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]


def loop_sensitivities(points: Real, *, num_coils: int = NUM_COILS, segments: int = 64) -> Complex:
    """Compute the receive sensitivities of circular loops on an elliptical former around the z axis, unscaled.

    S_c(r) = B_x - i B_y,  B(r) = closed integral of dl x (r - l) / |r - l|^3, Biot and Savart with unit current.

    Args:
        points: positions in millimetres, `(..., 3)` as left-right, front-back, feet-head.
        num_coils: loops, equally spaced in angle, each facing the axis.
        segments: straight pieces a loop is made of.

    Returns:
        `(num_coils, ...)`.
    """
    turn = 2 * np.pi * (np.arange(segments) + 0.5) / segments
    maps = np.empty((num_coils, *points.shape[:-1]), dtype=np.complex128)
    for coil, angle in enumerate(2 * np.pi * (np.arange(num_coils) + 0.5) / num_coils):
        centre = np.array([FORMER[0] * np.cos(angle), FORMER[1] * np.sin(angle), 0.0])
        inward = -centre / np.linalg.norm(centre)
        tangent, up = np.cross([0.0, 0.0, 1.0], inward), np.array([0.0, 0.0, 1.0])
        field = np.zeros(points.shape)
        for t in turn:
            wire = centre + LOOP_RADIUS * (np.cos(t) * tangent + np.sin(t) * up)
            step = LOOP_RADIUS * (2 * np.pi / segments) * (-np.sin(t) * tangent + np.cos(t) * up)
            towards = points - wire
            field += np.cross(step, towards) / np.linalg.norm(towards, axis=-1, keepdims=True) ** 3
        maps[coil] = field[..., 0] - 1j * field[..., 1]
    return maps


def simulate_sample(volume: Volume, *, seed: int = SEED) -> tuple[npt.NDArray[np.complex64], float]:
    """Simulate noisy multi-coil k-space of the chosen slices.

    Args:
        volume: Colin27, `(left-right, back-front, feet-head)`, 1 mm.
        seed: of phase and noise.

    Returns:
        k-space `(slice, coil, readout, phase)`, readout front to back, phase left to right; and the noise's standard
        deviation per real and imaginary part.

    Raises:
        DataError: another volume.
    """
    if volume.shape != (181, 217, 181):
        raise DataError(f"make_sample: expected Colin27 of shape (181, 217, 181), got {volume.shape}")
    rng = np.random.default_rng(seed)
    images, head = [], []
    for index in SLICES:
        magnitude = torch.from_numpy(volume[:, ::-1, index].T / 255.0)
        truth = fourier_crop(magnitude, SIZE).real.numpy()
        phase = smooth_phase(SIZE, rng, strength=PHASE_STRENGTH)
        maps = loop_sensitivities(_grid(index - 72.0))
        images.append(maps * (truth * np.exp(1j * phase)))
        head.append(truth > 0.1)
    coil_images = np.stack(images)
    signal = np.sqrt((np.abs(coil_images) ** 2).sum(axis=1))[np.stack(head)].mean()
    sigma = 1.0 / SNR
    noise = complex_noise(coil_images.shape, rng, sigma=sigma)
    return (fft2c(torch.from_numpy(coil_images / signal)).to(torch.complex64) + noise).numpy(), sigma


def write_sample(path: Path, volume: Volume) -> None:
    """Write the sample as a fastMRI HDF5 file, provenance and licence inside.

    Raises:
        DataError: another volume than Colin27.
    """
    kspace, sigma = simulate_sample(volume)
    target = ifft2c(torch.from_numpy(kspace)).abs().square().sum(dim=1).sqrt().numpy()
    provenance = {
        "made_by": "python -m mri_recon_data.simulation.make_sample",
        "source": {"file": _source().name, "sha256": _source().sha256, "slices": SLICES},
        "seed": SEED,
        "true_support": f"Fourier-cropped from 217x181 to {SIZE[0]}x{SIZE[1]}, 0.7 of the Nyquist frequency",
        "coils": f"{NUM_COILS} loops of radius {LOOP_RADIUS} mm, Biot-Savart",
        "phase": f"smooth random, standard deviation {PHASE_STRENGTH} rad",
        "noise": f"complex white, standard deviation {sigma} per real part in the image; SNR {SNR} over the head",
        "reconstruction_rss": "root-sum-of-squares of the full, noisy k-space",
    }

    def fill(file: h5py.File) -> None:
        file.create_dataset("kspace", data=kspace, chunks=(1, 1, *kspace.shape[2:]), compression="gzip", shuffle=True)
        file.create_dataset(
            "reconstruction_rss", data=target, chunks=(1, *target.shape[1:]), compression="gzip", shuffle=True
        )
        file.create_dataset("ismrmrd_header", data=_header(kspace.shape))
        file.attrs.update(_attributes(target, provenance))

    write_atomically(path, hdf5_content(fill))


def read_volume() -> Volume:
    """Read the registered Colin27 volume.

    Raises:
        DataError: not at hand, or not the registered content.
    """
    import nibabel  # extra "data": only this script and training read NIfTI

    return np.asarray(nibabel.load(_source().path()).dataobj, dtype=np.uint8)  # type: ignore[attr-defined]


def _attributes(target: npt.NDArray[np.float32], provenance: dict[str, Any]) -> dict[str, Any]:
    return {
        "acquisition": "AXT1",
        "max": float(target.max()),
        "norm": float(np.linalg.norm(target)),
        "patient_id": "colin27",
        "simulated": True,
        "notice": NOTICE,
        "copyright": COPYRIGHT,
        "provenance": json.dumps(provenance),
    }


def _grid(z: float) -> Real:
    """Positions of the pixels of an axial slice in millimetres, `(h, w, 3)`, front at the top."""
    y = -(np.arange(SIZE[0]) - (SIZE[0] - 1) / 2) * 217 / SIZE[0]
    x = (np.arange(SIZE[1]) - (SIZE[1] - 1) / 2) * 181 / SIZE[1]
    return np.stack(np.broadcast_arrays(x[None, :], y[:, None], z), axis=-1)


def _header(shape: tuple[int, ...]) -> bytes:
    """ISMRMRD header: sizes in samples (x readout, y phase), fields of view in millimetres."""
    _, coils, readout, phase = shape
    space = (
        f"<matrixSize><x>{readout}</x><y>{phase}</y><z>1</z></matrixSize>"
        "<fieldOfView_mm><x>217</x><y>181</y><z>1</z></fieldOfView_mm>"
    )
    limits = f"<minimum>0</minimum><maximum>{phase - 1}</maximum><center>{phase // 2}</center>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        "<studyInformation><studyDescription>SIMULATED from Colin27, not for clinical use</studyDescription>"
        "</studyInformation>"
        f"<acquisitionSystemInformation><receiverChannels>{coils}</receiverChannels></acquisitionSystemInformation>"
        "<experimentalConditions><H1resonanceFrequency_Hz>63870000</H1resonanceFrequency_Hz></experimentalConditions>"
        f"<encoding><encodedSpace>{space}</encodedSpace><reconSpace>{space}</reconSpace>"
        f"<encodingLimits><kspace_encoding_step_1>{limits}</kspace_encoding_step_1></encodingLimits>"
        "<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    ).encode()


def _source() -> RegisteredFile:
    return load_registry().files(name="colin27")[0]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mri_recon_data.simulation.make_sample OUT.h5")
    write_sample(Path(sys.argv[1]), read_volume())
