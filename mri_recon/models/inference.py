"""Run a network on a scan: combine the coils, scale, run, undo the scale.

The same functions prepare training examples and the input at inference, so that the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mri_recon._arrays import quotient
from mri_recon.coils.combine import rss
from mri_recon.coils.map_extension import extend_maps, known_pixels
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
"""The input image of a network is divided by this percentile of its magnitude."""

_WRAP_COLUMNS = 32

_EDGE_COLUMNS = 4

_EDGE_SHARE = 0.4

_SLICES_AT_ONCE = 8
"""Maximum number of slices in one run of a network; memory grows with it."""

_PIXELS_AT_ONCE = 1 << 16
"""Maximum number of pixels in one run on a CPU: larger batches exceed its caches and are no faster than single slices.
"""


def network_measurement(
    kspace: Tensor, mask: Mask, sens_maps: Tensor | None = None, *, sigma: float | None = None
) -> tuple[Measurement, Tensor]:
    """Make the measurement y = P F S p x, whose maps S p include the smooth phase p of the image, and return p too.

    The smooth phase of an image depends on coil and echo, not on anatomy. Without it, nearly all of the signal is in
    the real channel, and a network need not learn all possible phases. |p| = 1, so the image is p times the network's
    output.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero where not sampled.
        mask: the sampling mask.
        sens_maps: coil sensitivities like `kspace`. When absent, S = 1 for one coil; for several coils, ESPIRiT without
            a crop estimates S with sum |S|^2 = 1 at every pixel.
        sigma: noise sqrt(E|n|^2) of one sample; `noise.sigma_from_below` estimates it when absent.

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

    A cascade and an unrolled network have their own data consistency. A U-Net receives the zero-filled image z = A^H y,
    and one step makes its output consistent with the samples: u = z + N(z), x = u - A^H (A u - y). For one coil this
    step restores every sampled line exactly.

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

    The scale is proportional to the image, so that the network does not depend on the units of k-space. The percentile
    is the nearest rank: the k-th smallest of n magnitudes, k = ceil(0.99 n).
    """
    magnitude = image.abs().flatten(start_dim=-2)
    count = magnitude.shape[-1]
    rank = max(1, min(count, -int(-count * SCALE_PERCENTILE // 100)))
    scale = magnitude.kthvalue(rank, dim=-1).values
    # If the percentile is 0, use the largest value; an empty slice stays empty after any division.
    scale = torch.where(scale > 0, scale, magnitude.amax(dim=-1))
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return scale[..., None, None]


def wrap_margin(image: Tensor) -> int:
    """Count the columns of continuation at both ends of the phase axis: 32 where the object crosses the edge, else 0.

    The image of a discrete Fourier transform is periodic: an object that leaves the field of view on one side comes
    back on the other. A convolution that ends at the edge breaks such an object apart. The object counts as crossing if
    the four columns at either edge hold more than 0.4 of the mean magnitude. Both numbers were chosen on the raw
    validation scans, unchanged, shifted and folded along the phase axis (`benchmarks/networks/field_of_view.py`). With
    empty edges the continuation is useless and costs a little.

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
    """Run a network on a measurement, slice by slice: scale, run, undo the scale.

    An object that crosses the edge of the field of view is continued periodically first, see `wrap_margin`.

    Args:
        network: see `run_network`.
        measurement: of all slices.
        on_slice: called after every slice with the number of finished slices; an exception from it stops the run.

    Returns:
        complex `(slice, h, w)`.
    """
    images = []
    # Slice by slice: memory does not grow with the scan, and the result of a slice does not depend on its neighbours.
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
    """Run a network on several measurements of one size, their slices in common batches.

    Slices with the same margin (`wrap_margin`) and the same kind of mask go through the network at once. On a CPU, only
    small slices do, because a large slice fills the caches alone. Each slice keeps its own scale. Its result equals
    that of `apply_network` except for the last bits, because sums are done in another order.

    Args:
        network: see `run_network`.
        measurements: all with the same number of coils, height and width; masks and numbers of slices may differ.
        on_slice: as in `apply_network`, after every run of the network.

    Returns:
        one tensor for each measurement, complex `(slice, h, w)`.
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
    """Return the maximum number of slices in one run of a network on a CPU."""
    return max(1, min(_SLICES_AT_ONCE, _PIXELS_AT_ONCE // (height * width)))


def widest_margin(width: int) -> int:
    """Return the maximum number of columns by which `wrap_margin` continues an image."""
    return min(_WRAP_COLUMNS, width)


def unit_maps(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise maps of a user for a network: return S / n, continued smoothly where n is small, and n.

    n is the root sum of squares of the maps, 0 below a tenth of its 99th percentile (`map_extension.known_pixels`).
    Networks are trained with maps of sum |S|^2 = 1 only. A x = P F (S / n) (n x), so the network's image is divided by
    n. With maps that are cropped outside the object, a network would draw the outline of the crop.

    Args:
        maps: complex `(slice, coil, h, w)`.

    Returns:
        maps of the same shape with sum |S|^2 = 1, and n, real `(slice, h, w)`.
    """
    weight = rss(maps)
    known = known_pixels(maps)
    weight = torch.where(known, weight, torch.zeros_like(weight))
    return extend_maps(quotient(maps, weight.unsqueeze(1)), known), weight
