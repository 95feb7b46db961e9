"""Tiny networks with random weights that do something, and their checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import BaseModel
from torch import nn

from mri_recon.models import Cascade, CascadeConfig, Unet, UnetConfig, Unrolled, UnrolledConfig
from mri_recon.models.checkpoint import ModelCard, save_checkpoint
from mri_recon.models.training_range import Envelope


def tiny_network(
    architecture: str, *, seed: int = 0, std: float = 0.1, **config: int | float
) -> Cascade | Unet | Unrolled:
    """A network of a few hundred weights whose output convolutions, zero at first, are random too."""
    torch.manual_seed(seed)
    network: Cascade | Unet | Unrolled
    if architecture == "unet":
        network = Unet(UnetConfig.model_validate({"chans": 4, "num_pool_layers": 2} | config))
    else:
        tiny = {"chans": 4, "num_pool_layers": 1, "num_cascades": 2, "memory": 2}
        if architecture == "cascade":
            network = Cascade(CascadeConfig.model_validate(tiny | config))
        else:
            network = Unrolled(UnrolledConfig.model_validate(tiny | config))
    for module in network.modules():
        if isinstance(module, Unet):
            nn.init.normal_(module.head.weight, std=std)
    return network.eval()


def tiny_weights(architecture: str, folder: Path, *, envelope: Envelope | None = None, name: str = "tiny") -> str:
    """Path of the weights of such a network, their card beside them."""
    network = tiny_network(architecture)
    card = ModelCard(
        name=name,
        architecture=architecture,
        config=network.config.model_dump(),
        description="a test",
        envelope=envelope or Envelope(acceleration=(2, 12), num_coils=(1, 32), anatomy="noise"),
        data=[],
        training={},
        loss_curve=[],
    )
    path = folder / f"{name}-{architecture}.safetensors"
    save_checkpoint(path, network, card, dtype=torch.float32)
    return str(path)


def untrained_card(architecture: str, config: BaseModel) -> ModelCard:
    """Card of an untrained network with a configuration."""
    return ModelCard(
        name=architecture,
        architecture=architecture,
        config=config.model_dump(mode="json"),
        description="untrained, for tests",
        envelope=Envelope(acceleration=(2, 10), num_coils=(1, 8), anatomy="none"),
        data=[],
        training={},
        loss_curve=[],
    )
