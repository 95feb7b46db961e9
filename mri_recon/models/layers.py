"""Layers of the networks: normalisation by name, and periodic continuation at both ends of the phase axis."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from mri_recon.errors import ConfigError

__all__ = [
    "NORMALIZATIONS",
    "normalization",
    "run_continued",
]


NORMALIZATIONS = ("group", "batch", "layer", "instance", "none")


def normalization(name: str, num_channels: int, *, channels_per_group: int = 32, num_groups: int = 0) -> nn.Module:
    """The normalisation layer called `name` for feature maps `(batch, num_channels, h, w)`.

        y = gamma (x - m) / sqrt(v + eps) + beta,    eps = 1e-5

    m and v are the mean and the biased variance over a set of values; gamma and beta belong to the channel, 1 and 0 at
    first. What differs is the set:

        group       the channels of one group of one image, and its pixels (Wu and He, ECCV 2018): by the number of
                    channels in a group, or by the number of groups where `num_groups` is not 0
        layer       all channels of one image (Ba et al., 2016): one group
        instance    one channel of one image (Ulyanov et al., 2016): a group a channel
        batch       one channel of all images of the batch (Ioffe and Szegedy, ICML 2015)
        none        the identity

    Only `batch` lets images depend on each other, and only it has two modes. In training m and v are the batch's, and
    the running statistics follow, r = 0.9 r + 0.1 s, from mean 0 and variance 1; of the variance s is the unbiased one,
    n/(n-1) v for n values. In evaluation m and v are the running ones, so that an image's result does not depend on its
    batch, and differs from what training saw by as much as the batch's statistics scatter. The others know no
    difference.

    Args:
        name: one of `NORMALIZATIONS`.
        num_channels: of the feature maps; fewer than a group, or than groups, are one group, or a group each.
        channels_per_group: for `group`, used where `num_groups` is 0.
        num_groups: for `group`; 0: by `channels_per_group`.

    Raises:
        ConfigError: unknown name, or channels that do not divide into such groups.
    """
    if name == "group":
        return nn.GroupNorm(_groups(num_channels, channels_per_group, num_groups), num_channels)
    if name == "layer":
        return nn.GroupNorm(1, num_channels)
    if name == "instance":
        return nn.GroupNorm(num_channels, num_channels)
    if name == "batch":
        return nn.BatchNorm2d(num_channels)
    if name == "none":
        return nn.Identity()
    raise ConfigError(f"unknown normalization {name!r}: expected one of {', '.join(NORMALIZATIONS)}")


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
    """The answer of a network that sees its input continued by `margin` columns at both ends, those cut off again.

    Args:
        network: `(batch, channel, h, w)` to `(batch, other channel, h, w)`, for any w.
        channels: `(batch, channel, h, w)`.
        margin: columns, at most w; 0: the network as it is.
    """
    wide = functional.pad(channels, (margin, margin, 0, 0), mode="circular") if margin else channels
    out: Tensor = network(wide)
    return out[..., margin : margin + channels.shape[-1]]
