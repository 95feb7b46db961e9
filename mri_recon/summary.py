"""What is in a scan, in words and numbers, before anything is reconstructed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mri_recon.io import Scan
from mri_recon.masks import ColumnMask

__all__ = ["NOISE_RULE", "Noise", "estimate_noise", "summarize"]

OUTER_FRACTION = 0.1
"""The noise is read from the samples whose row and column both lie in this outermost fraction of the acquired ones."""

NOISE_RULE = (
    "sigma of the real and of the imaginary part: median of |part| / 0.6745 over the samples in the corners of the "
    f"acquired k-space (outermost {OUTER_FRACTION:.0%} of rows and columns); an upper bound where signal reaches them"
)
"""How `estimate_noise` finds its value, for print beside it."""

_MEDIAN_TO_SIGMA = 0.6745  # median of |x| of a standard normal x


@dataclass(frozen=True)
class Noise:
    """Standard deviation of the noise in k-space and how it was found.

    Attributes:
        sigma: of the real and of the imaginary part, in the units of the file, pooled over coils and slices.
        num_samples: how many samples it was read from.
    """

    sigma: float
    num_samples: int


def estimate_noise(scan: Scan) -> Noise | None:
    """Robust noise level from the outermost corners of the acquired k-space; None when nothing was acquired there.

    sigma = median(|Re y|, |Im y|) / 0.6745 over the non-zero samples of the corners. The corners are the highest
    frequencies, where an object has the least signal, and the median does not see a few strong samples; where the
    object's signal still fills them, sigma is too large. A receiver's own noise scan is better where there is one.
    """
    magnitude = scan.kspace.abs().amax(dim=(0, 1))
    rows = _outermost(magnitude.amax(dim=1))
    columns = _outermost(magnitude.amax(dim=0))
    corners = scan.kspace[:, :, rows][:, :, :, columns]
    samples = torch.view_as_real(corners[corners.abs() > 1e-8 * magnitude.max()]).flatten()
    if samples.numel() == 0:
        return None
    return Noise(sigma=float(samples.abs().median()) / _MEDIAN_TO_SIGMA, num_samples=samples.numel() // 2)


def summarize(scan: Scan) -> list[tuple[str, str]]:
    """Lines of (what, value) for print: shapes, coils, sampled lines, realised acceleration, noise, reference, axes."""
    num_slices, num_coils, readout, phase = scan.kspace.shape
    lines = [
        ("format", str(scan.meta.get("format", "array"))),
        ("axes", _axes(scan)),
        ("k-space", f"{num_slices} slices x {num_coils} coils x {readout} readout x {phase} phase, complex64"),
        ("coils", str(num_coils)),
        ("reconstruction size", f"{scan.recon_size[0]} x {scan.recon_size[1]}"),
        ("acquired support", f"{int(scan.support.sum())} of {phase} columns{_support_range(scan)}"),
        *_sampling(scan),
        ("reference", scan.target_source + (", SIMULATED k-space" if scan.meta.get("simulated") else "")),
        ("noise", _noise(scan)),
    ]
    if scan.meta.get("note"):
        lines.append(("note", str(scan.meta["note"])))
    acquisition = scan.meta.get("acquisition")
    if acquisition:
        lines.insert(1, ("acquisition", str(acquisition)))
    return lines


def _outermost(profile: Tensor) -> Tensor:
    """Indices of the outermost fraction, on both sides, of the entries that hold data."""
    # As for the acquired support: what is 1e-8 of the largest sample is the residue of some earlier transform.
    acquired = torch.nonzero(profile > 1e-8 * profile.max()).flatten()
    count = max(1, round(OUTER_FRACTION * acquired.numel() / 2))
    outermost: Tensor = torch.unique(torch.cat([acquired[:count], acquired[-count:]]))
    return outermost


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


def _noise(scan: Scan) -> str:
    noise = estimate_noise(scan)
    if noise is None:
        return "not known: nothing was acquired in the corners of k-space"
    text = f"sigma {noise.sigma:.3g} from {noise.num_samples} samples"
    if not scan.fully_sampled or scan.target is None:
        return text
    # The transform is orthonormal: sigma is the same in k-space and in the image of fully sampled data.
    bright = float(torch.quantile(scan.target.flatten()[:: max(1, scan.target.numel() // 1_000_000)], 0.99))
    return (
        f"{text}; bright signal (99th percentile of the reference) / sigma {bright / noise.sigma:.0f}"
        if noise.sigma
        else text
    )
