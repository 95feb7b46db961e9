"""Set up device, precision and data-parallel processes of a run with Lightning Fabric."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from mri_recon.errors import ConfigError
from mri_recon_training.config import TrainConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["all_reduce", "launch", "share_of_batch"]

_Precision = Literal["32-true", "bf16-mixed", "64-true"]
_PRECISIONS: dict[str, _Precision] = {"float32": "32-true", "bfloat16": "bf16-mixed", "float64": "64-true"}


def launch(config: TrainConfig) -> Fabric:
    """Set up this process of a run: a single one, or one of those that `torchrun` started (gloo on CPUs, nccl on GPUs).

    Under `torchrun`, process i of a machine takes GPU i of it.

    Raises:
        ConfigError: the extra `train` is not installed, an unknown or absent device, one GPU by number for several
            processes, or a batch that does not divide among the processes.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise ConfigError(
            "training needs Lightning Fabric, which is not installed: pip install 'mri-recon[train]'"
        ) from error
    device = _device(config.run.device)
    processes = local = 1
    if "TORCHELASTIC_RUN_ID" in os.environ:  # this process is one of torchrun's
        processes, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    share_of_batch(config.run.batch_size, processes)
    precision = _PRECISIONS[config.run.precision]
    if processes == 1:
        devices: int | list[int] = 1 if device.type == "cpu" else [device.index or 0]
        fabric = Fabric(accelerator=device.type, devices=devices, precision=precision)
    else:
        if ":" in config.run.device:
            raise ConfigError(
                f"run.device: expected cpu, cuda or auto for {processes} processes, got {config.run.device!r}: each "
                "takes the GPU of its own number"
            )
        # What only several coils use is without a gradient for a single one, and the other way round.
        unused = any(bool(getattr(config.model, key, 0)) for key in ("maps_chans", "coil_steps", "coil_iterations"))
        fabric = Fabric(
            accelerator=device.type,
            devices=local,
            num_nodes=processes // local,
            strategy=DDPStrategy(find_unused_parameters=unused),
            precision=precision,
        )
        atexit.register(_leave_group)
    fabric.launch()
    return fabric


def _leave_group() -> None:
    """End the threads of the process group: C++ ends a process that leaves them to its own exit."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def share_of_batch(batch_size: int, processes: int) -> int:
    """Count the examples of a batch that each process takes.

    Raises:
        ConfigError: they do not divide.
    """
    if batch_size % processes:
        raise ConfigError(
            f"run.batch_size: expected a multiple of the {processes} processes, got {batch_size}: choose "
            f"{processes * -(-batch_size // processes)}"
        )
    return batch_size // processes


def all_reduce(fabric: Fabric, value: Tensor, operation: Literal["mean", "sum"]) -> Tensor:
    """Compute the mean or sum of a tensor over the processes, on the device of this one."""
    result = fabric.all_reduce(value, reduce_op=operation)
    assert isinstance(result, Tensor)
    return result


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"run.device: expected auto, cpu, cuda or mps, got {name!r}") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"run.device: expected auto, cpu, cuda or mps, got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("run.device: cuda was asked for, but this torch sees no CUDA device: use run.device=cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("run.device: mps was asked for, but this torch has none: use run.device=cpu")
    return device
