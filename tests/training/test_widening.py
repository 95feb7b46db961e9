"""A wide network that starts from a narrower one computes the same and can learn more."""

from typing import Any

import pytest
import torch

from mri_recon.models import Unet, UnetConfig
from mri_recon.models.checkpoint import build_network
from mri_recon_training.widening import widened

NARROW = {"in_chans": 3, "out_chans": 2, "chans": 2, "num_pool_layers": 3, "normalization": "instance"}


def _random(seed: int, **config: Any) -> Unet:
    torch.manual_seed(seed)
    network = Unet(UnetConfig(**config))
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return network


@pytest.mark.parametrize("normalization", ["instance", "batch", "none"])
@pytest.mark.parametrize(
    "wider", [{"least_chans": 5}, {"least_chans": 8}, {"chans": 3}, {"chans": 4, "least_chans": 9}]
)
def test_the_same_function(normalization: str, wider: dict[str, int]) -> None:
    config = NARROW | {"normalization": normalization}
    narrow, wide = _random(0, **config), _random(1, **(config | wider))
    weights = widened(narrow, wide)
    assert weights is not None
    wide.load_state_dict(weights)
    x = torch.randn(2, 3, 17, 25, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(wide(x), narrow(x), rtol=1e-5, atol=1e-5)
    # The new channels learn: a gradient reaches what leads from them to the old ones.
    wide(x).square().sum().backward()
    assert wide.head.weight.grad is not None
    assert (wide.head.weight.grad[:, NARROW["chans"] :] != 0).all()


def test_widths_of_the_levels() -> None:
    assert UnetConfig(chans=2, num_pool_layers=3).widths == [2, 4, 8, 16]
    assert UnetConfig(chans=2, num_pool_layers=3, least_chans=5).widths == [5, 5, 8, 16]


def test_a_cascade() -> None:
    config = {"num_cascades": 2, "chans": 2, "num_pool_layers": 2, "patch": 1, "normalization": "instance"}
    narrow, wide = build_network("cascade", config), build_network("cascade", config | {"least_chans": 4})
    weights = widened(narrow, wide)
    assert weights is not None
    wide.load_state_dict(weights)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"chans": 1},
        {"least_chans": 5, "patch": 2},
        {"least_chans": 8, "normalization": "layer"},
        {"least_chans": 8, "num_pool_layers": 2},
    ],
)
def test_no_wider_network_of_the_same_kind(other: dict[str, Any]) -> None:
    assert widened(_random(0, **NARROW), _random(1, **(NARROW | other))) is None


def test_other_kinds() -> None:
    layer = NARROW | {"normalization": "layer"}
    assert widened(_random(0, **layer), _random(1, **(layer | {"least_chans": 8}))) is None
    assert widened(_random(0, **NARROW), build_network("cascade", {"normalization": "instance"})) is None
