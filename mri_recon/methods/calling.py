"""Select the arguments that a method's signature has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from mri_recon.progress import OnProgress

__all__ = ["fixed_arguments"]


def fixed_arguments(
    function: Callable[..., Any], device: torch.device, on_progress: OnProgress | None
) -> dict[str, Any]:
    """Select `device` and `on_progress` if the signature of a method has them, or (`device`) accepts any keyword."""
    parameters = inspect.signature(function).parameters
    wanted: dict[str, Any] = {}
    if "device" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        wanted["device"] = device
    if on_progress is not None and "on_progress" in parameters:
        wanted["on_progress"] = on_progress
    return wanted
