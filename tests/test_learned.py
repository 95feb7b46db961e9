from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mri_recon.checkpoint import Envelope, ModelCard, save_checkpoint
from mri_recon.errors import CheckpointError
from mri_recon.fourier import fft2c, ifft2c
from mri_recon.learned import apply_network, image_scale, network_input, unet, wrap_margin
from mri_recon.masks import random_mask, undersample
from mri_recon.models import Unet, UnetConfig

CPU = torch.device("cpu")


def _kspace(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(*shape, 2, generator=generator)
    return fft2c(torch.view_as_complex(image))


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(0)
    network = Unet(UnetConfig(chans=4, num_pool_layers=2))
    nn.init.normal_(network.head.weight, std=0.2)
    card = ModelCard(
        name="tiny",
        architecture="unet",
        config=network.config.model_dump(),
        description="a test",
        envelope=Envelope(acceleration=(2, 10), num_coils=(1, 4), anatomy="noise"),
        data=[],
        training={},
        loss_curve=[],
    )
    save_checkpoint(tmp_path / "tiny.safetensors", network, card)
    return str(tmp_path / "tiny.safetensors")


def test_scale_is_the_percentile_of_each_slice() -> None:
    image = torch.view_as_complex(torch.randn(3, 11, 9, 2))
    expected = np.percentile(image.abs().flatten(1).numpy(), 99, axis=1, method="inverted_cdf")
    np.testing.assert_allclose(image_scale(image)[:, 0, 0].numpy(), expected, rtol=1e-6)


def test_scale_of_an_empty_slice_and_of_a_single_bright_pixel() -> None:
    image = torch.zeros(2, 20, 20, dtype=torch.complex64)
    image[1, 3, 4] = 7j
    torch.testing.assert_close(image_scale(image).flatten(), torch.tensor([1.0, 7.0]))


def test_one_coil_input_is_the_zero_filled_image() -> None:
    kspace = _kspace(2, 1, 15, 20)
    mask = random_mask(20, 2, num_low_frequencies=4, seed=1)
    masked = undersample(kspace, mask)
    image, phase = network_input(masked, mask)
    torch.testing.assert_close(image * phase, ifft2c(masked)[:, 0])
    torch.testing.assert_close(phase.abs(), torch.ones_like(phase.real))


def test_known_maps_are_used() -> None:
    kspace, mask = _kspace(1, 3, 15, 20), random_mask(20, 2, num_low_frequencies=4, seed=1)
    maps = torch.full_like(kspace, 3**-0.5)
    expected = ifft2c(undersample(kspace, mask)).sum(1) * 3**-0.5
    image, phase = network_input(undersample(kspace, mask), mask, maps)
    torch.testing.assert_close(image * phase, expected)


@pytest.mark.parametrize("shape", [(1, 1, 15, 20), (2, 3, 16, 21)])
@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_units_do_not_matter(weights: str, shape: tuple[int, ...], factor: float) -> None:
    mask = random_mask(shape[-1], 2, num_low_frequencies=4, seed=1)
    masked = undersample(_kspace(*shape), mask)
    image, _ = unet(masked, mask, device=CPU, model=weights)
    scaled, _ = unet(factor * masked, mask, device=CPU, model=weights)
    assert (scaled / factor - image).norm() < 1e-5 * image.norm()


def test_slices_do_not_see_each_other(weights: str) -> None:
    mask = random_mask(21, 2, num_low_frequencies=4, seed=1)
    masked = undersample(_kspace(3, 1, 16, 21), mask)
    image, _ = unet(masked, mask, device=CPU, model=weights)
    alone, _ = unet(masked[1:2], mask, device=CPU, model=weights)
    assert torch.equal(alone[0], image[1])


def test_another_input_gives_another_output_and_the_network_matters(weights: str) -> None:
    mask = random_mask(21, 2, num_low_frequencies=4, seed=1)
    masks = [undersample(_kspace(1, 1, 16, 21, seed=seed), mask) for seed in (0, 1)]
    images = [unet(masked, mask, device=CPU, model=weights)[0] for masked in masks]
    assert (images[0] - images[1]).norm() > 0.1 * images[0].norm()
    assert (images[0] - network_input(masks[0], mask)[0]).norm() > 0.01 * images[0].norm()


def test_result_belongs_to_the_caller(weights: str) -> None:
    mask = random_mask(21, 2, num_low_frequencies=4, seed=1)
    image, _ = unet(undersample(_kspace(1, 1, 16, 21), mask), mask, device=CPU, model=weights)
    assert not image.is_inference()
    image += 1  # an inference tensor would refuse this


def test_info_names_the_model_and_what_is_outside_its_training(weights: str) -> None:
    mask = random_mask(40, 20, num_low_frequencies=2, seed=1)
    _, info = unet(undersample(_kspace(1, 5, 16, 40), mask), mask, device=CPU, model=weights)
    assert info["model"] == "tiny"
    assert len(info["model_sha256"]) == 64
    assert info["notes"] == [
        "acceleration 20.00 is outside the training range 2 to 10",
        "5 coils are outside the training range 1 to 4",
    ]


def test_apply_network_undoes_its_scale() -> None:
    image = torch.view_as_complex(torch.randn(2, 9, 7, 2)) * 1e4
    torch.testing.assert_close(apply_network(nn.Identity(), image), image)


def test_unknown_model() -> None:
    kspace, mask = _kspace(1, 1, 8, 8), random_mask(8, 2, num_low_frequencies=2)
    with pytest.raises(CheckpointError, match="unknown model 'nosuch'"):
        unet(undersample(kspace, mask), mask, device=CPU, model="nosuch")


def test_an_object_across_the_edge_is_continued_and_one_inside_is_not() -> None:
    image = torch.zeros(1, 2, 20, 50)
    image[:, 0, 4:16, 15:35] = 1
    assert wrap_margin(image) == 0
    assert wrap_margin(image.roll(25, -1)) == 32
    assert wrap_margin(torch.zeros(1, 2, 20, 50)) == 0
    assert wrap_margin(torch.ones(1, 2, 7, 9)) == 9


def test_a_network_does_not_see_the_edge_of_the_field_of_view() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(2, 2, kernel_size=5, padding=2, bias=False)
    image = torch.view_as_complex(torch.randn(1, 12, 40, 2))  # bright up to its edges
    with torch.no_grad():
        shifted = apply_network(network, image.roll(13, -1)).roll(-13, -1)
        torch.testing.assert_close(shifted, apply_network(network, image), atol=1e-5, rtol=1e-5)
