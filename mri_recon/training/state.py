"""What a run needs to go on exactly: model, average, optimizer, scheduler, random state, history; as safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mri_recon._files import write_atomically
from mri_recon.errors import CheckpointError

__all__ = ["load_state", "save_state"]

_META = "state"


def save_state(
    path: Path,
    *,
    step: int,
    model: nn.Module,
    average: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    history: list[dict[str, float]],
) -> None:
    """Write one file, in full or not at all: a run that is killed while it writes keeps the state before."""
    tensors: dict[str, Tensor] = {f"model.{key}": value for key, value in model.state_dict().items()}
    tensors |= {f"average.{key}": value for key, value in average.state_dict().items()}
    state = optimizer.state_dict()
    for index, slots in state["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    tensors["random.torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    meta = {
        "step": step,
        "history": history,
        "param_groups": state["param_groups"],
        "scheduler": scheduler.state_dict(),
    }
    # Weights of one network may share memory with those of another; safetensors wants each its own.
    plain = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    write_atomically(path, save_tensors(plain, metadata={_META: json.dumps(meta, default=_plain)}))


def load_state(
    path: Path,
    *,
    model: nn.Module,
    average: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
) -> tuple[int, list[dict[str, float]]]:
    """Put everything back; returns the number of finished steps and the history.

    Raises:
        CheckpointError: a missing or damaged file, or one of another network.
    """
    try:
        payload = path.read_bytes()
        tensors = load_tensors(payload)
        meta = _metadata(payload)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"resume: cannot read {path}: {error}") from error
    try:
        model.load_state_dict(_part(tensors, "model."))
        average.load_state_dict(_part(tensors, "average."))
    except RuntimeError as error:
        raise CheckpointError(f"resume: {path} is of another network: {error}") from error
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in _part(tensors, "optimizer.").items():
        index, slot = key.split(".", 1)
        slots.setdefault(int(index), {})[slot] = _like(parameters[int(index)], value)
    groups = meta["param_groups"]
    for group in groups:
        group["betas"] = tuple(group["betas"])
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    scheduler.load_state_dict(meta["scheduler"])
    torch.set_rng_state(tensors["random.torch"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return int(meta["step"]), list(meta["history"])


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """A moment in the memory format of its parameter: the fused optimiser walks both as they lie in memory."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def _metadata(payload: bytes) -> dict[str, Any]:
    length = int.from_bytes(payload[:8], "little")
    header = json.loads(payload[8 : 8 + length])
    meta: dict[str, Any] = json.loads(header["__metadata__"][_META])
    return meta


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.item()
    return None  # a scheduler's lambda: rebuilt from the configuration
