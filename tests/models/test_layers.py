from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from mri_recon.errors import ConfigError
from mri_recon.models import Unet, UnetConfig
from mri_recon.models.layers import normalization

SHAPE = (3, 12, 5, 7)


def _maps(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.arange(1, 13)[:, None, None] * torch.tensor([1.0, 4.0, 0.5])[:, None, None, None]
    return (torch.randn(SHAPE, generator=generator, dtype=torch.float64) + 2) * scale


def _layer(name: str, **keys: Any) -> nn.Module:
    """With a scale and a shift of their own in every channel."""
    layer = normalization(name, 12, **keys).double()
    if name != "none":
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(0.5, 2, 12, dtype=torch.float64))
            layer.bias.copy_(torch.linspace(-1, 1, 12, dtype=torch.float64))
    return layer


def _affine(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return x * np.linspace(0.5, 2, 12)[:, None, None] + np.linspace(-1, 1, 12)[:, None, None]


@pytest.mark.parametrize(
    ("name", "keys", "groups"),
    [
        ("group", {}, 1),  # 12 channels are fewer than 32
        ("group", {"channels_per_group": 4}, 3),
        ("group", {"channels_per_group": 6}, 2),
        ("group", {"num_groups": 6}, 6),
        ("group", {"num_groups": 4, "channels_per_group": 32}, 4),
        ("group", {"num_groups": 32}, 12),  # no more groups than channels
        ("layer", {}, 1),
        ("instance", {}, 12),
    ],
)
def test_groups_of_one_image_against_the_formula(name: str, keys: dict[str, Any], groups: int) -> None:
    maps = _maps()
    x = maps.numpy()
    expected = np.empty_like(x)
    size = 12 // groups
    for image in range(3):
        for first in range(0, 12, size):
            part = x[image, first : first + size]
            expected[image, first : first + size] = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
    layer = _layer(name, **keys)
    np.testing.assert_allclose(layer(maps).detach().numpy(), _affine(expected), rtol=0, atol=1e-12)
    np.testing.assert_allclose(layer.eval()(maps).detach().numpy(), _affine(expected), rtol=0, atol=1e-12)


def test_thirty_two_channels_a_group_by_default() -> None:
    layer = normalization("group", 128)
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == 4


def test_batch_norm_in_training_and_in_evaluation_against_the_formula() -> None:
    layer = _layer("batch")
    running_mean, running_var = np.zeros(12), np.ones(12)
    for seed in range(4):
        maps = _maps(seed)
        x = maps.numpy()
        mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
        expected = (x - mean[:, None, None]) / np.sqrt(var[:, None, None] + 1e-5)
        np.testing.assert_allclose(layer(maps).detach().numpy(), _affine(expected), rtol=0, atol=1e-12)
        count = 3 * 5 * 7
        running_mean = 0.9 * running_mean + 0.1 * mean
        running_var = 0.9 * running_var + 0.1 * var * count / (count - 1)
    layer.eval()
    maps = _maps(9)
    x = maps.numpy()
    expected = (x - running_mean[:, None, None]) / np.sqrt(running_var[:, None, None] + 1e-5)
    whole = layer(maps).detach()
    np.testing.assert_allclose(whole.numpy(), _affine(expected), rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.cat([layer(part) for part in maps.split(1)]), whole)


def test_none_changes_nothing() -> None:
    maps = _maps()
    assert torch.equal(_layer("none")(maps), maps)


@pytest.mark.parametrize(
    ("name", "depends"), [("batch", True), ("group", False), ("layer", False), ("instance", False)]
)
def test_only_batch_norm_mixes_images(name: str, depends: bool) -> None:
    layer, maps = _layer(name), _maps()
    alone = layer(maps[:1])
    assert torch.allclose(layer(maps)[:1], alone) is not depends


def test_groups_that_do_not_divide() -> None:
    with pytest.raises(ConfigError, match="expected num_groups to divide 12 channels, got 5: choose a divisor"):
        normalization("group", 12, num_groups=5)
    with pytest.raises(ConfigError, match="expected channels_per_group to divide 12 channels, got 5"):
        normalization("group", 12, channels_per_group=5)
    with pytest.raises(ConfigError, match="expected num_groups to divide 12 channels, got -1"):
        normalization("group", 12, num_groups=-1)
    with pytest.raises(
        ConfigError, match="unknown normalization 'bach' .*'batch'.*: expected one of group, batch, layer"
    ):
        normalization("bach", 12)


def test_a_network_by_number_of_groups() -> None:
    network = Unet(UnetConfig(chans=4, num_pool_layers=2, num_groups=2))
    layers = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert {layer.num_groups for layer in layers} == {2}
    assert {layer.num_channels for layer in layers} == {4, 8, 16}
    assert network(torch.randn(1, 2, 9, 13)).shape == (1, 2, 9, 13)
