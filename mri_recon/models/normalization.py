"""Normalisation layers by name."""

from __future__ import annotations

from torch import nn

from mri_recon.errors import ConfigError

__all__ = ["NORMALIZATIONS", "normalization"]

NORMALIZATIONS = ("group", "batch", "layer", "instance", "none")


def normalization(name: str, num_channels: int, *, channels_per_group: int = 32) -> nn.Module:
    """The normalisation layer called `name` for feature maps `(batch, num_channels, h, w)`.

    `group` divides the channels into groups of `channels_per_group` (one group where there are fewer channels) and
    normalises each group of each image: y = gamma (x - mean) / sqrt(var + eps) + beta (Wu and He, ECCV 2018). `layer`
    is one group, `instance` a group a channel, `batch` uses the statistics of the batch, `none` is the identity.

    Raises:
        ConfigError: unknown name, or channels that do not divide into such groups.
    """
    if name == "group":
        size = min(channels_per_group, num_channels)
        if size < 1 or num_channels % size:
            raise ConfigError(
                f"group norm: expected channels_per_group to divide {num_channels} channels, got {channels_per_group}: "
                "choose a divisor"
            )
        return nn.GroupNorm(num_channels // size, num_channels)
    if name == "layer":
        return nn.GroupNorm(1, num_channels)
    if name == "instance":
        return nn.GroupNorm(num_channels, num_channels)
    if name == "batch":
        return nn.BatchNorm2d(num_channels)
    if name == "none":
        return nn.Identity()
    raise ConfigError(f"unknown normalization {name!r}: expected one of {', '.join(NORMALIZATIONS)}")
