"""Describe a scan in words and numbers, before anything is reconstructed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mri_recon._arrays import center_crop
from mri_recon.coils.outermost import OUTER_FRACTION, edge_samples, sigma_of_array
from mri_recon.errors import FormatError
from mri_recon.io import Scan
from mri_recon.io.writers.result import SIMULATED
from mri_recon.masks.echo import Echo
from mri_recon.masks.types import ColumnMask
from mri_recon.results.scan_warnings import scan_warnings
from mri_recon.transforms.array_fourier import ifft_of_array

__all__ = ["NOISE_RULE", "Noise", "estimate_noise", "scan_warnings", "summarize"]

NOISE_RULE = (
    "sigma = sqrt(E|n|^2) of one complex sample: median of |sample| / sqrt(ln 2) over the outermost "
    f"{OUTER_FRACTION:.0%} of the acquired k-space; an upper bound where signal reaches there"
)
"""Rule by which `estimate_noise` finds its value, to print beside it."""


@dataclass(frozen=True)
class Noise:
    """Hold the noise level of k-space and the number of samples it was estimated from.

    Attributes:
        sigma: `sqrt(E|n|^2)` of one complex sample, in the units of the file, pooled over coils and slices.
        num_samples: number of samples.
    """

    sigma: float
    num_samples: int


def estimate_noise(scan: Scan) -> Noise | None:
    """Estimate the noise level from the outermost acquired samples; None when nothing was acquired.

    The rule is that of `mri_recon.coils.noise`, over all coils and slices together. If signal of the object reaches the
    edge, sigma is too large. A noise scan of the receiver is better if there is one.
    """
    try:
        samples = edge_samples(scan.samples)
    except FormatError:
        return None
    return Noise(sigma=sigma_of_array(samples), num_samples=samples.size)


def summarize(scan: Scan) -> list[tuple[str, str]]:
    """List (name, value) pairs to print: shapes, coils, sampled lines, echo, noise, reference, axes, warnings."""
    num_slices, num_coils, readout, phase = scan.samples.shape
    echo = scan.echo
    lines = [
        ("format", str(scan.meta.get("format", "array"))),
        ("axes", _axes(scan)),
        ("k-space", f"{num_slices} slices x {num_coils} coils x {readout} readout x {phase} phase, complex64"),
        ("coils", str(num_coils)),
        ("reconstruction size", f"{scan.recon_size[0]} x {scan.recon_size[1]}"),
        *([] if scan.geometry is None else scan.geometry.describe()),
        ("acquired support", f"{int(scan.support.sum())} of {phase} columns{_support_range(scan)}"),
        *_sampling(scan),
        ("reference", scan.target_source + (", SIMULATED k-space" if scan.meta.get("simulated") else "")),
        ("echo", _echo(echo)),
        ("noise", _noise(scan)),
        *([("warning", SIMULATED)] if scan.meta.get("simulated") else []),
        *(("warning", str(warning)) for warning in scan.meta.get("reader_warnings", ())),
        *(("warning", crime.sentence) for crime in scan.data_crimes),
        *(("warning", warning) for warning in (echo.warnings() if echo else [])),
    ]
    for key, label in (("done", "done"), ("left_out", "left out")):
        if scan.meta.get(key):
            lines.append((label, "; ".join(str(one) for one in scan.meta[key])))
    if scan.meta.get("note"):
        lines.append(("note", str(scan.meta["note"])))
    if scan.meta.get("empty_slices"):
        lines.append(("empty slices, from 0", _listed(scan.meta["empty_slices"], num_slices)))
    if scan.meta.get("slices") is not None:
        read = _listed(scan.meta["slices"], int(scan.meta["num_slices_in_file"]))
        lines.insert(2, ("slices read, from 0", f"{read}; support, sampling, noise and reference are of these alone"))
    acquisition = scan.meta.get("acquisition")
    if acquisition:
        lines.insert(1, ("acquisition", str(acquisition)))
    return lines


def _listed(numbers: list[int], count: int) -> str:
    shown = ", ".join(map(str, numbers[:12])) + (", ..." if len(numbers) > 12 else "")
    return f"{len(numbers)} of {count}: {shown}"


def _axes(scan: Scan) -> str:
    axes = str(scan.meta.get("axes", "slice coil readout phase"))
    return f"{axes} (assumed: give --axes to say otherwise)" if scan.meta.get("axes_assumed") else axes


def _support_range(scan: Scan) -> str:
    indices = scan.support.nonzero()[0]
    if len(indices) == 0:
        return ""
    first, last = int(indices[0]), int(indices[-1])
    holes = last - first + 1 - len(indices)
    return f" ({first} to {last}" + (f", {holes} dead within)" if holes else ")")


def _sampling(scan: Scan) -> list[tuple[str, str]]:
    mask = scan.mask
    if mask is None:
        known = "fully sampled" if scan.fully_sampled else "undersampled, and the file has no mask: give --mask FILE"
        return [("sampling", known), *([("realised acceleration", "1.00")] if scan.fully_sampled else [])]
    if isinstance(mask, ColumnMask):
        what = f"{mask.num_lines} of {mask.support_width} columns, by the file's own mask"
    else:
        what = f"{mask.num_samples} of {mask.pattern.size} positions, by the file's own mask"
    return [("sampling", what), ("realised acceleration", f"{mask.realised_acceleration:.2f}")]


def _echo(found: Echo | None) -> str:
    if found is None:
        return "not found: no position stands out"
    row, column = (place - size // 2 for place, size in zip(found.position, found.size, strict=True))
    return f"row {row:+d}, column {column:+d} from N//2"


def _noise(scan: Scan) -> str:
    noise = estimate_noise(scan)
    if noise is None:
        return "not known: nothing was acquired"
    text = f"sigma {noise.sigma:.3g} from {noise.num_samples} samples"
    if not scan.fully_sampled or scan.target_source == "none" or not noise.sigma:
        return text
    # The transform is orthonormal: sigma is the same in k-space and in the image of fully sampled data.
    reference = _rss_of_full(scan) if scan.reference is None else scan.reference
    bright = float(np.quantile(reference.ravel()[:: max(1, reference.size // 1_000_000)], 0.99))
    return f"{text}; bright signal (99th percentile of the reference) / sigma {bright / noise.sigma:.0f}"


def _rss_of_full(scan: Scan) -> npt.NDArray[np.float32]:
    """Compute `scan.target` of fully sampled k-space by NumPy."""
    largest = max(float(np.abs(part).max()) for part in scan.samples)  # squares of 1e-30 underflow in float32
    images = [np.abs(ifft_of_array(part / largest, (-2, -1))) for part in scan.samples]
    found = np.stack([np.sqrt((one**2).sum(axis=0)) for one in images]) * largest
    return center_crop(found, scan.recon_size).astype(np.float32, copy=False)
