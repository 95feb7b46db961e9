"""Run a network on a scan: combine the coils, scale, run, undo the scale.

Training examples and the input at inference are made by the same functions, so that the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mri_recon._arrays import quotient
from mri_recon.coils.combine import rss
from mri_recon.coils.map_extension import extend_maps
from mri_recon.coils.noise import sigma_from_below
from mri_recon.coils.phase import smooth_phase_map
from mri_recon.coils.sensitivity_maps import estimate_maps
from mri_recon.masks.types import Mask
from mri_recon.models import Cascade, Measurement, Unrolled, concatenate, measure, run_continued

__all__ = [
    "SCALE_PERCENTILE",
    "apply_network",
    "apply_network_to_batch",
    "image_scale",
    "network_measurement",
    "run_network",
    "unit_maps",
    "wrap_margin",
]


SCALE_PERCENTILE = 99.0
"""A network sees an image divided by this percentile of its magnitude."""

_WRAP_COLUMNS = 32

_EDGE_COLUMNS = 4

_EDGE_SHARE = 0.4

_FAINT = 0.1

_SLICES_AT_ONCE = 8
"""Most slices that a network takes at once: memory grows with them."""

_PIXELS_AT_ONCE = 1 << 16
"""The same in pixels, on a processor: more are no faster than one slice after the other, and leave its caches."""


def network_measurement(
    kspace: Tensor, mask: Mask, sens_maps: Tensor | None = None, *, sigma: float | None = None
) -> tuple[Measurement, Tensor]:
    """Make the measurement y = P F S p x, the smooth phase p of the image put into the maps, and p.

    An image's smooth phase is an accident of coil and echo; without it nearly all of the signal is in the real channel,
    and a network need not learn every phase there is. |p| = 1, so the image is p times the network's answer.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero where not sampled.
        mask: the sampling mask.
        sens_maps: coil sensitivities like `kspace`; absent: one coil S = 1, several by ESPIRiT without a crop, so that
            sum |S|^2 = 1 at every pixel.
        sigma: noise sqrt(E|n|^2) of one sample; absent: `noise.sigma_from_below`.

    Returns:
        the measurement with maps S p and its noise level, and p, complex `(slice, h, w)`.

    Raises:
        MaskError: the mask has no fully sampled centre.
    """
    maps = estimate_maps(kspace, mask, everywhere=True) if sens_maps is None else sens_maps
    phase = smooth_phase_map(kspace, mask, maps)
    if sigma is None:
        level = sigma_from_below(kspace, mask)
    else:
        level = torch.full((kspace.shape[0], 1, 1), float(sigma), dtype=kspace.real.dtype, device=kspace.device)
    return measure(kspace, mask.tensor(kspace.device), maps * phase.unsqueeze(1), level), phase


def run_network(network: nn.Module, measurement: Measurement, margin: int = 0) -> Tensor:
    """Run a network on a scaled measurement; differentiable, returns the image `(batch, h, w)`.

    A cascade and an unrolled network have their own data consistency. A U-Net gets the zero-filled image z = A^H y,
    and its answer is made consistent with the samples by one step: u = z + N(z), x = u - A^H (A u - y). For one
    coil this puts every sampled line back exactly as it was measured.

    Args:
        network: `Cascade`, `Unrolled`, or `(batch, 2, h, w)` to `(batch, 2, h, w)`.
        measurement: scaled as `image_scale` says.
        margin: columns of periodic continuation, see `wrap_margin`.
    """
    if isinstance(network, Cascade | Unrolled):
        image: Tensor = network(measurement, margin)
        return image
    zero_filled = measurement.adjoint()
    out = run_continued(network, torch.view_as_real(zero_filled).movedim(-1, 1), margin)
    answer = torch.complex(out[:, 0], out[:, 1])
    return answer - (measurement.gram(answer) - zero_filled)


def image_scale(image: Tensor) -> Tensor:
    """Compute the scale of each slice: the 99th percentile of its magnitude, `(slice, 1, 1)`; 1 for an empty slice.

    Proportional to the image, so that a network behind it does not depend on the units of k-space. The percentile is
    the nearest rank: the k-th smallest of n magnitudes, k = ceil(0.99 n).
    """
    magnitude = image.abs().flatten(start_dim=-2)
    count = magnitude.shape[-1]
    rank = max(1, min(count, -int(-count * SCALE_PERCENTILE // 100)))
    scale = magnitude.kthvalue(rank, dim=-1).values
    # A slice of almost only zeros still has a largest value; an empty one stays empty whatever it is divided by.
    scale = torch.where(scale > 0, scale, magnitude.amax(dim=-1))
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return scale[..., None, None]


def wrap_margin(image: Tensor) -> int:
    """Count the columns of continuation at both ends of the phase axis: 32 where the object crosses the edge, else 0.

    The image of a discrete Fourier transform is periodic: an object that leaves the field of view on one side comes
    back on the other. A convolution that ends at the edge breaks such an object apart. It counts as crossing where
    the four columns at either edge hold more than 0.4 of the mean magnitude. Both numbers were chosen on the raw
    validation scans, as they are, shifted and folded along the phase axis (`benchmarks/networks/field_of_view.py`):
    with empty edges the continuation is of no use and costs a little.

    Args:
        image: complex `(1, h, w)`.
    """
    magnitude = image.abs()
    edges = torch.cat([magnitude[..., :_EDGE_COLUMNS], magnitude[..., -_EDGE_COLUMNS:]], dim=-1)
    crossing = bool(edges.mean() > _EDGE_SHARE * magnitude.mean())
    return widest_margin(int(image.shape[-1])) if crossing else 0


def apply_network(
    network: nn.Module, measurement: Measurement, *, on_slice: Callable[[int], None] | None = None
) -> Tensor:
    """Run a network on a measurement, a slice at a time: scale, run, undo the scale.

    An object that crosses the edge of the field of view is continued periodically first, see `wrap_margin`.

    Args:
        network: see `run_network`.
        measurement: of all slices.
        on_slice: called with the number of slices done, after every one; an exception that it raises ends the work.

    Returns:
        complex `(slice, h, w)`.
    """
    images = []
    # One slice at a time: memory does not grow with the scan, and a slice's result does not depend on its neighbours.
    for count, one in enumerate(measurement.split(), start=1):
        zero_filled = one.adjoint()
        scale = image_scale(zero_filled)
        images.append(run_network(network, one.scaled(scale), wrap_margin(zero_filled)) * scale)
        if on_slice is not None:
            on_slice(count)
    return torch.cat(images)


def apply_network_to_batch(
    network: nn.Module, measurements: Sequence[Measurement], *, on_slice: Callable[[int], None] | None = None
) -> list[Tensor]:
    """`apply_network` on several measurements of one size, their slices together.

    Those that are continued by the same margin (`wrap_margin`) and whose masks are of one kind go through the network
    at once; on a processor, whose caches a large slice fills alone, only where they are small. A slice still has its
    own scale, and its result is the one that it has alone but for the last bits: sums are done in another order.

    Args:
        network: see `run_network`.
        measurements: equal number of coils, height and width; masks and slices as they are.
        on_slice: as in `apply_network`, after every run of the network.

    Returns:
        one tensor a measurement, complex `(slice, h, w)`.
    """
    slices = [one for measurement in measurements for one in measurement.split()]
    scales, groups = [], dict[tuple[int, tuple[int, ...]], list[int]]()
    for index, one in enumerate(slices):
        zero_filled = one.adjoint()
        scales.append(image_scale(zero_filled))
        slices[index] = one.scaled(scales[-1])
        groups.setdefault((wrap_margin(zero_filled), one.dims), []).append(index)
    images: dict[int, Tensor] = {}
    for (margin, _), indices in groups.items():
        size = _slices_at_once(slices[indices[0]].maps)
        for first in range(0, len(indices), size):
            chunk = indices[first : first + size]
            found = run_network(network, concatenate([slices[index] for index in chunk]), margin)
            images |= zip(chunk, torch.split(found, 1), strict=True)
            if on_slice is not None:
                on_slice(len(images))
    in_order = torch.cat([images[index] * scale for index, scale in enumerate(scales)])
    return list(torch.split(in_order, [len(measurement.samples) for measurement in measurements]))


def _slices_at_once(maps: Tensor) -> int:
    if maps.device.type != "cpu":
        return _SLICES_AT_ONCE
    return slices_at_once(maps.shape[-2], maps.shape[-1])


def slices_at_once(height: int, width: int) -> int:
    """Count the slices of a batch that a network takes at once on a processor, at most."""
    return max(1, min(_SLICES_AT_ONCE, _PIXELS_AT_ONCE // (height * width)))


def widest_margin(width: int) -> int:
    """Count the columns by which `wrap_margin` continues an image at most."""
    return min(_WRAP_COLUMNS, width)


def unit_maps(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise maps of a user for a network: S / n, continued smoothly where n is faint, and n.

    n is the root sum of squares of the maps, 0 below a tenth of its largest value. Networks know maps with
    sum |S|^2 = 1 only. A x = P F (S / n) (n x), so the image is theirs over n. Maps that are cropped outside the object
    would have them draw the crop's outline.

    Args:
        maps: complex `(slice, coil, h, w)`.

    Returns:
        maps of the same shape with sum |S|^2 = 1, and n, real `(slice, h, w)`.
    """
    weight = rss(maps)
    weight = torch.where(weight > _FAINT * weight.amax(dim=(-2, -1), keepdim=True), weight, torch.zeros_like(weight))
    return extend_maps(quotient(maps, weight.unsqueeze(1)), weight > 0), weight
