"""The configuration of a training run: typed TOML with overrides."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from mri_recon.data.batches import BatchConfig
from mri_recon.data.dataset import DataConfig
from mri_recon.errors import ConfigError
from mri_recon.models import UnetConfig, UnrolledConfig
from mri_recon.training.losses import LossConfig
from mri_recon.training.optimizers import OptimizerConfig

__all__ = ["ModelConfig", "RunConfig", "TrainConfig", "load_config"]


class RunConfig(BaseModel):
    """How long, where and how precisely."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="unet", description="name of the run and of its weights")
    folder: str = Field(default="runs", description="folder that holds the run's folder")
    steps: int = Field(default=20_000, ge=1, description="optimiser steps")
    batch_size: int = Field(default=1, ge=1, description="examples a step, over all processes")
    seed: int = Field(default=0, ge=0, description="seed of weights and data")
    weights: str = Field(
        default="", description="start from these weights (.safetensors beside its card); empty: new ones"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps")
    precision: Literal["float32", "bfloat16", "float64"] = Field(
        default="float32", description="float32, bfloat16 (autocast, weights in float32), or float64"
    )
    channels_last: bool = Field(default=True, description="memory format of the network")
    compile: bool = Field(default=False, description="torch.compile the U-Nets of the network: minutes of start")
    threads: int = Field(default=0, ge=0, description="CPU threads; 0: torch's own choice")
    validate_every: int = Field(default=1000, ge=1, description="steps between validations")
    checkpoint_every: int = Field(default=500, ge=1, description="steps between resumable checkpoints")
    log_every: int = Field(default=20, ge=1, description="steps between points of the curves of the training loss")
    tensorboard: bool = Field(default=True, description="write the curves for TensorBoard")


class UnetModel(UnetConfig):
    """`architecture = "unet"`: from the zero-filled image in one pass."""

    architecture: Literal["unet"] = "unet"


class UnrolledModel(UnrolledConfig):
    """`architecture = "unrolled"`: data consistency around refinements."""

    architecture: Literal["unrolled"] = "unrolled"


MODELS: dict[str, type[BaseModel]] = {"unet": UnetModel, "unrolled": UnrolledModel}


def _architecture(value: Any) -> str:
    chosen = value.get("architecture", "unet") if isinstance(value, dict) else value.architecture
    return str(chosen)


ModelConfig = Annotated[
    Annotated[UnetModel, Tag("unet")] | Annotated[UnrolledModel, Tag("unrolled")], Discriminator(_architecture)
]


class TrainConfig(BaseModel):
    """Everything that a run depends on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: RunConfig = RunConfig()
    model: ModelConfig = UnetModel()
    data: DataConfig = DataConfig()
    batches: BatchConfig = BatchConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file and apply `section.key=value` overrides (values in TOML syntax; bare words are strings).

    Raises:
        ConfigError: no such file, bad TOML, an unknown key (the valid ones are listed) or an impossible value.
    """
    try:
        tree: dict[str, Any] = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(
            f"configuration {path}: cannot be read ({error.strerror}): give the path of a TOML file"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration {path}: not TOML ({error})") from error
    for override in overrides:
        _apply(tree, override)
    return parse_config(tree)


def parse_config(tree: dict[str, Any]) -> TrainConfig:
    """A configuration from nested tables.

    Raises:
        ConfigError: an unknown key (the valid ones are listed) or an impossible value.
    """
    try:
        return TrainConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"unknown key {where}: expected one of {', '.join(_keys(first['loc'][:-1]))}") from error
        raise ConfigError(f"{where}: {first['msg']}, got {first['input']!r}") from error


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"--set: expected section.key=value, got {override!r}")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = tree
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {part} is a value, not a section")
    table[parts[-1]] = value


def _keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = TrainConfig
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return sorted(model.model_fields)
