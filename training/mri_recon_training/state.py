"""Save and restore the state of a run as safetensors, never as a pickle."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.optim import Optimizer

from mri_recon._system.files import write_atomically
from mri_recon.errors import CheckpointError
from mri_recon_training.learner import Learner

__all__ = ["STATE_FILE", "finished_steps", "load_state", "save_state"]

STATE_FILE = "state.safetensors"
"""Name of the file in the folder of a run."""

_META = "state"
_CHECKSUM = "crc32"
_MAX_HEADER = 1 << 27


def save_state(path: Path, learner: Learner, progress: Mapping[str, Any]) -> None:
    """Write one file, in full or not at all: a run that is killed while it writes keeps the state before.

    Args:
        path: the file.
        learner: tensors in the state of its optimiser may stand in lists and mappings.
        progress: everything else that the loop needs, as JSON: numbers come back exactly.
    """
    tensors: dict[str, Tensor] = {}
    tree = {
        "model": _take_tensors(learner.network.state_dict(), "model", tensors),
        "average": _take_tensors(learner.average.state_dict(), "average", tensors),
        "optimizer": _take_tensors(learner.optimizer.state_dict(), "optimizer", tensors),
        "scheduler": _take_tensors(learner.scheduler.state_dict(), "scheduler", tensors),
        "progress": progress,
    }
    # Weights of one network may share memory with those of another; safetensors wants each its own.
    plain = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    content = json.dumps({"tree": tree, _CHECKSUM: _checksum(plain)})
    write_atomically(path, save_tensors(plain, metadata={_META: content}))


def load_state(path: Path, learner: Learner) -> dict[str, Any]:
    """Restore a learner; returns the progress.

    Raises:
        CheckpointError: a missing, truncated or damaged file, or one of another network or optimiser.
    """
    try:
        payload = path.read_bytes()
        tensors = load_tensors(payload)
        meta = _metadata(payload)
        tree = {part: _put_tensors(meta["tree"][part], tensors) for part in ("model", "average", "optimizer")}
        scheduled, progress = _put_tensors(meta["tree"]["scheduler"], tensors), dict(meta["tree"]["progress"])
        intact = meta[_CHECKSUM] == _checksum(tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"resume: cannot read {path} ({error}): the file is missing or damaged; put a copy back, or start again "
            "under another run.name, from the run's weights with run.weights"
        ) from error
    if not intact:
        raise CheckpointError(
            f"resume: {path} is damaged, its checksum is not that of its content: put a copy back, or start again "
            "under another run.name, from the run's weights with run.weights"
        )
    try:
        learner.network.load_state_dict(tree["model"])
        learner.average.load_state_dict(tree["average"])
        _load_optimizer(learner.optimizer, tree["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"resume: {path} is of another network or optimiser: {error}") from error
    learner.scheduler.load_state_dict(scheduled)
    return progress


def finished_steps(path: Path) -> int:
    """Read the number of finished steps from a state; 0 if there is none yet.

    Raises:
        CheckpointError: a damaged file.
    """
    if not path.exists():
        return 0
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return int(_metadata_of(file.read(min(length, _MAX_HEADER)))["tree"]["progress"]["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"resume: cannot read {path} ({error}): the file is damaged; put a copy back") from error


def _load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, slots in state["state"].items():
        # A moment in the memory format of its parameter: the fused optimisers walk both as they lie in memory.
        parameter = parameters[index]
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim == 4:
                slots[name] = torch.empty_like(parameter).copy_(value)
    optimizer.load_state_dict(state)


def _take_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Turn a tree into JSON, its tensors moved to `tensors` by name; numeric keys and tuples survive."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"map": [[key, _take_tensors(item, f"{name}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_take_tensors(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if callable(value):  # a scheduler's function: rebuilt from the configuration
        return None
    return value


def _put_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "map":
        return {key: _put_tensors(item, tensors) for key, item in content}
    items = [_put_tensors(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    checksum = 0
    for name in sorted(tensors):
        content = tensors[name].reshape(-1).view(torch.uint8).numpy()
        checksum = zlib.crc32(content.data, zlib.crc32(name.encode(), checksum))
    return checksum


def _metadata(payload: bytes) -> dict[str, Any]:
    length = int.from_bytes(payload[:8], "little")
    return _metadata_of(payload[8 : 8 + length])


def _metadata_of(content: bytes) -> dict[str, Any]:
    header = json.loads(content)
    meta: dict[str, Any] = json.loads(header["__metadata__"][_META])
    return meta
