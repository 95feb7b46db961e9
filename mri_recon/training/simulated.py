"""Simulated multi-coil scans of a split's magnitude images, for rows that stand beside those of raw k-space.

y_c = F (S_c x exp(i phi) + n_c): x a registered magnitude image, Fourier-cropped to its true support, phi a smooth
random phase, S_c coils around the object, n_c complex white noise. A file always gives the same scan. Every number from
it is called simulated.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import partial

import numpy as np
import torch

from mri_recon.coils import rss
from mri_recon.data import registry
from mri_recon.data.images import load_slices
from mri_recon.data.simulate import coil_maps, complex_noise, smooth_phase
from mri_recon.errors import DataError
from mri_recon.fourier import fft2c, ifft2c
from mri_recon.io import Scan
from mri_recon.training.evaluate import Source

__all__ = ["MAX_SLICES", "NUM_COILS", "SNR", "simulated_scan", "simulated_sources"]

NUM_COILS = 8
SNR = 40.0
"""The 99.5th percentile of a volume's magnitudes over the noise's standard deviation in each part of each coil."""
PHASE_STRENGTH = 0.8  # radians
MAX_SHIFT = 2.0  # samples that the k-space centre is off
MAX_SLICES = 4
"""Slices of a volume that are simulated: the middle ones."""


def simulated_sources(split: str, *, num_coils: int = NUM_COILS) -> list[Source]:
    """A simulated scan of every registered magnitude file of a split.

    Raises:
        DataError: an unknown split, one without images, or a file that is not to be had.
    """
    found = registry.files(split=split, kind="image")
    if not found:
        raise DataError(f"expected magnitude images in the split {split!r}, got none: leave --simulated out")
    for file in found:
        file.path()  # fails here, not after an hour
    return [
        Source(
            f"simulated {num_coils} coils: {file.name}", file.person, partial(simulated_scan, file, num_coils=num_coils)
        )
        for file in found
    ]


def simulated_scan(file: registry.RegisteredFile, *, num_coils: int = NUM_COILS) -> Scan:
    """Multi-coil k-space of the middle slices of a magnitude file; its reference is the rss of the full k-space."""
    slices = load_slices([(file.name, file.path())])
    # Slices of one scan have one size; a volume that is cut along three axes gives several, and the commonest is kept.
    size, _ = Counter(one.magnitude.shape for one in slices).most_common(1)[0]
    planes = [one.magnitude.astype(np.float32) for one in slices if one.magnitude.shape == size]
    first = max(0, (len(planes) - MAX_SLICES) // 2)
    # Seeded by the file's name: a scan does not depend on which others are evaluated with it.
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(file.name.encode()).digest()[:8], "big"))
    shape = (int(size[0]), int(size[1]))
    maps = torch.from_numpy(coil_maps(num_coils, shape, rng))
    kspace = []
    for plane in planes[first : first + MAX_SLICES]:
        phase = torch.from_numpy(smooth_phase(shape, rng, strength=PHASE_STRENGTH, max_shift=MAX_SHIFT))
        noise = complex_noise((num_coils, *shape), rng, sigma=1 / SNR)
        kspace.append(fft2c(maps * torch.polar(torch.from_numpy(plane), phase) + noise))
    full = torch.stack(kspace).to(torch.complex64)
    return Scan(
        kspace=full,
        target=rss(ifft2c(full)),
        target_source="rss of the full k-space",
        mask=None,
        support=np.ones(shape[1], dtype=bool),
        recon_size=shape,
        meta={"format": "simulated", "file": file.name, "simulated": True, "num_coils": num_coils},
    )
