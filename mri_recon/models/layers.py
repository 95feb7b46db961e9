"""Build layers of the networks: normalisation by name, and periodic continuation at both ends of the phase axis."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import ConfigError

__all__ = [
    "NORMALIZATIONS",
    "normalization",
    "run_continued",
]


NORMALIZATIONS = ("group", "batch", "layer", "instance", "none")


def normalization(name: str, num_channels: int, *, channels_per_group: int = 32, num_groups: int = 0) -> nn.Module:
    """Build the normalisation layer `name` for feature maps `(batch, num_channels, h, w)`.

        y = gamma (x - m) / sqrt(v + eps) + beta,    eps = 1e-5

    m and v are the mean and the biased variance over a set of values; gamma and beta are learned for each channel and
    start at 1 and 0. The layers differ in the set:

        group       the channels of one group of one image, and its pixels (Wu and He, ECCV 2018): by the number of
                    channels in a group, or by the number of groups where `num_groups` is not 0
        layer       all channels of one image (Ba et al., 2016): one group
        instance    one channel of one image (Ulyanov et al., 2016): each channel is a group
        batch       one channel of all images of the batch (Ioffe and Szegedy, ICML 2015)
        none        the identity

    Only `batch` makes images depend on each other, and only `batch` behaves differently in training and evaluation. In
    training, m and v are those of the batch, and the running statistics are updated by r = 0.9 r + 0.1 s, from mean 0
    and variance 1; for the variance, s is the unbiased estimate n/(n-1) v of n values. In evaluation, m and v are the
    running statistics. The result of an image then does not depend on its batch, and differs from its result in
    training by as much as the statistics of the batches scatter.

    Args:
        name: one of `NORMALIZATIONS`.
        num_channels: channels of the feature maps. Fewer than `channels_per_group` form one group; fewer than
            `num_groups` form one group each.
        channels_per_group: for `group`, used where `num_groups` is 0.
        num_groups: for `group`; 0 means that `channels_per_group` sets the groups.

    Raises:
        ConfigError: unknown name, or the channels cannot be divided into such groups.
    """
    if name == "group":
        return _GroupNorm(_groups(num_channels, channels_per_group, num_groups), num_channels)
    if name == "layer":
        return _GroupNorm(1, num_channels)
    if name == "instance":
        return _GroupNorm(num_channels, num_channels)
    if name == "batch":
        return nn.BatchNorm2d(num_channels)
    if name == "none":
        return nn.Identity()
    near = did_you_mean(name, NORMALIZATIONS)
    raise ConfigError(f"unknown normalization {name!r}{near}: expected one of {', '.join(NORMALIZATIONS)}")


class _GroupNorm(nn.GroupNorm):
    """Normalise a single value as well, of which `nn.GroupNorm` makes an error: it is its own mean, so y = beta.

    The lowest level of a U-Net has one pixel if the image is no larger than 2^poolings.
    """

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def _groups(num_channels: int, channels_per_group: int, num_groups: int) -> int:
    if num_groups:
        groups = min(num_groups, num_channels)
        if groups < 1 or num_channels % groups:
            raise ConfigError(
                f"group norm: expected num_groups to divide {num_channels} channels, got {num_groups}: choose a divisor"
            )
        return groups
    size = min(channels_per_group, num_channels)
    if size < 1 or num_channels % size:
        raise ConfigError(
            f"group norm: expected channels_per_group to divide {num_channels} channels, got {channels_per_group}: "
            "choose a divisor"
        )
    return num_channels // size


def run_continued(network: nn.Module, channels: Tensor, margin: int) -> Tensor:
    """Run a network on its input continued periodically by `margin` columns at both ends; crop these columns again.

    Args:
        network: `(batch, channel, h, w)` to `(batch, other channel, h, w)`, for any w.
        channels: `(batch, channel, h, w)`.
        margin: columns, at most w; 0 runs the network on the input itself.
    """
    wide = functional.pad(channels, (margin, margin, 0, 0), mode="circular") if margin else channels
    out: Tensor = network(wide)
    return out[..., margin : margin + channels.shape[-1]]
