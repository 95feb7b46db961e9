"""Simulate multi-coil scans of a split's magnitude images, evaluated apart from raw k-space.

y_c = F (S_c x exp(i phi) + n_c): x a registered magnitude image, Fourier-cropped to its true support, phi a smooth
random phase, S_c coils around the object and n_c complex white noise, or both as measured on a validation phantom. No
method is told S. A file and an array always give the same scan; phase and slices of a file do not depend on the coils.
Every number from it is called simulated.

The reference is the image without noise, sqrt(sum_c |S_c x|^2) = x. The root sum of squares of the noisy coils has a
floor of noise where there is no signal, and would reward methods that leave noise there.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mri_recon.errors import DataError
from mri_recon.io import Scan
from mri_recon.io.pictures import NO_PICTURES
from mri_recon.transforms.fourier import fft2c
from mri_recon_data import registry
from mri_recon_data.scenes.images import load_slices
from mri_recon_data.simulation.arrays import ReceiveArray, measured_array
from mri_recon_data.simulation.kspace import coil_maps, complex_noise, smooth_phase
from mri_recon_training.evaluation.config import SimulatedArray
from mri_recon_training.evaluation.sources import Source, attribution_of, labels_of

__all__ = [
    "MAX_SHIFT",
    "NUM_SLICES",
    "PHASE_STRENGTH",
    "TARGET_SOURCE",
    "draw_array",
    "middle_slices",
    "seed_of",
    "simulated_scan",
    "simulated_sources",
]

PHASE_STRENGTH = 0.8  # radians
MAX_SHIFT = 2.0  # samples that the k-space centre is off
NUM_SLICES = 1
"""Slices of a volume that are simulated unless another number is asked for: the middle ones."""
TARGET_SOURCE = "the image without noise"


def simulated_sources(split: str, array: SimulatedArray, *, num_slices: int = NUM_SLICES) -> list[Source]:
    """List a simulated scan for every registered magnitude file of a split.

    Args:
        split: of the registry.
        array: coils and noise.
        num_slices: middle slices of each file.

    Raises:
        DataError: an unknown split, one without images, a file that is not to be had, a count below 1, an SNR of 0, or
            measured coils that no validation phantom has.
    """
    for what, count in (("coil", array.num_coils), ("slice", num_slices)):
        if count < 1:
            raise DataError(f"expected at least one {what} to simulate, got {count}: ask for one or more")
    if not array.snr > 0:
        raise DataError(f"expected an SNR above 0 to simulate, got {array.snr:g}: 40 is common")
    if array.measured:
        draw_array(array, (16, 16), np.random.default_rng(0))  # fails here, not after an hour
    found = registry.files(split=split, kind="image")
    if not found:
        raise DataError(f"expected magnitude images in the split {split!r}, got none: leave --coils out")
    for file in found:
        file.path()  # fails here, not after an hour
    volumes = registry.volumes(found)
    labels = labels_of([files[0] for files in volumes])
    return [
        Source(
            f"simulated {array.text}: {files[0].name}",
            files[0].person,
            partial(simulated_scan, *files, array=array, num_slices=num_slices),
            label=f"{labels[files[0].name]}, simulated, {array.text}",
            attribution=attribution_of(files[0]),
            world=files[0].world,
        )
        for files in volumes
    ]


def simulated_scan(*files: registry.RegisteredFile, array: SimulatedArray, num_slices: int = NUM_SLICES) -> Scan:
    """Simulate multi-coil k-space of the middle slices of a volume; its reference is the image without noise.

    Args:
        *files: a magnitude file, or all files of a series (`registry.volumes`).
        array: coils and noise.
        num_slices: middle slices of the volume.
    """
    file = files[0]
    truth = middle_slices(*files, num_slices=num_slices)
    shape = (int(truth.shape[-2]), int(truth.shape[-1]))
    seed = seed_of(file.name)
    phases, coils = np.random.default_rng([seed, 0]), np.random.default_rng([seed, array.num_coils])
    receive = draw_array(array, shape, coils)
    kspace = []
    for plane in truth:
        phase = torch.from_numpy(smooth_phase(shape, phases, strength=PHASE_STRENGTH, max_shift=MAX_SHIFT))
        noise = complex_noise((array.num_coils, *shape), coils, sigma=1 / array.snr)
        if receive.noise is not None:
            noise = (receive.noise @ noise.flatten(1)).reshape(noise.shape)
        kspace.append(fft2c(receive.maps * torch.polar(plane, phase) + noise))
    return Scan(
        samples=torch.stack(kspace).to(torch.complex64).numpy(),
        reference=truth.numpy(),
        target_source=TARGET_SOURCE,
        mask=None,
        support=np.ones(shape[1], dtype=bool),
        recon_size=shape,
        meta={
            "format": "simulated",
            "file": file.name,
            "simulated": True,
            "num_coils": array.num_coils,
            "snr": array.snr,
            **({NO_PICTURES: True} if file.no_pictures else {}),
        },
    )


def middle_slices(*files: registry.RegisteredFile, num_slices: int = NUM_SLICES) -> Tensor:
    """Read the magnitudes of the middle slices of a volume, float32 `(slice, h, w)`, on their true k-space support.

    Args:
        *files: a magnitude file, or all files of a series (`registry.volumes`).
        num_slices: how many.
    """
    slices = load_slices([(one.name, one.path()) for one in files])
    # Slices of one scan have one size; a volume that is cut along three axes gives several, and the commonest is kept.
    size, _ = Counter(one.magnitude.shape for one in slices).most_common(1)[0]
    planes = [one.magnitude.astype(np.float32) for one in slices if one.magnitude.shape == size]
    first = max(0, (len(planes) - num_slices) // 2)
    return torch.from_numpy(np.stack(planes[first : first + num_slices]))


def seed_of(name: str) -> int:
    """Make a seed of a file's name: a scan does not depend on which others are evaluated with it."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def draw_array(array: SimulatedArray, shape: tuple[int, int], rng: np.random.Generator) -> ReceiveArray:
    """Draw receive coils around the object, or take measured ones of a validation phantom."""
    if array.measured:
        return measured_array(array.num_coils, shape, rng, whiten=False, split="validation")
    return ReceiveArray(torch.from_numpy(coil_maps(array.num_coils, shape, rng)))
