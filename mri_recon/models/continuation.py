"""Periodic continuation of an image at both ends of the phase axis, around a network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["run_continued"]


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
