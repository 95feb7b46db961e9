"""Describe the refinements of cascades and unrolled networks: U-Nets on an image, its memory and further channels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mri_recon.models.unet import UnetConfig

__all__ = ["as_channels", "as_image", "refinement_config"]


class RefinementOptions(Protocol):
    """Name the fields of a network's configuration that describe its refinements."""

    @property
    def memory(self) -> int: ...
    @property
    def chans(self) -> int: ...
    @property
    def num_pool_layers(self) -> int: ...
    @property
    def patch(self) -> int: ...
    @property
    def normalization(self) -> str: ...
    @property
    def channels_per_group(self) -> int: ...
    @property
    def num_groups(self) -> int: ...


def refinement_config(options: RefinementOptions, in_chans: int) -> UnetConfig:
    """Describe the U-Net of one refinement, with `in_chans` real input channels in addition to the memory."""
    return UnetConfig(
        in_chans=in_chans + options.memory,
        out_chans=2 + options.memory,
        chans=options.chans,
        num_pool_layers=options.num_pool_layers,
        normalization=options.normalization,
        channels_per_group=options.channels_per_group,
        num_groups=options.num_groups,
        patch=options.patch,
    )


def as_channels(image: Tensor) -> Tensor:
    """Split a complex image `(batch, h, w)` into real channels `(batch, 2, h, w)`."""
    return torch.stack([image.real, image.imag], dim=1)


def as_image(channels: Tensor) -> Tensor:
    """Join the first two real channels of `(batch, channel, h, w)` into a complex image `(batch, h, w)`."""
    return torch.complex(channels[:, 0], channels[:, 1])
