"""A network as a reconstruction method: combine the coils, scale, run, undo the scale.

The same three functions make a network's training examples and its input at inference, so that the two cannot differ.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mri_recon.checkpoint import load_named
from mri_recon.coils import combine, low_resolution_images, sens_maps_from_images
from mri_recon.errors import MethodError
from mri_recon.fourier import ifft2c
from mri_recon.masks import Mask

__all__ = ["SCALE_PERCENTILE", "apply_network", "image_scale", "network_input", "unet", "wrap_margin"]

SCALE_PERCENTILE = 99.0
"""A network sees an image divided by this percentile of its magnitude."""

_WRAP_COLUMNS = 32
_EDGE_COLUMNS = 4
_EDGE_SHARE = 0.4


def network_input(kspace: Tensor, mask: Mask, sens_maps: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The coil-combined zero-filled image without its smooth phase, and that phase.

    z = conj(p) sum_c conj(S_c) F^-1 y_c, where p = m / |m| is the phase of the low-resolution image m of the dense
    centre, combined with the same maps. An image's smooth phase is an accident of coil and echo; without it nearly all
    of the signal is in the real channel, and a network need not learn every phase there is. |p| = 1, so that the result
    is p times the network's answer. Several coils with maps from the centre have p = 1: their maps hold the phase.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero where not sampled.
        mask: the sampling mask.
        sens_maps: coil sensitivities like `kspace`; estimated from the dense centre when absent (one coil: S = 1).

    Returns:
        z and p, complex `(slice, h, w)`.

    Raises:
        MaskError: the mask has no fully sampled centre.
    """
    low_coils = low_resolution_images(kspace, mask)
    maps = sens_maps_from_images(low_coils) if sens_maps is None else sens_maps
    low = combine(low_coils, maps)
    magnitude = low.abs()
    phase = torch.where(magnitude > 0, low / torch.where(magnitude > 0, magnitude, 1.0), torch.ones_like(low))
    return combine(ifft2c(kspace), maps) * phase.conj(), phase


def image_scale(image: Tensor) -> Tensor:
    """The scale of each slice: the 99th percentile of its magnitude, `(slice, 1, 1)`; 1 for an empty slice.

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


def wrap_margin(channels: Tensor) -> int:
    """Columns by which one slice is continued at both ends of the phase axis: 32 where the object crosses it, else 0.

    The image of a discrete Fourier transform is periodic: what leaves the field of view on one side comes back on the
    other. A convolution that ends at the edge breaks such an object apart. It counts as crossing where the four columns
    at either edge hold more than 0.4 of the mean magnitude. Both numbers were chosen on the raw validation scans, as
    they are, shifted and folded along the phase axis (`benchmarks/field_of_view.py`): with empty edges the
    continuation is of no use and costs a little.

    Args:
        channels: real `(1, 2, h, w)`.
    """
    magnitude = channels.square().sum(dim=1).sqrt()
    edges = torch.cat([magnitude[..., :_EDGE_COLUMNS], magnitude[..., -_EDGE_COLUMNS:]], dim=-1)
    crossing = bool(edges.mean() > _EDGE_SHARE * magnitude.mean())
    return min(_WRAP_COLUMNS, int(channels.shape[-1])) if crossing else 0


def _run_wrapped(network: nn.Module, channels: Tensor, margin: int) -> Tensor:
    wide = functional.pad(channels, (margin, margin, 0, 0), mode="circular") if margin else channels
    out: Tensor = network(wide)
    return out[..., margin : margin + channels.shape[-1]]


def apply_network(network: nn.Module, image: Tensor) -> Tensor:
    """Run a two-channel network on complex images, a slice at a time: scale, run, undo the scale.

    An object that crosses the edge of the field of view is continued periodically first, see `wrap_margin`.

    Args:
        network: `(1, 2, h, w)` to `(1, 2, h, w)`.
        image: complex `(slice, h, w)`.

    Returns:
        complex `(slice, h, w)`.
    """
    scale = image_scale(image)
    scaled = torch.view_as_real(image / scale).movedim(-1, -3)
    # One slice at a time: memory does not grow with the scan, and a slice's result does not depend on its neighbours.
    out = torch.cat([_run_wrapped(network, part, wrap_margin(part)) for part in torch.split(scaled, 1)])
    return torch.view_as_complex(out.movedim(-3, -1).contiguous().float()) * scale


def unet(
    kspace: Tensor,
    mask: Mask,
    *,
    sens_maps: Tensor | None = None,
    device: torch.device,
    model: str = "unet",
) -> tuple[Tensor, dict[str, Any]]:
    """Reconstruct with a U-Net: x = p s (z/s + N(z/s)).

    z is the coil-combined zero-filled image without its smooth phase p (`network_input`), s its scale (`image_scale`),
    N the network without its residual connection.

    Args:
        kspace: complex64 `(slice, coil, readout, phase)`.
        mask: the sampling mask.
        sens_maps: coil sensitivities like `kspace`; estimated from the dense centre when absent.
        device: where to run.
        model: name of shipped weights, or the path of a `.safetensors` file beside its model card.

    Returns:
        complex64 image `(slice, h, w)`; info: `model`, `model_sha256`, `parameters`, `scale`, `notes`, `seconds`.

    Raises:
        MethodError: the model is not an image-to-image network.
        CheckpointError: unknown model, or damaged weights.
    """
    loaded = load_named(model, device=device)
    if loaded.card.architecture != "unet":
        raise MethodError(
            f"method unet: expected weights of a unet, got a {loaded.card.architecture} in {model!r}: "
            "choose another model"
        )
    start = time.perf_counter()
    with torch.no_grad():  # not inference mode: the image is the caller's to change
        combined, phase = network_input(kspace.to(device), mask, None if sens_maps is None else sens_maps.to(device))
        image = apply_network(loaded.network, combined) * phase
    seconds = time.perf_counter() - start
    info: dict[str, Any] = {
        "model": loaded.card.name,
        "model_sha256": loaded.sha256,
        "parameters": sum(p.numel() for p in loaded.network.parameters()),
        "scale": f"{SCALE_PERCENTILE:g}th percentile of the zero-filled magnitude of each slice",
        "notes": loaded.card.envelope.departures(acceleration=mask.realised_acceleration, num_coils=kspace.shape[1]),
        "seconds": seconds,
    }
    return image, info
