"""Simulate multi-coil scans of a split's magnitude images, evaluated apart from raw k-space.

y_c = F (S_c x exp(i phi) + n_c): x a registered magnitude image, Fourier-cropped to its true support, phi a smooth
random phase, S_c coils around the object, n_c complex white noise. No method is told S. A file and a number of coils
always give the same scan; phase and slices of a file do not depend on the number of coils. Every number from it is
called simulated.

The reference is the image without noise, sqrt(sum_c |S_c x|^2) = x. The root sum of squares of the noisy coils has a
floor of noise where there is no signal, and would reward methods that leave noise there.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import partial

import numpy as np
import torch

from mri_recon.errors import DataError
from mri_recon.io import Scan
from mri_recon.io.pictures import NO_PICTURES
from mri_recon.transforms.fourier import fft2c
from mri_recon_data import registry
from mri_recon_data.scenes.images import load_slices
from mri_recon_data.simulation.kspace import coil_maps, complex_noise, smooth_phase
from mri_recon_training.evaluation.sources import Source, labels_of

__all__ = ["NUM_SLICES", "SNR", "TARGET_SOURCE", "simulated_scan", "simulated_sources"]

SNR = 40.0
"""The 99.5th percentile of a volume's magnitudes over the noise's standard deviation in each part of each coil."""
PHASE_STRENGTH = 0.8  # radians
MAX_SHIFT = 2.0  # samples that the k-space centre is off
NUM_SLICES = 1
"""Slices of a volume that are simulated unless another number is asked for: the middle ones."""
TARGET_SOURCE = "the image without noise"


def simulated_sources(split: str, *, num_coils: int, num_slices: int = NUM_SLICES) -> list[Source]:
    """List a simulated scan for every registered magnitude file of a split.

    Args:
        split: of the registry.
        num_coils: at least 1.
        num_slices: middle slices of each file.

    Raises:
        DataError: an unknown split, one without images, a file that is not to be had, or a count below 1.
    """
    for what, count in (("coil", num_coils), ("slice", num_slices)):
        if count < 1:
            raise DataError(f"expected at least one {what} to simulate, got {count}: ask for one or more")
    found = registry.files(split=split, kind="image")
    if not found:
        raise DataError(f"expected magnitude images in the split {split!r}, got none: leave --coils out")
    for file in found:
        file.path()  # fails here, not after an hour
    volumes = registry.volumes(found)
    labels = labels_of([files[0] for files in volumes])
    return [
        Source(
            f"simulated {num_coils} coils: {files[0].name}",
            files[0].person,
            partial(simulated_scan, *files, num_coils=num_coils, num_slices=num_slices),
            label=f"simulated from {labels[files[0].name]}",
        )
        for files in volumes
    ]


def simulated_scan(*files: registry.RegisteredFile, num_coils: int, num_slices: int = NUM_SLICES) -> Scan:
    """Simulate multi-coil k-space of the middle slices of a volume; its reference is the image without noise.

    Args:
        *files: a magnitude file, or all files of a series (`registry.volumes`).
        num_coils: at least 1.
        num_slices: middle slices of the volume.
    """
    file = files[0]
    slices = load_slices([(one.name, one.path()) for one in files])
    # Slices of one scan have one size; a volume that is cut along three axes gives several, and the commonest is kept.
    size, _ = Counter(one.magnitude.shape for one in slices).most_common(1)[0]
    planes = [one.magnitude.astype(np.float32) for one in slices if one.magnitude.shape == size]
    first = max(0, (len(planes) - num_slices) // 2)
    truth = torch.from_numpy(np.stack(planes[first : first + num_slices]))
    shape = (int(size[0]), int(size[1]))
    # Seeded by the file's name: a scan does not depend on which others are evaluated with it.
    seed = int.from_bytes(hashlib.sha256(file.name.encode()).digest()[:8], "big")
    phases, coils = np.random.default_rng([seed, 0]), np.random.default_rng([seed, num_coils])
    maps = torch.from_numpy(coil_maps(num_coils, shape, coils))
    kspace = []
    for plane in truth:
        phase = torch.from_numpy(smooth_phase(shape, phases, strength=PHASE_STRENGTH, max_shift=MAX_SHIFT))
        noise = complex_noise((num_coils, *shape), coils, sigma=1 / SNR)
        kspace.append(fft2c(maps * torch.polar(plane, phase) + noise))
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
            "num_coils": num_coils,
            **({NO_PICTURES: True} if file.no_pictures else {}),
        },
    )
