"""Define the U-Net of fastMRI with a choice of normalisation."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from mri_recon.errors import ShapeError
from mri_recon.models.layers import normalization

__all__ = ["Unet", "UnetConfig"]


class UnetConfig(BaseModel):
    """Describe a U-Net; stored in the model card, so that weights rebuild their own network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_chans: int = Field(default=2, ge=1, description="input channels: real and imaginary part")
    out_chans: int = Field(default=2, ge=1, description="output channels: real and imaginary part of the correction")
    chans: int = Field(default=32, ge=1, description="feature channels of the first level; doubled at each level")
    least_chans: int = Field(default=1, ge=1, description="feature channels of every level: at least this many")
    num_pool_layers: int = Field(default=4, ge=1, description="number of down- and up-sampling steps")
    normalization: str = Field(default="group", description="group, batch, layer, instance or none")
    channels_per_group: int = Field(default=32, ge=1, description="channels that share statistics in group norm")
    num_groups: int = Field(default=0, ge=0, description="group norm by number of groups; 0: by channels_per_group")
    drop_prob: float = Field(default=0.0, ge=0.0, lt=1.0, description="dropout probability of whole channels")
    patch: int = Field(default=1, ge=1, description="pixels of a side that become channels at the door; 1: none")

    @property
    def widths(self) -> list[int]:
        """Return the number of feature channels of each level, the finest first."""
        return [max(self.chans * 2**level, self.least_chans) for level in range(self.num_pool_layers + 1)]


class Unet(nn.Module):
    """Apply a U-Net with a residual output: y = x + N(x).

    Encoder and decoder have `num_pool_layers` levels, each with two 3x3 convolutions, normalisation and leaky ReLU
    (slope 0.2). Average pooling leads down, 2x2 transposed convolution up. Skip connections concatenate. A 1x1
    convolution ends the network (Ronneberger et al., MICCAI 2015; Zbontar et al., arXiv:1811.08839). The output
    convolution starts at zero, so an untrained network returns its input.

    With `patch` p > 1, every block of p x p pixels becomes one pixel of p^2 channels (space to depth, the inverse of
    Shi et al., CVPR 2016). The costly first level then runs on 1/p^2 of the pixels, and the output channels become
    pixels again.

    Height and width are arbitrary: the input is padded with its edge values to the next multiple of p
    2^num_pool_layers, and the output is cropped back.

    Shapes: `(batch, in_chans, h, w)` real in, `(batch, out_chans, h, w)` real out.

    Raises:
        ShapeError: wrong rank or number of channels.
    """

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.config = config
        folded = config.patch**2
        widths = config.widths
        self.down = nn.ModuleList(
            _conv_block(before, after, config)
            for before, after in zip([folded * config.in_chans, *widths[:-2]], widths[:-1], strict=True)
        )
        self.bottom = _conv_block(widths[-2], widths[-1], config)
        self.up_transpose = nn.ModuleList(
            _up_block(below, width, config) for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.up = nn.ModuleList(_conv_block(2 * width, width, config) for width in reversed(widths[:-1]))
        self.head = nn.Conv2d(widths[0], folded * config.out_chans, kernel_size=1)
        nn.init.zeros_(self.head.weight)
        if self.head.bias is not None:
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, in_chans, h, w)` to `(batch, out_chans, h, w)`."""
        if x.ndim != 4 or x.shape[1] != self.config.in_chans:
            raise ShapeError(
                f"U-Net: expected (batch, {self.config.in_chans}, h, w), got {tuple(x.shape)}: "
                "stack real and imaginary part as channels"
            )
        height, width = x.shape[-2:]
        patch = self.config.patch
        features = functional.pixel_unshuffle(_pad_to_multiple(x, patch * 2**self.config.num_pool_layers), patch)
        skips = []
        for block in self.down:
            features = block(features)
            skips.append(features)
            features = functional.avg_pool2d(features, kernel_size=2)
        features = self.bottom(features)
        for transpose, block in zip(self.up_transpose, self.up, strict=True):
            features = block(torch.cat([transpose(features), skips.pop()], dim=1))
        correction = functional.pixel_shuffle(self.head(features), patch)[..., :height, :width]
        return x[:, : self.config.out_chans] + correction


def _conv_block(in_chans: int, out_chans: int, config: UnetConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    for chans in (in_chans, out_chans):
        # Normalisation subtracts the mean, so a bias before it would have no effect.
        layers += [
            nn.Conv2d(chans, out_chans, kernel_size=3, padding=1, bias=config.normalization == "none"),
            _normalization(out_chans, config),
            nn.LeakyReLU(negative_slope=0.2, inplace=True),
        ]
        if config.drop_prob > 0:
            layers.append(nn.Dropout2d(config.drop_prob))
    return nn.Sequential(*layers)


def _up_block(in_chans: int, out_chans: int, config: UnetConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_chans, out_chans, kernel_size=2, stride=2, bias=config.normalization == "none"),
        _normalization(out_chans, config),
        nn.LeakyReLU(negative_slope=0.2, inplace=True),
    )


def _normalization(channels: int, config: UnetConfig) -> nn.Module:
    return normalization(
        config.normalization, channels, channels_per_group=config.channels_per_group, num_groups=config.num_groups
    )


def _pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if bottom == 0 and right == 0:
        return x
    return functional.pad(x, (0, right, 0, bottom), mode="replicate")
