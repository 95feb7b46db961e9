"""The configuration of a study: candidates, budget, examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import ConfigError
from mri_recon.models import UnetConfig
from mri_recon.models.layers import NORMALIZATIONS
from mri_recon_data.examples.config import DataConfig
from mri_recon_training.losses import LossConfig
from mri_recon_training.optimizer_config import OPTIMIZERS, OptimizerConfig, full_batch
from mri_recon_training.toml_config import read_tables, validated

__all__ = ["KINDS", "Candidate", "StudyConfig", "candidates", "check_kind", "load_study", "optimizer_config"]

KINDS = {"optimizers": OPTIMIZERS, "norms": NORMALIZATIONS}
"""What can be studied, and the candidates of each."""


class BudgetConfig(BaseModel):
    """Candidates, budget and seeds of a study."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    candidates: tuple[str, ...] = Field(default=(), description="names to compare; empty: all")
    steps: int = Field(default=400, ge=2, description="steps of every mini-batch run")
    batch_sizes: tuple[int, ...] = Field(default=(4,), min_length=1, description="examples a step; a comparison each")
    full_batch: int = Field(default=32, ge=1, description="examples in the fixed batch of gradient-descent and lbfgs")
    optimizer: str = Field(default="adam", description="norms: the optimiser of every run")
    grid: tuple[float, ...] = Field(
        default=(0.1, 0.3, 1.0, 3.0, 10.0), min_length=1, description="learning rates tried, times the candidate's own"
    )
    warmup_share: float = Field(default=0.05, ge=0, lt=1, description="share of a run in which the rate warms up")
    tuning_seed: int = Field(default=0, ge=0, description="seed of the trials that choose the learning rate")
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1, description="seeds of the runs that are reported")
    examples: int = Field(default=256, ge=1, description="training examples, all in memory")
    validation_examples: int = Field(default=48, ge=1, description="validation examples of the same kind")
    points: int = Field(default=12, ge=1, description="points of a curve")


class StudyConfig(BaseModel):
    """A study: its budget, the network, the data and the loss; `optimizers` has keys of each optimiser, e.g. its lr.

    An optimiser's lr here is the middle of its grid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: BudgetConfig = BudgetConfig()
    model: UnetConfig = UnetConfig(chans=16, num_pool_layers=3, patch=2, channels_per_group=16)
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optimizers: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """One row of a comparison: a network, an optimiser, a batch size.

    Attributes:
        name: of the optimiser or of the normalisation.
        model: its network.
        optimizer: the name of its optimiser.
        batch_size: examples a step; of the fixed batch for a full-batch optimiser.
        group: the batch size of the comparison it belongs to.
    """

    name: str
    model: UnetConfig
    optimizer: str
    batch_size: int
    group: int


def check_kind(kind: str) -> None:
    """Refuse a kind of study that there is not.

    Raises:
        ConfigError: the valid ones are listed.
    """
    _check_name("study", kind, tuple(KINDS))


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study's TOML file with overrides.

    Raises:
        ConfigError: as for a training configuration; an unknown optimiser; more examples asked for than there are.
    """
    config = validated(StudyConfig, read_tables(path, overrides, StudyConfig))
    for name in (*config.optimizers, config.study.optimizer):
        _check_name("optimizer", name, OPTIMIZERS)
    largest = max(*config.study.batch_sizes, config.study.full_batch)
    if largest > config.study.examples:
        raise ConfigError(
            f"study: expected batches of at most study.examples = {config.study.examples}, got {largest}: "
            "raise study.examples"
        )
    return config


def candidates(kind: str, config: StudyConfig) -> list[Candidate]:
    """List the rows of a study, by batch size.

    Raises:
        ConfigError: an unknown kind or candidate; the valid ones are listed.
    """
    check_kind(kind)
    names = config.study.candidates or KINDS[kind]
    for name in names:
        _check_name(kind.removesuffix("s"), name, KINDS[kind])
    rows = []
    for batch_size in config.study.batch_sizes:
        for name in names:
            optimizer = name if kind == "optimizers" else config.study.optimizer
            model = config.model if kind == "optimizers" else _with_norm(config.model, name)
            own_batch = config.study.full_batch if full_batch(optimizer) else batch_size
            rows.append(Candidate(name, model, optimizer, own_batch, batch_size))
    return rows


def optimizer_config(candidate: Candidate, config: StudyConfig, *, factor: float, steps: int) -> OptimizerConfig:
    """Configure the optimiser of one run: its learning rate is `factor` times the middle of the grid.

    Raises:
        ConfigError: a key that the optimiser does not have.
    """
    keys = config.optimizers.get(candidate.optimizer, {})
    middle = validated(OptimizerConfig, keys | {"name": candidate.optimizer}).lr
    warmup = 0 if candidate.optimizer == "lbfgs" else round(config.study.warmup_share * steps)
    return validated(
        OptimizerConfig,
        {"warmup": warmup} | keys | {"name": candidate.optimizer, "lr": middle * factor, "ema_decay": 0.0},
    )


def _with_norm(model: UnetConfig, name: str) -> UnetConfig:
    return model.model_copy(update={"normalization": name})


def _check_name(what: str, name: str, valid: Sequence[str]) -> None:
    if name not in valid:
        raise ConfigError(f"unknown {what} {name!r}{did_you_mean(name, valid)}: expected one of {', '.join(valid)}")
