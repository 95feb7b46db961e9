"""What is in a scan, in words and numbers, before anything is reconstructed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mri_recon.coils.noise import OUTER_FRACTION, noise_samples_from_edge, sigma_of_samples
from mri_recon.errors import FormatError
from mri_recon.io import Scan
from mri_recon.masks.echo import Echo, find_echo
from mri_recon.masks.types import ColumnMask
from mri_recon.results.scan_warnings import scan_warnings

__all__ = ["NOISE_RULE", "Noise", "estimate_noise", "scan_warnings", "summarize"]

NOISE_RULE = (
    "sigma = sqrt(E|n|^2) of one complex sample: median of |sample| / sqrt(ln 2) over the outermost "
    f"{OUTER_FRACTION:.0%} of the acquired k-space; an upper bound where signal reaches there"
)
"""How `estimate_noise` finds its value, for print beside it."""


@dataclass(frozen=True)
class Noise:
    """Level of the noise in k-space and how it was found.

    Attributes:
        sigma: `sqrt(E|n|^2)` of one complex sample, in the units of the file, pooled over coils and slices.
        num_samples: how many samples it was read from.
    """

    sigma: float
    num_samples: int


def estimate_noise(scan: Scan) -> Noise | None:
    """Robust noise level from the outermost acquired samples; None when nothing was acquired.

    The rule is that of `mri_recon.coils.noise`, over all coils and slices together. Where
    the object's signal still fills the
    edge, sigma is too large. A receiver's own noise scan is better where there is one.
    """
    everywhere = torch.ones(scan.kspace.shape[-1], dtype=torch.bool)
    try:
        samples = noise_samples_from_edge(scan.kspace, everywhere)
    except FormatError:
        return None
    return Noise(sigma=sigma_of_samples(samples), num_samples=samples.numel())


def summarize(scan: Scan) -> list[tuple[str, str]]:
    """Lines of (what, value) for print: shapes, coils, sampled lines, echo, noise, reference, axes, warnings."""
    num_slices, num_coils, readout, phase = scan.kspace.shape
    echo = find_echo(scan.kspace, torch.as_tensor(scan.support))
    lines = [
        ("format", str(scan.meta.get("format", "array"))),
        ("axes", _axes(scan)),
        ("k-space", f"{num_slices} slices x {num_coils} coils x {readout} readout x {phase} phase, complex64"),
        ("coils", str(num_coils)),
        ("reconstruction size", f"{scan.recon_size[0]} x {scan.recon_size[1]}"),
        ("acquired support", f"{int(scan.support.sum())} of {phase} columns{_support_range(scan)}"),
        *_sampling(scan),
        ("reference", scan.target_source + (", SIMULATED k-space" if scan.meta.get("simulated") else "")),
        ("echo", _echo(echo)),
        ("noise", _noise(scan)),
        *(("warning", str(warning)) for warning in scan.meta.get("reader_warnings", ())),
        *(("warning", warning) for warning in (echo.warnings() if echo else [])),
    ]
    for key, label in (("done", "done"), ("left_out", "left out")):
        if scan.meta.get(key):
            lines.append((label, "; ".join(str(one) for one in scan.meta[key])))
    if scan.meta.get("note"):
        lines.append(("note", str(scan.meta["note"])))
    if scan.meta.get("empty_slices"):
        lines.append(("empty slices", _listed(scan.meta["empty_slices"], num_slices)))
    if scan.meta.get("slices") is not None:
        read = _listed(scan.meta["slices"], int(scan.meta["num_slices_in_file"]))
        lines.insert(2, ("slices read", f"{read}; support, sampling, noise and reference are of these alone"))
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
    if not scan.fully_sampled or scan.target is None:
        return text
    # The transform is orthonormal: sigma is the same in k-space and in the image of fully sampled data.
    bright = float(torch.quantile(scan.target.flatten()[:: max(1, scan.target.numel() // 1_000_000)], 0.99))
    return (
        f"{text}; bright signal (99th percentile of the reference) / sigma {bright / noise.sigma:.0f}"
        if noise.sigma
        else text
    )
