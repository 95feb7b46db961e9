"""Start a wide network from the weights of a narrower one."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

__all__ = ["described", "widened"]

_WIDTHS = {"chans", "least_chans"}
"""The parts of a configuration in which the narrow and the wide network may differ."""

_PER_CHANNEL = {"instance", "batch", "none"}
"""Normalisations in which a further channel leaves the others as they are."""


def described(network: Any) -> dict[str, Any]:
    """Describe the function of a network: its configuration except dropout, which may differ in training."""
    return dict(network.config.model_dump(exclude={"drop_prob"}))


def widened(narrow: nn.Module, wide: nn.Module) -> dict[str, Tensor] | None:
    """Return weights for `wide` with which it computes the same function as `narrow`.

    The channels that both have keep their weights. Further channels keep the random weights of `wide`, but those that
    lead from them to a channel of `narrow` are zero. Training then moves these first.

    Source: Chen et al., ICLR 2016 (Net2Net, which copies channels; here they are new).

    Args:
        narrow: trained network.
        wide: network of the same kind with at least as many feature channels at every level, randomly initialised.

    Returns:
        the weights; None where `wide` is no wider network of the same kind, or where its normalisation mixes channels.
    """
    before, after = described(narrow), described(wide)
    if type(narrow) is not type(wide) or before == after or after["normalization"] not in _PER_CHANNEL:
        return None
    if {name for name in before if before[name] != after[name]} - _WIDTHS:
        return None
    source, target = narrow.state_dict(), wide.state_dict()
    if any(new < old for name in target for new, old in zip(target[name].shape, source[name].shape, strict=True)):
        return None
    return {name: _embedded(source[name], value, name) for name, value in target.items()}


def _embedded(narrow: Tensor, wide: Tensor, name: str) -> Tensor:
    """Place the weights of a layer among those of the wider one."""
    if narrow.shape == wide.shape:
        return narrow
    if narrow.ndim < 4:  # of a normalisation: one value a channel
        placed = wide.clone()
        placed[: len(narrow)] = narrow
        return placed
    is_transposed = "up_transpose" in name.split(".")
    wide_out, narrow_out = (tensor.transpose(0, 1) if is_transposed else tensor for tensor in (wide, narrow))
    placed = wide_out.clone()
    outputs, inputs = narrow_out.shape[:2]
    placed[:outputs] = 0
    if re.search(r"(^|\.)up\.\d+\.0\.weight$", name):
        # The input joins the channels from below with those of the skip connection, half each.
        for half_narrow, half_wide in zip(narrow_out.chunk(2, dim=1), placed.chunk(2, dim=1), strict=True):
            half_wide[:outputs, : inputs // 2] = half_narrow
    else:
        placed[:outputs, :inputs] = narrow_out
    return placed.transpose(0, 1).contiguous() if is_transposed else placed
