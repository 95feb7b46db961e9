from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mri_recon.errors import CheckpointError, MaskError, MethodError
from mri_recon.masks.convert import as_mask, undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import PatternMask
from mri_recon.methods.networks import unet, unrolled
from mri_recon.models import Measurement, measure
from mri_recon.models.inference import apply_network, image_scale, network_measurement, run_network, wrap_margin
from mri_recon.models.training_range import Envelope
from mri_recon.operators.sense import SenseOperator
from mri_recon.reconstruction import reconstruct
from mri_recon.transforms.fourier import fft2c, ifft2c
from tests.support.helpers import complex_randn, phantom, smooth_maps
from tests.support.networks import tiny_network, tiny_weights

CPU = torch.device("cpu")
METHODS: dict[str, Callable[..., tuple[Tensor, dict[str, Any]]]] = {"unet": unet, "unrolled": unrolled}


def _kspace(*shape: int, seed: int = 0) -> Tensor:
    return fft2c(complex_randn(*shape, seed=seed, dtype=torch.complex64))


def _object(slices: int, coils: int, h: int, w: int) -> Tensor:
    """k-space of discs seen by smooth coils, with noise: there is one right answer to what the maps are."""
    images = smooth_maps(coils, h, w) * phantom(h, w) + 0.01 * complex_randn(slices, coils, h, w)
    return fft2c(images).to(torch.complex64)


def _measurement(image: Tensor) -> Measurement:
    """Every other column of an image's k-space, by one coil."""
    mask = torch.arange(image.shape[-1]) % 2 == 0
    kspace = fft2c(image)[:, None] * mask
    return measure(kspace, mask, torch.ones_like(kspace))


@pytest.fixture(params=["unet", "unrolled"])
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def weights(architecture: str, tmp_path: Path) -> str:
    return tiny_weights(architecture, tmp_path, envelope=Envelope(acceleration=(2, 10), num_coils=(1, 4), anatomy="n"))


def test_scale_is_the_percentile_of_each_slice() -> None:
    image = torch.view_as_complex(torch.randn(3, 11, 9, 2))
    expected = np.percentile(image.abs().flatten(1).numpy(), 99, axis=1, method="inverted_cdf")
    np.testing.assert_allclose(image_scale(image)[:, 0, 0].numpy(), expected, rtol=1e-6)


def test_scale_of_an_empty_slice_and_of_a_single_bright_pixel() -> None:
    image = torch.zeros(2, 20, 20, dtype=torch.complex64)
    image[1, 3, 4] = 7j
    torch.testing.assert_close(image_scale(image).flatten(), torch.tensor([1.0, 7.0]))


def test_the_zero_filled_image_of_one_coil() -> None:
    mask = random_mask(20, 2, num_low_frequencies=4, seed=1)
    masked = undersample(_kspace(2, 1, 15, 20), mask)
    measurement, phase = network_measurement(masked, mask)
    torch.testing.assert_close(measurement.adjoint() * phase, ifft2c(masked)[:, 0])
    torch.testing.assert_close(phase.abs(), torch.ones_like(phase.real))
    torch.testing.assert_close(measurement.maps[:, 0], phase)


def test_known_maps_are_used() -> None:
    mask = random_mask(20, 2, num_low_frequencies=4, seed=1)
    masked = undersample(_kspace(1, 3, 15, 20), mask)
    maps = torch.full_like(masked, 3**-0.5)
    measurement, phase = network_measurement(masked, mask, maps)
    torch.testing.assert_close(measurement.adjoint() * phase, ifft2c(masked).sum(1) * 3**-0.5)
    torch.testing.assert_close(measurement.maps, maps * phase[:, None])


def test_estimated_maps_have_no_hole() -> None:
    mask = random_mask(24, 2, num_low_frequencies=8, seed=1)
    measurement, _ = network_measurement(undersample(_kspace(2, 3, 15, 24), mask), mask)
    torch.testing.assert_close(measurement.maps.abs().square().sum(1), torch.ones(2, 15, 24))


def test_the_smooth_phase_is_taken_out() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 40), indexing="ij")
    image = torch.polar(torch.exp(-4 * (y**2 + x**2)), 1.5 * x - y + 2)
    measurement, _ = network_measurement(fft2c(image)[None, None], random_mask(40, 1.0, num_low_frequencies=16, seed=0))
    answer = measurement.adjoint()
    assert answer.imag.norm() < 0.1 * answer.norm()
    assert image.imag.norm() > 0.3 * image.norm()


def test_no_dense_centre() -> None:
    lines = np.zeros(20, dtype=bool)
    lines[[2, 15]] = True
    with pytest.raises(MaskError, match="centre"):
        network_measurement(_kspace(1, 1, 15, 20) * torch.from_numpy(lines), as_mask(lines, (15, 20)))


@pytest.mark.parametrize("shape", [(1, 1, 15, 20), (2, 3, 16, 21)])
@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_units_do_not_matter(architecture: str, weights: str, shape: tuple[int, ...], factor: float) -> None:
    mask = random_mask(shape[-1], 2, num_low_frequencies=4, seed=1)
    masked = undersample(_object(*shape), mask)
    image, _ = METHODS[architecture](masked, mask, device=CPU, model=weights)
    scaled, _ = METHODS[architecture](factor * masked, mask, device=CPU, model=weights)
    assert (scaled / factor - image).norm() < 1e-4 * image.norm()


def test_slices_do_not_see_each_other(architecture: str, weights: str) -> None:
    mask = random_mask(21, 2, num_low_frequencies=4, seed=1)
    masked = undersample(_kspace(3, 1, 16, 21), mask)
    image, _ = METHODS[architecture](masked, mask, device=CPU, model=weights)
    alone, _ = METHODS[architecture](masked[1:2], mask, device=CPU, model=weights)
    assert torch.equal(alone[0], image[1])


def test_another_input_gives_another_output_and_the_network_matters(architecture: str, weights: str) -> None:
    mask = random_mask(21, 2, num_low_frequencies=4, seed=1)
    masks = [undersample(_kspace(1, 1, 16, 21, seed=seed), mask) for seed in (0, 1)]
    images = [METHODS[architecture](masked, mask, device=CPU, model=weights)[0] for masked in masks]
    assert (images[0] - images[1]).norm() > 0.1 * images[0].norm()
    assert (images[0] - ifft2c(masks[0])[:, 0]).norm() > 0.01 * images[0].norm()


def test_result_belongs_to_the_caller(architecture: str, weights: str) -> None:
    mask = random_mask(21, 2, num_low_frequencies=4, seed=1)
    image, _ = METHODS[architecture](undersample(_kspace(1, 1, 16, 21), mask), mask, device=CPU, model=weights)
    assert not image.is_inference()
    image += 1  # an inference tensor would refuse this


def test_info_names_the_model(architecture: str, weights: str) -> None:
    mask = random_mask(40, 4, num_low_frequencies=4, seed=1)
    info = reconstruct(undersample(_kspace(1, 3, 16, 40), mask), mask, method=architecture, model=weights).info
    assert info["model"] == "tiny"
    assert len(info["model_sha256"]) == 64
    assert info["data_consistency"] == "weighted"
    assert info["parameters"] == sum(p.numel() for p in tiny_network(architecture).parameters())
    assert info["warnings"] == []


def test_what_is_outside_the_training_is_reconstructed_with_a_warning(architecture: str, tmp_path: Path) -> None:
    envelope = Envelope(acceleration=(2, 10), num_coils=(1, 4), anatomy="noise", snr=(8, 400))
    model = tiny_weights(architecture, tmp_path, envelope=envelope)

    def warnings(mask: Any, coils: int, sigma: float) -> list[str]:
        maps = smooth_maps(coils, 24, 40)
        kspace = fft2c(maps * phantom(24, 40) + sigma * complex_randn(coils, 24, 40))[None].to(torch.complex64)
        result = reconstruct(undersample(kspace, mask), mask, method=architecture, model=model)
        assert torch.isfinite(result.magnitude).all()
        assert result.image.shape == (1, 24, 40)
        found: list[str] = result.info["warnings"]
        return found

    columns = random_mask(40, 4, num_low_frequencies=6, seed=1)
    assert warnings(columns, 3, 0.01) == []
    sparse = random_mask(40, 13, num_low_frequencies=2, seed=1)
    assert warnings(sparse, 1, 0.01) == ["acceleration 13.33 is outside the training range 2 to 10"]
    assert warnings(columns, 6, 0.01) == ["6 coils are outside the training range 1 to 4"]
    pattern = np.random.default_rng(0).random((24, 40)) < 0.3
    pattern[8:16, 15:25] = True
    assert warnings(PatternMask(pattern), 2, 0.01) == [
        "a two-dimensional sampling pattern is outside the training (columns: dense centre, the rest at random)"
    ]
    (noise,) = warnings(columns, 1, 1.0)
    assert noise.startswith("signal-to-noise ratio ")
    assert noise.endswith(" is outside the training range 8 and more")
    assert len(warnings(sparse, 6, 1.0)) == 3


def test_no_noise_at_all_is_not_low_signal(architecture: str, tmp_path: Path) -> None:
    envelope = Envelope(acceleration=(2, 10), num_coils=(1, 4), anatomy="noise", snr=(8, 400))
    mask = random_mask(40, 4, num_low_frequencies=6, seed=1)
    kspace = torch.zeros(1, 1, 24, 40, dtype=torch.complex64)
    kspace[..., 12, 20] = 1  # no sample but the centre
    model = tiny_weights(architecture, tmp_path, envelope=envelope)
    assert reconstruct(kspace, mask, method=architecture, model=model).info["warnings"] == []


def test_apply_network_scales_and_undoes_it() -> None:
    measurement = _measurement(1e4 * complex_randn(2, 9, 8, dtype=torch.complex64))
    seen = list[Tensor]()
    network = nn.Identity()
    network.register_forward_pre_hook(lambda _, inputs: seen.append(torch.complex(*inputs[0].unbind(1))))
    torch.testing.assert_close(apply_network(network, measurement), measurement.adjoint())
    torch.testing.assert_close(torch.cat([image_scale(image) for image in seen]), torch.ones(2, 1, 1))


@pytest.mark.parametrize("num_coils", [1, 3])
def test_a_unet_is_followed_by_one_step_of_data_consistency(num_coils: int) -> None:
    """x = u - A^H (A u - y), by the library's own operator."""
    maps = smooth_maps(num_coils, 15, 20)[None]
    mask = random_mask(20, 3, num_low_frequencies=4, seed=2).tensor()
    operator = SenseOperator(mask, maps)
    kspace = operator.forward(complex_randn(1, 15, 20))
    network = tiny_network("unet").double()
    with torch.no_grad():
        image = run_network(network, measure(kspace, mask, maps))
        zero_filled = operator.adjoint(kspace)
        out = network(torch.view_as_real(zero_filled).movedim(-1, 1))
    answer = torch.complex(out[:, 0], out[:, 1])
    expected = answer - operator.adjoint(operator.forward(answer) - kspace)
    torch.testing.assert_close(image, expected, rtol=1e-12, atol=1e-12)
    if num_coils == 1:
        torch.testing.assert_close(operator.forward(image), kspace, rtol=1e-12, atol=1e-12)


def test_run_network_with_an_unrolled_network_is_the_network() -> None:
    network = tiny_network("unrolled")
    measurement = _measurement(complex_randn(2, 9, 14, dtype=torch.complex64))
    with torch.no_grad():
        assert torch.equal(run_network(network, measurement, 3), network(measurement, 3))


def test_exact_data_consistency_is_an_option(architecture: str, weights: str) -> None:
    mask = random_mask(20, 2, num_low_frequencies=4, seed=1)
    masked = undersample(_kspace(2, 1, 15, 20), mask)
    result = reconstruct(masked, mask, method=architecture, model=weights, data_consistency="exact")
    assert result.info["data_consistency"] == "exact"
    samples = undersample(fft2c(result.image)[:, None], mask)
    torch.testing.assert_close(samples, masked, rtol=1e-4, atol=1e-4)


def test_weighted_data_consistency_is_the_default_and_for_several_coils(architecture: str, weights: str) -> None:
    mask = random_mask(40, 3, num_low_frequencies=8, seed=1)

    def images(coils: int) -> list[Tensor]:
        maps = smooth_maps(coils, 24, 40)
        kspace = fft2c(maps * phantom(24, 40) + 1e-3 * complex_randn(coils, 24, 40))[None].to(torch.complex64)
        masked = undersample(kspace, mask)
        options = [{}, {"data_consistency": "weighted"}, {"data_consistency": "learned"}]
        return [reconstruct(masked, mask, method=architecture, model=weights, **one).image for one in options]

    default, weighted, learned = images(1)
    assert torch.equal(default, weighted)
    assert torch.equal(weighted, learned)
    default, weighted, learned = images(4)
    assert torch.equal(default, weighted)
    assert (weighted - learned).norm() > 1e-3 * learned.norm()


def test_unknown_data_consistency(architecture: str, weights: str) -> None:
    kspace, mask = _kspace(1, 1, 8, 8), random_mask(8, 2, num_low_frequencies=2)
    with pytest.raises(
        MethodError, match="expected data_consistency to be one of weighted, learned, exact, got 'hard'"
    ):
        METHODS[architecture](undersample(kspace, mask), mask, device=CPU, model=weights, data_consistency="hard")


def test_weights_of_the_other_architecture(architecture: str, weights: str) -> None:
    kspace, mask = _kspace(1, 1, 8, 8), random_mask(8, 2, num_low_frequencies=2)
    other = "unet" if architecture == "unrolled" else "unrolled"
    with pytest.raises(MethodError, match=f"expected weights of {other}, got those of {architecture}"):
        METHODS[other](undersample(kspace, mask), mask, device=CPU, model=weights)


def test_unknown_model(architecture: str) -> None:
    kspace, mask = _kspace(1, 1, 8, 8), random_mask(8, 2, num_low_frequencies=2)
    with pytest.raises(CheckpointError, match="unknown model 'nosuch'"):
        METHODS[architecture](undersample(kspace, mask), mask, device=CPU, model="nosuch")


@pytest.mark.parametrize("acceleration", [2, 6, 12])
@pytest.mark.parametrize("shape", [(1, 1, 17, 50), (1, 32, 24, 49), (2, 5, 31, 64)])
def test_one_set_of_weights_for_every_size_coil_count_and_acceleration(
    architecture: str, weights: str, shape: tuple[int, ...], acceleration: float
) -> None:
    mask = random_mask(shape[-1], acceleration, num_low_frequencies=4, seed=1)
    masked = undersample(_kspace(*shape), mask)
    image = reconstruct(masked, mask, method=architecture, model=weights).image
    assert image.shape == (shape[0], *shape[2:])
    assert torch.isfinite(image.abs()).all()


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
    image = complex_randn(1, 12, 40, dtype=torch.complex64)  # bright up to its edges
    here, there = _measurement(image), _measurement(image.roll(13, -1))
    with torch.no_grad():
        torch.testing.assert_close(
            apply_network(network, there).roll(-13, -1), apply_network(network, here), atol=1e-5, rtol=1e-5
        )
        without = run_network(network, there, 0).roll(-13, -1) - run_network(network, here, 0)
    assert without.abs().max() > 0.1


@pytest.mark.parametrize("method", ["unet", "unrolled"])
def test_given_maps_of_another_norm_give_the_image_over_it(method: str, tmp_path: Path) -> None:
    model = tiny_weights(method, tmp_path)
    kspace, mask = _kspace(1, 3, 16, 21), random_mask(21, 2, num_low_frequencies=4, seed=1)
    maps = _kspace(1, 3, 16, 21, seed=5)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    masked = undersample(kspace, mask)
    expected = reconstruct(masked, mask, method=method, sens_maps=maps, model=model).image
    halved = reconstruct(masked, mask, method=method, sens_maps=0.5 * maps, model=model).image
    torch.testing.assert_close(halved, 2 * expected, rtol=1e-4, atol=1e-5)
    maps[..., :5] = 0  # outside the object
    assert reconstruct(masked, mask, method=method, sens_maps=maps, model=model).image[..., :5].abs().max() == 0


@pytest.mark.parametrize("factor", [1e-20, 1e12])
def test_exact_data_consistency_does_not_depend_on_units(factor: float, tmp_path: Path) -> None:
    model = tiny_weights("unrolled", tmp_path)
    mask = random_mask(21, 2, num_low_frequencies=4, seed=1)
    maps = smooth_maps(3, 16, 21)[None]
    masked = undersample(fft2c(maps * phantom(16, 21)), mask)
    options: dict[str, Any] = {"method": "unrolled", "model": model, "data_consistency": "exact", "sens_maps": maps}
    image = reconstruct(masked, mask, **options).image
    scaled = reconstruct(factor * masked, mask, **options).image / factor
    assert (scaled - image).norm() < 1e-3 * image.norm()


def test_an_empty_slice_does_not_hide_the_noise_of_another(tmp_path: Path) -> None:
    envelope = Envelope(acceleration=(2, 12), num_coils=(1, 32), anatomy="noise", snr=(1e3, 1e4))
    model = tiny_weights("unrolled", tmp_path, envelope=envelope)
    mask = random_mask(64, 2, num_low_frequencies=8, seed=1)
    noise = undersample(_kspace(1, 1, 48, 64), mask)
    alone = reconstruct(noise, mask, method="unrolled", model=model).info["warnings"]
    both = reconstruct(torch.cat([noise, 0 * noise]), mask, method="unrolled", model=model).info["warnings"]
    assert any("signal-to-noise" in one for one in alone)
    assert [one for one in both if "hold no data" not in one] == alone
