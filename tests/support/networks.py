"""Tiny networks with random weights that do something, and their checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from mri_recon.models import Cascade, CascadeConfig, Measurement, Unet, UnetConfig, Unrolled, UnrolledConfig, measure
from mri_recon.models.checkpoint import ModelCard, save_checkpoint
from mri_recon.models.training_range import Envelope
from mri_recon.operators.sense import SenseOperator
from tests.support.helpers import column_lines, complex_randn, smooth_maps


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


def measured_noise(
    shape: tuple[int, ...], *, acceleration: int = 3, sigma: float = 0.05, dtype: torch.dtype = torch.complex128
) -> tuple[SenseOperator, Measurement, Tensor]:
    """The operator of smooth maps and a mask of columns, the measurement of a random image, and its k-space."""
    slices, coils, h, w = shape
    maps = smooth_maps(coils, h, w).expand(shape).to(dtype)
    mask = torch.from_numpy(column_lines(w, acceleration))
    operator = SenseOperator(mask, maps)
    kspace = operator.forward(complex_randn(slices, h, w, dtype=dtype))
    level = torch.full((slices, 1, 1), sigma, dtype=maps.real.dtype)
    return operator, measure(kspace, mask, maps, level), kspace


def dense_gram(operator: SenseOperator, shape: tuple[int, ...]) -> Tensor:
    """The matrices A^H A, complex `(slice, h w, h w)`."""
    slices, _, h, w = shape
    basis = torch.eye(h * w, dtype=torch.complex128).reshape(h * w, 1, h, w).expand(-1, slices, -1, -1)
    return torch.stack([operator.gram(one) for one in basis], dim=-1).reshape(slices, h * w, h * w)
