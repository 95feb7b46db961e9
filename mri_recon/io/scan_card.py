"""Show a scan in one line, and as a card in a notebook: what it holds, its middle slice, its warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mri_recon._arrays import center_crop
from mri_recon._display import card, thumbnail
from mri_recon._system.text import plural, printable
from mri_recon.io.pictures import NO_PICTURES
from mri_recon.masks.caption import mask_caption
from mri_recon.transforms.array_fourier import ifft_of_array

if TYPE_CHECKING:
    from mri_recon.io.scan import Scan

__all__ = ["scan_card", "scan_line"]

_DECADES = 4.0  # of k-space, from black to white


def scan_line(scan: Scan) -> str:
    """Describe a scan in one line: its file, its shape, its sampling, and whether it is simulated."""
    made = ", simulated" if scan.meta.get("simulated") else ""
    return f"<Scan {printable(_name(scan))}: {_shape(scan)}, {_sampling(scan)}{made}>"


def scan_card(scan: Scan) -> str:
    """Describe a scan in HTML, with pictures of the middle slice unless they are forbidden."""
    facts = [
        ("k-space", _shape(scan)),
        ("sampling", _sampling(scan)),
        ("format", str(scan.meta.get("format", "array"))),
        ("image", f"{scan.recon_size[0]} x {scan.recon_size[1]}"),
        ("reference", scan.target_source),
    ]
    if scan.geometry is not None:
        facts.append(("voxel", " x ".join(f"{one:.3g}" for one in scan.geometry.voxel_size) + " mm"))
    pictures = [] if scan.meta.get(NO_PICTURES) else _pictures(scan)
    return card(_name(scan), facts, pictures=pictures, notes=scan.warnings)


def _name(scan: Scan) -> str:
    return str(scan.meta.get("file", "array"))


def _shape(scan: Scan) -> str:
    readout, phase = scan.samples.shape[-2:]
    return f"{plural(scan.num_slices, 'slice')}, {plural(scan.num_coils, 'coil')}, {readout} x {phase}"


def _sampling(scan: Scan) -> str:
    if scan.fully_sampled:
        return "fully sampled"
    return "undersampled, mask not known" if scan.mask is None else mask_caption(scan.mask.receipt())


def _pictures(scan: Scan) -> list[tuple[str, bytes]]:
    middle = scan.num_slices // 2
    data = scan.samples[middle]
    magnitude = np.sqrt((np.abs(data) ** 2).sum(axis=0))
    floor = 10.0**-_DECADES * float(magnitude.max()) or 1.0
    image = np.sqrt((np.abs(ifft_of_array(data, (-2, -1))) ** 2).sum(axis=0))
    return [
        (
            f"slice index {middle}, log |k-space|",
            thumbnail(np.log10(np.maximum(magnitude, floor) / floor), white=_DECADES),
        ),
        (f"slice index {middle}, inverse FFT", thumbnail(center_crop(image, scan.recon_size))),
    ]
