"""The parts of a run that training changes: network, weight average, optimiser and learning rate."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mri_recon.errors import ConfigError
from mri_recon.models import Unet
from mri_recon.models.checkpoint import build_network, load_named
from mri_recon_training.config import TrainConfig
from mri_recon_training.optimizers import build_optimizer
from mri_recon_training.schedules import extended_factor
from mri_recon_training.widening import described, widened

__all__ = ["Learner", "compile_unets"]


@dataclass(frozen=True)
class Learner:
    """A network in training.

    Attributes:
        network: the weights that the optimiser changes.
        average: exponential moving average of these weights, which is validated and saved.
        optimizer: of the weights.
        scheduler: of the learning rate.
    """

    network: nn.Module
    average: nn.Module
    optimizer: Optimizer
    scheduler: LambdaLR

    @classmethod
    def of(cls, config: TrainConfig, device: torch.device) -> Learner:
        """Build the learner that a configuration describes, with random weights or those of `run.weights`.

        Raises:
            ConfigError: start weights of another network.
            CheckpointError: unknown or damaged start weights.
        """
        network = _network(config, device)
        average = copy.deepcopy(network).requires_grad_(False)
        optimizer = build_optimizer(network.parameters(), config.optimizer)
        steps, extended = config.run.steps, config.run.extended
        scheduler = LambdaLR(optimizer, lambda step: extended_factor(step, steps, extended, config.optimizer))
        return cls(network, average, optimizer, scheduler)

    @torch.no_grad()
    def update_average(self, step: int, decay: float) -> None:
        """Move the average towards the weights of `step`; `decay` 0 copies them.

        The memory is shorter at the start, where an average over the first weights would only delay.
        """
        decay = min(decay, (1 + step) / (10 + step)) if decay else 0.0
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        for mine, theirs in zip(self.average.buffers(), self.network.buffers(), strict=True):
            mine.copy_(theirs)


def compile_unets(network: nn.Module) -> None:
    """Compile the U-Nets of a network for any image size; the FFTs of data consistency would gain nothing."""
    for module in network.modules():
        if isinstance(module, Unet):
            module.compile(dynamic=True)


def _network(config: TrainConfig, device: torch.device) -> nn.Module:
    network = build_network(config.model.architecture, config.model.model_dump(exclude={"architecture"}))
    if config.run.weights:
        network.load_state_dict(_first_weights(config, network))
    network = network.to(device, torch.float64 if config.run.precision == "float64" else torch.float32)
    if config.run.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _first_weights(config: TrainConfig, network: nn.Module) -> dict[str, Tensor]:
    loaded = load_named(config.run.weights)
    wide = widened(loaded.network, network)
    if wide is not None:
        return wide
    if (loaded.card.architecture, described(loaded.network)) != (config.model.architecture, described(network)):
        raise ConfigError(
            f"run.weights: expected weights of the network that [model] describes, got {loaded.card.architecture} "
            f"{loaded.card.config}: make [model] equal to it, or leave it out as the configuration fine-tune does"
        )
    return loaded.network.state_dict()
