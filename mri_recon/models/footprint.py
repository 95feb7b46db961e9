"""Bound the memory that a network takes while it runs, from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mri_recon.models.cascade import IN_CHANS as cascade_channels
from mri_recon.models.cascade import CascadeConfig
from mri_recon.models.unet import UnetConfig
from mri_recon.models.unrolled import IN_CHANS as unrolled_channels
from mri_recon.models.unrolled import UnrolledConfig

__all__ = ["adaptation_bytes", "working_bytes"]

_FLOAT = 4

_LIVE_MAPS = 12
"""Maps of `chans` channels on the first level that are alive at once: skip, upsampled, both concatenated, input and
output of a convolution, its copies in the order that the processor's library wants, and all levels below."""

_LIVE_CHANNELS = 4
"""Maps of each input and output channel at full size that are alive at once: continued, padded, folded, unchanged."""

_REFINED_MAPS_LAYERS = 3


def working_bytes(architecture: str, config: Mapping[str, Any], shape: tuple[int, int, int], margin: int) -> int | None:
    """Bound the bytes that one run of a network takes beyond its input and its weights, for one slice.

        bytes = 4 (12 chans / patch^2 + 4 (in_chans + out_chans)) h' w'

    for a U-Net, with h', w' the padded and continued sides. An unrolled network takes as much as one of its
    refinements. If it refines the coil maps, it runs a U-Net on all maps at once.

    Args:
        architecture: as in a model card.
        config: as in a model card.
        shape: `(coil, h, w)`.
        margin: maximum number of columns of periodic continuation at either end.

    Returns:
        bytes; None for an unknown architecture.

    Raises:
        ValidationError: the configuration does not fit the architecture.
    """
    coils, height, width = shape
    if architecture == "unet":
        return _unet_bytes(UnetConfig(**config), height, width + 2 * margin)
    if architecture == "cascade":
        cascade = CascadeConfig(**config)
        return _unet_bytes(cascade.refinement(cascade_channels), height, width + 2 * margin)
    if architecture == "unrolled":
        unrolled = UnrolledConfig(**config)
        needed = _unet_bytes(unrolled.refinement(unrolled_channels), height, width + 2 * margin)
        if unrolled.maps_chans and coils > 1:
            maps = UnetConfig(chans=unrolled.maps_chans, num_pool_layers=_REFINED_MAPS_LAYERS, patch=unrolled.patch)
            needed = max(needed, coils * _unet_bytes(maps, height, width))
        return needed
    return None


_KEPT_MAPS = 40
"""Maps of `chans` channels on the first level that a U-Net keeps for its gradients, all levels together."""

_COPIES = 8
"""Copies of the weights in single precision: network, average, gradients, two moments of Adam, the best, two spare."""


def adaptation_bytes(
    architecture: str, config: Mapping[str, Any], shape: tuple[int, int, int], margin: int, weight_bytes: int
) -> int | None:
    """Bound the bytes that the adaptation of a network to a scan takes, for one slice with all of its rows.

        bytes = 4 K (40 chans / patch^2 + 4 (in_chans + out_chans)) h' w' + 8 weights

    K is the number of refinements, whose maps stay until the gradients are computed.

    Args:
        architecture: as in a model card.
        config: as in a model card.
        shape: `(coil, h, w)`.
        margin: maximum number of columns of periodic continuation at either end.
        weight_bytes: bytes of the weights in single precision.

    Returns:
        bytes; None for an unknown architecture.

    Raises:
        ValidationError: the configuration does not fit the architecture.
    """
    working = working_bytes(architecture, config, shape, margin)
    if working is None:
        return None
    runs = int(config.get("num_cascades", 1))
    if architecture == "unrolled" and config.get("maps_chans", 0):
        runs += 1
    return runs * -(-working * _KEPT_MAPS // _LIVE_MAPS) + _COPIES * weight_bytes


def _unet_bytes(config: UnetConfig, height: int, width: int) -> int:
    multiple = config.patch * 2**config.num_pool_layers
    pixels = (height + -height % multiple) * (width + -width % multiple)
    channels = _LIVE_CHANNELS * (config.in_chans + config.out_chans)
    return int(_FLOAT * pixels * (_LIVE_MAPS * config.widths[0] / config.patch**2 + channels))
