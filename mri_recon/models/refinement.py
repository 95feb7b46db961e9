"""Describe the refinements of cascades and unrolled networks: U-Nets on an image, its memory and further channels."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mri_recon.models.unet import UnetConfig

__all__ = ["RefinedConfig", "as_channels", "as_image"]


class RefinedConfig(BaseModel):
    """Describe what cascades and unrolled networks have in common: how many refinements, and which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_cascades: int = Field(ge=1)
    memory: int = Field(default=4, ge=0, description="real channels that one refinement hands to the next")
    chans: int = Field(default=32, ge=1, description="feature channels of a refinement's first level")
    least_chans: int = Field(default=1, ge=1, description="feature channels of every level: at least this many")
    num_pool_layers: int = Field(default=2, ge=1, description="down- and up-sampling steps of a refinement")
    patch: int = Field(default=2, ge=1, description="pixels of a side that become channels of a refinement")
    normalization: str = Field(default="group", description="group, batch, layer, instance or none")
    channels_per_group: int = Field(default=32, ge=1, description="channels that share statistics in group norm")
    num_groups: int = Field(default=0, ge=0, description="group norm by number of groups; 0: by channels_per_group")

    def refinement(self, in_chans: int) -> UnetConfig:
        """Describe the U-Net of one refinement, with `in_chans` real input channels in addition to the memory."""
        shared = self.model_dump(include=set(UnetConfig.model_fields))
        return UnetConfig(in_chans=in_chans + self.memory, out_chans=2 + self.memory, **shared)


def as_channels(image: Tensor) -> Tensor:
    """Split a complex image `(batch, h, w)` into real channels `(batch, 2, h, w)`."""
    return torch.stack([image.real, image.imag], dim=1)


def as_image(channels: Tensor) -> Tensor:
    """Join the first two real channels of `(batch, channel, h, w)` into a complex image `(batch, h, w)`."""
    return torch.complex(channels[:, 0], channels[:, 1])
