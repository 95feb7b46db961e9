from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mri_recon.errors import ConfigError, ShapeError
from mri_recon.models import Unet, UnetConfig
from mri_recon.models.layers import NORMALIZATIONS, normalization


def _unet(**config: object) -> Unet:
    torch.manual_seed(0)
    network = Unet(UnetConfig(**({"chans": 4, "num_pool_layers": 2, "channels_per_group": 4} | config)))
    nn.init.normal_(network.head.weight, std=0.1)  # the zero start would hide everything behind it
    return network.eval()


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 33), width=st.integers(1, 33), batch=st.integers(1, 3))
def test_any_size_keeps_its_shape(height: int, width: int, batch: int) -> None:
    x = torch.randn(batch, 2, height, width, generator=torch.Generator().manual_seed(height * 40 + width))
    y = _unet()(x)
    assert y.shape == x.shape
    assert torch.isfinite(y).all()


def test_untrained_network_returns_its_input() -> None:
    x = torch.randn(1, 2, 17, 12)
    torch.testing.assert_close(Unet(UnetConfig(chans=4, num_pool_layers=3))(x), x)


def test_trained_network_does_not_ignore_its_input() -> None:
    network = _unet()
    x = torch.randn(1, 2, 16, 16)
    assert not torch.allclose(network(x) - x, network(2 * x.flip(-1)) - 2 * x.flip(-1), atol=1e-3)


def test_batched_equals_single() -> None:
    network, x = _unet(), torch.randn(3, 2, 21, 14)
    torch.testing.assert_close(network(x), torch.cat([network(part) for part in x.split(1)]), rtol=1e-5, atol=1e-5)


def test_has_the_number_of_parameters_of_the_published_network() -> None:
    # Counted by hand from the paper's drawing: 32 channels, 4 levels, two 3x3 convolutions a level, 2x2 up.
    plain = Unet(UnetConfig(normalization="none", in_chans=1, out_chans=1))
    convolutions = sum(p.numel() for name, p in plain.named_parameters() if name.endswith("weight"))
    widths = [32, 64, 128, 256, 512]
    expected = 9 * (1 * 32 + 32 * 32) + sum(9 * (a * b + b * b) for a, b in itertools.pairwise(widths))
    expected += sum(4 * 2 * w * w + 9 * (2 * w * w + w * w) for w in widths[:-1]) + 32
    assert convolutions == expected


@pytest.mark.parametrize("name", ["group", "layer", "instance"])
@pytest.mark.parametrize("size", [(1, 1), (3, 8), (8, 8), (9, 8)])
def test_an_image_of_one_pixel_at_the_lowest_level(name: str, size: tuple[int, int]) -> None:
    """A single image, whose lowest level has one value a channel, is that of a batch, and can be trained on."""
    torch.manual_seed(0)
    network = Unet(UnetConfig(chans=2, num_pool_layers=3, normalization=name))
    nn.init.normal_(network.head.weight)
    x = torch.randn(2, 2, *size)
    together = network(x)
    for index in range(2):
        torch.testing.assert_close(network(x[index : index + 1])[0], together[index])
    network(x[:1]).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_every_normalisation_runs(name: str) -> None:
    assert _unet(normalization=name)(torch.randn(2, 2, 9, 15)).shape == (2, 2, 9, 15)


def test_group_norm_normalises_each_group() -> None:
    layer = normalization("group", 8, channels_per_group=4)
    y = layer(torch.randn(3, 8, 5, 7) * 11 + 3).reshape(3, 2, -1)
    torch.testing.assert_close(y.mean(-1), torch.zeros(3, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(-1, unbiased=False), torch.ones(3, 2), atol=1e-3, rtol=0)


def test_fewer_channels_than_a_group_make_one_group() -> None:
    layer = normalization("group", 8, channels_per_group=32)
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == 1


def test_unknown_normalisation_lists_the_known() -> None:
    with pytest.raises(
        ConfigError, match="unknown normalization 'grop' .*'group'.*: expected one of group, batch, layer"
    ):
        normalization("grop", 8)


def test_channels_that_do_not_divide() -> None:
    with pytest.raises(ConfigError, match="expected channels_per_group to divide 8 channels, got 3"):
        normalization("group", 8, channels_per_group=3)


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 3, 8, 8)])
def test_wrong_input(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected \(batch, 2, h, w\)"):
        _unet()(torch.zeros(shape))


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 33), width=st.integers(1, 33), patch=st.integers(1, 3))
def test_patches_of_any_size_keep_the_shape(height: int, width: int, patch: int) -> None:
    x = torch.randn(1, 2, height, width, generator=torch.Generator().manual_seed(height * 40 + width))
    y = _unet(patch=patch)(x)
    assert y.shape == x.shape
    assert torch.isfinite(y).all()
    torch.testing.assert_close(Unet(UnetConfig(chans=4, num_pool_layers=1, patch=patch))(x), x)


def test_a_patch_is_a_network_on_the_unshuffled_image() -> None:
    """The network of patch p is that of patch 1 with p^2 times the channels at both doors, run on folded pixels."""
    folded, plain = _unet(patch=2), _unet(in_chans=8, out_chans=8)
    plain.load_state_dict(folded.state_dict())
    x = torch.randn(2, 2, 16, 24)
    pixels = torch.cat([x[:, c : c + 1, i::2, j::2] for c in range(2) for i in range(2) for j in range(2)], dim=1)
    y = plain(pixels)
    expected = torch.empty_like(x)
    for number, (c, i, j) in enumerate(itertools.product(range(2), repeat=3)):
        expected[:, c, i::2, j::2] = y[:, number]
    torch.testing.assert_close(folded(x), expected)


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_a_patch_costs_weights_at_the_doors_only(patch: int) -> None:
    count = sum(p.numel() for p in _unet(patch=patch).parameters())
    without = sum(p.numel() for p in _unet(patch=1).parameters())
    more = patch**2 - 1
    assert count - without == more * (2 * 4 * 9) + more * 2 * (4 + 1)  # 3x3 convolution in; 1x1 with its bias out


def test_patch_of_one_is_the_plain_network() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 13, 10)
    assert torch.equal(_unet(patch=1)(x), _unet()(x))
    assert UnetConfig().patch == 1
