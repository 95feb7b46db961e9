"""Optimisers by name, and how the learning rate goes over a run."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.optim import Optimizer

__all__ = ["OptimizerConfig", "build_optimizer", "learning_rate_factor"]


class OptimizerConfig(BaseModel):
    """Adam with warm-up, cosine decay, gradient clipping and an average of the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lr: float = Field(default=5e-4, gt=0, description="peak learning rate")
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="decay of the first and second moment")
    eps: float = Field(default=1e-8, gt=0, description="added to the root of the second moment")
    warmup: int = Field(default=500, ge=0, description="steps of linear warm-up")
    final_lr: float = Field(default=0.01, ge=0, le=1, description="last learning rate over the peak")
    clip: float = Field(default=1.0, gt=0, description="largest gradient norm")
    ema_decay: float = Field(default=0.999, ge=0, lt=1, description="decay of the weight average; 0: none")


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """The optimiser that a configuration names."""
    return torch.optim.Adam(parameters, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then half a cosine: f = min(1, (s+1)/w) (f_end + (1 - f_end)(1 + cos(pi s/S))/2)."""
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return warm * (config.final_lr + (1 - config.final_lr) * cosine)
