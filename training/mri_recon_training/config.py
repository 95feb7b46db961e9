"""The configuration of a training run: typed TOML with overrides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import ConfigError
from mri_recon.models import CascadeConfig, UnetConfig, UnrolledConfig
from mri_recon.models.checkpoint import load_named
from mri_recon_data.examples.batches import BatchConfig
from mri_recon_data.examples.config import DataConfig
from mri_recon_training.losses import LossConfig
from mri_recon_training.optimizer_config import OptimizerConfig
from mri_recon_training.toml_config import read_tables, validated

__all__ = ["ModelConfig", "RunConfig", "TrainConfig", "load_config", "parse_config"]


_RUN_FILES = frozenset({"config", "metrics", "state", "tensorboard"})
"""Files of a run beside its weights, without their suffix."""

_LONGEST_NAME = 200
"""Bytes; with the suffix of the weights below the 255 that a file system allows."""


class RunConfig(BaseModel):
    """Length, place and precision of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="unet", description="name of the run and of its weights")
    folder: str = Field(default="runs", description="folder that holds the run's folder")
    steps: int = Field(default=20_000, ge=1, description="optimiser steps")
    batch_size: int = Field(default=1, ge=1, description="examples a step, over all processes")
    seed: int = Field(default=0, ge=0, description="seed of weights and data")
    weights: str = Field(
        default="",
        description="start from these weights, a shipped name or a .safetensors file next to its card; without "
        "[model], the network is theirs. Empty: random ones",
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
    tensorboard: bool = Field(default=True, description="write curves and pictures for TensorBoard")
    extended: tuple[tuple[int, int], ...] = Field(
        default=(),
        description="written by train --resume RUN --set run.steps=N: for each time that the run was made longer, the "
        "finished steps and the number of steps until then",
    )

    @field_validator("name")
    @classmethod
    def _name_of_a_file(cls, name: str) -> str:
        """Refuse a name that leaves the run's folder, or is that of another file in it."""
        if name.casefold() in _RUN_FILES:
            raise ValueError(f"a run has another file of the name {name}: choose another name")
        if not name or name.startswith(".") or "/" in name or os.sep in name or len(os.fsencode(name)) > _LONGEST_NAME:
            raise ValueError(
                f"expected the name of a file, of at most {_LONGEST_NAME} bytes, no / in it and no dot before it: "
                "choose another name; the folder is run.folder"
            )
        return name


class UnetModel(UnetConfig):
    """`architecture = "unet"`: from the zero-filled image in one pass."""

    architecture: Literal["unet"] = "unet"


class UnrolledModel(UnrolledConfig):
    """`architecture = "unrolled"`: data consistency around refinements."""

    architecture: Literal["unrolled"] = "unrolled"


class CascadeModel(CascadeConfig):
    """`architecture = "cascade"`: data consistency that follows the noise; one refinement is a single pass."""

    architecture: Literal["cascade"] = "cascade"


MODELS: dict[str, type[BaseModel]] = {"unet": UnetModel, "unrolled": UnrolledModel, "cascade": CascadeModel}


def _architecture(value: Any) -> str:
    chosen = value.get("architecture", "unet") if isinstance(value, dict) else getattr(value, "architecture", "unet")
    return str(chosen)


ModelConfig = Annotated[
    Annotated[UnetModel, Tag("unet")]
    | Annotated[UnrolledModel, Tag("unrolled")]
    | Annotated[CascadeModel, Tag("cascade")],
    Discriminator(_architecture),
]


class TrainConfig(BaseModel):
    """The configuration of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: RunConfig = RunConfig()
    model: ModelConfig = UnetModel()
    data: DataConfig = DataConfig()
    batches: BatchConfig = BatchConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file and apply `section.key=value` overrides (values in TOML syntax; text where the key is text).

    Without a table `[model]`, the network is that of `run.weights` if these are given.

    Raises:
        ConfigError: no such file, bad TOML, an unknown key (the valid ones are listed) or an impossible value.
        CheckpointError: unknown or damaged start weights.
    """
    tables = read_tables(path, overrides, TrainConfig)
    config = parse_config(tables)
    if not config.run.weights or "model" in tables:
        return config
    card = load_named(config.run.weights).card
    return parse_config(tables | {"model": {**card.config, "architecture": card.architecture}})


def parse_config(tables: dict[str, Any]) -> TrainConfig:
    """Make a configuration from nested tables.

    Raises:
        ConfigError: an unknown key (the valid ones are listed) or an impossible value.
    """
    model = tables.get("model")
    if isinstance(model, dict):  # by itself: the keys to list are those of its architecture
        chosen = MODELS.get(_architecture(model))
        unknown = sorted(set(model) - set(chosen.model_fields)) if chosen else []
        if chosen and unknown:
            valid = sorted(chosen.model_fields)
            near = did_you_mean(unknown[0], valid)
            raise ConfigError(f"unknown key model.{unknown[0]}{near}: expected one of {', '.join(valid)}")
        if not chosen:
            raise ConfigError(
                f"model.architecture: expected one of {', '.join(MODELS)}, got {model['architecture']!r}"
                f"{did_you_mean(model['architecture'], MODELS)}: choose one"
            )
    return validated(TrainConfig, tables)
