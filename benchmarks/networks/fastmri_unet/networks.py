"""The networks that are compared, each behind the same door: `(1, 2, h, w)` to `(1, 2, h, w)`, y = x + N(x)."""

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

from mri_recon.models import Unet, UnetConfig

REFERENCE = "fastmri"


@dataclass(frozen=True)
class Contender:
    """A network by name: what it is, and how to make it."""

    text: str
    make: Callable[[], nn.Module]


class Residual(nn.Module):
    """y = x + N(x): the residual connection that our U-Net has inside, around a network that has none."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        correction: Tensor = self.network(x)
        return x + correction


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
    network = fastmri_module().Unet(in_chans=2, out_chans=2, chans=32, num_pool_layers=4)
    head = network.up_conv[-1][-1]
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return Residual(network)


def _ours(**config: int | str) -> Callable[[], nn.Module]:
    return lambda: Unet(UnetConfig.model_validate(config))


CONTENDERS: dict[str, Contender] = {
    REFERENCE: Contender("fastMRI's U-Net, 32 channels, 4 poolings, instance norm", fastmri_unet),
    "unet": Contender("ours as released: 32 channels, 4 poolings, group norm", _ours()),
    "unet-patch2": Contender(
        "ours on 2x2 patches: 64 channels, 3 poolings, group norm", _ours(patch=2, chans=64, num_pool_layers=3)
    ),
    "unet-patch2-instance": Contender(
        "the same with instance norm, as fastMRI's has it",
        _ours(patch=2, chans=64, num_pool_layers=3, normalization="instance"),
    ),
    "unet-patch2-deep": Contender(
        "ours on 2x2 patches: 32 channels, 4 poolings, group norm", _ours(patch=2, chans=32, num_pool_layers=4)
    ),
    "unet-patch2-deep-instance": Contender(
        "the same with instance norm",
        _ours(patch=2, chans=32, num_pool_layers=4, normalization="instance"),
    ),
    "unet-patch2-small": Contender(
        "ours on 2x2 patches: 32 channels, 3 poolings, group norm", _ours(patch=2, chans=32, num_pool_layers=3)
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


def num_parameters(network: nn.Module) -> int:
    """Learned numbers of a network."""
    return sum(p.numel() for p in network.parameters())
