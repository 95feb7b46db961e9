"""The networks that are compared, each as the one refinement of the same cascade.

A refinement maps `(batch, 5, h, w)` to `(batch, 2, h, w)`: its output is its first two channels, the image, plus N of
all five (`models.cascade`). N is zero at the start.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

import mri_recon_training
from mri_recon.models import Cascade, CascadeConfig, Unet
from mri_recon.models.cascade import IN_CHANS
from mri_recon_training.config import load_config

REFERENCE = "fastmri"

RELEASED = Path(mri_recon_training.__file__).parent / "configs" / "unet.toml"
"""The configuration of the released U-Net: its network, examples, loss and optimiser."""


@dataclass(frozen=True)
class Contender:
    """A network by name: what it is, and how to make it."""

    text: str
    make: Callable[[], nn.Module]


class Residual(nn.Module):
    """Add N(x) to the image in the first two channels of x, as our U-Net does, around a network that does not."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        correction: Tensor = self.network(x)
        return x[:, :2] + correction


def fastmri_module() -> ModuleType:
    """The module `fastmri.models.unet`, read from its file.

    It needs torch only; `import fastmri` would ask for pandas, PyTorch Lightning and more, so that
    `pip install --no-deps fastmri` is enough here.

    Raises:
        ModuleNotFoundError: fastmri is not installed.
    """
    name = "_fastmri_unet"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("fastmri")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("expected the package fastmri, found none: pip install --no-deps fastmri")
    spec = importlib.util.spec_from_file_location(name, Path(package.origin).parent / "models" / "unet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def fastmri_version() -> str:
    """Version of the installed fastmri."""
    return version("fastmri")


def fastmri_unet() -> nn.Module:
    """fastMRI's U-Net of 32 channels and 4 poolings with our residual connection and our start at zero.

    Both favour it: without them its first steps go into learning the identity.
    """
    network = fastmri_module().Unet(in_chans=IN_CHANS, out_chans=2, chans=32, num_pool_layers=4)
    head = network.up_conv[-1][-1]
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return Residual(network)


def released_config() -> CascadeConfig:
    """The cascade of one refinement that is released as `unet`."""
    return CascadeConfig.model_validate(load_config(RELEASED).model.model_dump(exclude={"architecture"}))


def released_unet() -> nn.Module:
    """The refinement of the released U-Net."""
    return Unet(released_config().refinement(IN_CHANS))


CONTENDERS: dict[str, Contender] = {
    REFERENCE: Contender("fastMRI's U-Net: 32 channels, 4 poolings, instance norm", fastmri_unet),
    "unet": Contender(
        "ours as configured: 16 channels, but 32 at the finest level, 5 poolings, instance norm", released_unet
    ),
}


def contender(name: str) -> Contender:
    """A contender by name.

    Raises:
        ValueError: unknown name; the message lists the known.
    """
    if name not in CONTENDERS:
        raise ValueError(f"unknown network {name!r}: expected one of {', '.join(CONTENDERS)}")
    return CONTENDERS[name]


def build(name: str, seed: int = 0) -> nn.Module:
    """The contender called `name`, its weights drawn from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return contender(name).make()


def cascade(name: str, seed: int = 0) -> Cascade:
    """The released cascade with the contender called `name` for its refinement: the same CG-SENSE image before it, and
    the same step of data consistency after it.
    """
    network = Cascade(released_config())
    network.refinements[0] = build(name, seed)
    return network


def num_parameters(network: nn.Module) -> int:
    """Learned numbers of a network."""
    return sum(p.numel() for p in network.parameters())
