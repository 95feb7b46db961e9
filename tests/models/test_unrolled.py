from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mri_recon.models import Unrolled, UnrolledConfig, measure
from mri_recon.operators.sense import SenseOperator
from tests.support.helpers import column_lines, complex_randn
from tests.support.networks import dense_gram, measured_noise, tiny_network


def _double(**config: int) -> Unrolled:
    network = tiny_network("unrolled", **config).double()
    assert isinstance(network, Unrolled)
    return network


@pytest.mark.parametrize("num_coils", [1, 3])
def test_an_untrained_network_returns_the_zero_filled_image_of_one_coil(num_coils: int) -> None:
    """For several coils it ends on gradient steps from there: their formula."""
    operator, measurement, _ = measured_noise((2, num_coils, 17, 12))
    network = Unrolled(UnrolledConfig(chans=4, num_pool_layers=1, num_cascades=2)).double()
    x = zero_filled = measurement.adjoint()
    for _ in range(3):
        x = x - (operator.gram(x) - zero_filled)
    with torch.no_grad():
        torch.testing.assert_close(network(measurement), x, rtol=1e-12, atol=1e-12)
    if num_coils == 1:
        torch.testing.assert_close(x, zero_filled, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 17, 12), (2, 1, 16, 21)])
def test_sampled_lines_of_one_coil_are_put_back_exactly(shape: tuple[int, ...]) -> None:
    operator, measurement, kspace = measured_noise(shape)
    network = _double()
    with torch.no_grad():
        image = network(measurement)
    assert (image - measurement.adjoint()).norm() > 0.01 * image.norm()
    torch.testing.assert_close(operator.forward(image), kspace, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 4, 19, 23), (2, 3, 15, 20)])
def test_the_last_step_is_the_gradient_step_of_the_operator(shape: tuple[int, ...]) -> None:
    """x - A^H (A x - y) of what the last refinement left."""
    operator, measurement, kspace = measured_noise(shape)
    network = _double(num_cascades=1)
    left = list[Tensor]()
    network.refinements[-1].register_forward_hook(lambda *args: left.append(args[-1]))
    with torch.no_grad():
        image = network(measurement)
    x = torch.complex(left[0][:, 0], left[0][:, 1])
    expected = x - operator.adjoint(operator.forward(x) - kspace)
    torch.testing.assert_close(image, expected, rtol=1e-12, atol=1e-12)
    nn.init.constant_(network.step_lengths, 0.3)
    with torch.no_grad():
        half = network(measurement)
    x = torch.complex(left[1][:, 0], left[1][:, 1])
    expected = x - 0.3 * operator.adjoint(operator.forward(x) - kspace)
    torch.testing.assert_close(half, expected, rtol=1e-12, atol=1e-12)


def test_a_refinement_sees_image_memory_and_gradient() -> None:
    """The forward pass once more, written out with the library's operator."""
    operator, measurement, kspace = measured_noise((1, 3, 12, 14))
    network = _double(num_cascades=2, memory=3)
    nn.init.uniform_(network.step_lengths, 0.5, 1.5)
    with torch.no_grad():
        x = operator.adjoint(kspace)
        memory = torch.zeros(1, 3, 12, 14, dtype=torch.float64)
        for step, refinement in zip(network.step_lengths[:2], network.refinements, strict=True):
            gradient = operator.adjoint(operator.forward(x) - kspace)
            x = x - step * gradient
            out = refinement(torch.stack([x.real, x.imag, *memory[0][:, None], gradient.real, gradient.imag], dim=1))
            x, memory = torch.complex(out[:, 0], out[:, 1]), out[:, 2:]
        x = x - network.step_lengths[2] * operator.adjoint(operator.forward(x) - kspace)
        torch.testing.assert_close(network(measurement), x, rtol=1e-11, atol=1e-11)
    assert memory.abs().max() > 0.01


def test_without_memory() -> None:
    _, measurement, _ = measured_noise((1, 1, 9, 12))
    with torch.no_grad():
        assert torch.isfinite(_double(memory=0)(measurement).abs()).all()


@pytest.mark.parametrize(("maps_chans", "coil_iterations"), [(0, 0), (2, 0), (0, 30)])
def test_gradients_of_weights_and_samples(maps_chans: int, coil_iterations: int) -> None:
    """Against differences, in double precision."""
    _, measurement, _ = measured_noise((1, 2, 4, 6))
    network = _double(
        chans=2, num_cascades=1, memory=1, maps_chans=maps_chans, patch=1, coil_iterations=coil_iterations
    )
    names, weights = zip(*network.named_parameters(), strict=True)

    def forward(samples: Tensor, maps: Tensor, *values: Tensor) -> Tensor:
        changed = replace(measurement.with_maps(maps), samples=samples)
        output: Tensor = torch.func.functional_call(network, dict(zip(names, values, strict=True)), (changed,))
        return torch.view_as_real(output)

    inputs = (measurement.samples, measurement.maps.clone(), *weights)
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    # eps below the slopes' kinks: leaky ReLU is not differentiable at 0.
    assert torch.autograd.gradcheck(forward, leaves, eps=1e-7, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_every_weight_gets_a_gradient() -> None:
    network = _double(maps_chans=2, coil_steps=True)
    for num_coils in (1, 2):  # each has its own step lengths
        network(measured_noise((1, num_coils, 8, 10))[1]).abs().square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("num_coils", [1, 4])
def test_several_coils_may_have_step_lengths_of_their_own(num_coils: int) -> None:
    _, measurement, _ = measured_noise((2, num_coils, 13, 18))
    network = _double(coil_steps=True)
    assert network.coil_step_lengths is not None
    common = _double()
    common.load_state_dict({k: v for k, v in network.state_dict().items() if k != "coil_step_lengths"})
    with torch.no_grad():
        torch.testing.assert_close(network(measurement), common(measurement), rtol=0, atol=0)  # they start equal
        network.coil_step_lengths.mul_(0.4)
        changed = network(measurement)
        if num_coils > 1:
            assert (changed - common(measurement)).norm() > 0.01 * changed.norm()
            common.step_lengths.mul_(0.4)
        torch.testing.assert_close(changed, common(measurement), rtol=0, atol=0)


def test_a_band_gives_what_the_refinement_makes_of_it() -> None:
    """Data consistency of a band is that of the whole: without refinements the results agree."""
    _, measurement, _ = measured_noise((1, 3, 16, 21))
    network = Unrolled(UnrolledConfig(chans=4, num_pool_layers=1, num_cascades=2)).double()
    with torch.no_grad():
        whole, band = network(measurement), network(measurement.rows(slice(2, 9)))
    torch.testing.assert_close(band, whole[:, 2:9], rtol=1e-12, atol=1e-12)


def test_with_a_margin_a_shift_around_the_edge_changes_nothing() -> None:
    image = complex_randn(1, 8, 24)
    mask = torch.from_numpy(column_lines(24))
    maps = torch.ones(1, 1, 8, 24, dtype=torch.complex128)
    operator = SenseOperator(mask, maps)
    here, there = (measure(operator.forward(x), mask, maps) for x in (image, image.roll(8, -1)))
    # Without pooling or norms a refinement sees a few pixels only; patch 1 knows no grid.
    network = _double(patch=1)
    network.refinements = nn.ModuleList(nn.Conv2d(6, 4, 3, padding=1, bias=False).double() for _ in network.refinements)
    with torch.no_grad():
        torch.testing.assert_close(network(there, 6).roll(-8, -1), network(here, 6), rtol=1e-10, atol=1e-10)
        assert (network(there).roll(-8, -1) - network(here)).abs().max() > 1e-3


def test_refined_maps_keep_the_root_sum_of_squares() -> None:
    _, measurement, _ = measured_noise((2, 3, 13, 18))
    network = _double(maps_chans=4)
    maps = measurement.maps * torch.linspace(0.1, 1, 18)  # any root sum of squares, not only 1
    with torch.no_grad():
        refined = network._refined_maps(maps)
    assert (refined - maps).norm() > 0.01 * maps.norm()
    before, after = (torch.linalg.vector_norm(x, dim=1) for x in (maps, refined))
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)


def test_maps_of_one_coil_are_not_refined() -> None:
    _, measurement, _ = measured_noise((2, 1, 13, 18))
    network = _double(maps_chans=4)
    assert torch.equal(network._refined_maps(measurement.maps), measurement.maps)


def test_refined_maps_are_used() -> None:
    _, measurement, _ = measured_noise((1, 3, 13, 18))
    network = _double(maps_chans=4)
    with torch.no_grad():
        with_refinement = network(measurement)
        refined = measurement.with_maps(network._refined_maps(measurement.maps))
        network.maps_network = None
        torch.testing.assert_close(network(refined), with_refinement)
        assert (network(measurement) - with_refinement).norm() > 1e-3 * with_refinement.norm()


@pytest.mark.parametrize("shape", [(1, 4, 9, 10), (2, 3, 8, 11)])
def test_a_step_for_several_coils_solves_itsmeasured_noise(shape: tuple[int, ...]) -> None:
    """(A^H A + mu) d = A^H (A x - y), against a dense solution."""
    operator, measurement, kspace = measured_noise(shape)
    network = _double(num_cascades=1, coil_iterations=60)
    assert network.log_mu is not None
    nn.init.constant_(network.log_mu, -1.0)
    left = list[Tensor]()
    network.refinements[-1].register_forward_hook(lambda *args: left.append(args[-1]))
    with torch.no_grad():
        image = network(measurement)
    x = torch.complex(left[0][:, 0], left[0][:, 1])
    gradient = operator.adjoint(operator.forward(x) - kspace)
    slices, _, h, w = shape
    normal = dense_gram(operator, shape) + math.exp(-1.0) * torch.eye(h * w, dtype=torch.float64)
    expected = x - torch.linalg.solve(normal, gradient.reshape(slices, h * w)).reshape(slices, h, w)
    torch.testing.assert_close(image, expected, rtol=1e-9, atol=1e-9)


def test_one_coil_needs_no_iterations() -> None:
    _, measurement, _ = measured_noise((2, 1, 12, 15))
    network, plain = _double(coil_iterations=4), _double()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k != "log_mu"})
    with torch.no_grad():
        assert torch.equal(network(measurement), plain(measurement))


def test_iterations_of_an_empty_slice_stay_finite() -> None:
    _, measurement, _ = measured_noise((2, 3, 12, 15))
    samples = measurement.samples.clone()
    samples[0] = 0
    network = Unrolled(UnrolledConfig(chans=4, num_pool_layers=1, num_cascades=2, coil_iterations=5)).double()
    image = network(replace(measurement, samples=samples))
    assert not image[0].any()
    image.abs().square().sum().backward()
    assert network.log_mu is not None
    assert network.log_mu.grad is not None
    assert torch.isfinite(network.log_mu.grad).all()


def test_group_norm_by_number_of_groups_everywhere() -> None:
    network = Unrolled(UnrolledConfig(chans=8, num_pool_layers=1, num_cascades=2, num_groups=4, maps_chans=4))
    groups = {module.num_groups for module in network.modules() if isinstance(module, nn.GroupNorm)}
    assert groups == {4}


def test_untrained_maps_are_those_given() -> None:
    _, measurement, _ = measured_noise((1, 3, 13, 18))
    network = Unrolled(UnrolledConfig(chans=4, num_cascades=1, maps_chans=4)).double()
    torch.testing.assert_close(network._refined_maps(measurement.maps), measurement.maps)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_throughout_in_the_precision_of_the_weights(dtype: torch.dtype) -> None:
    _, measurement, _ = measured_noise((1, 2, 9, 14), dtype=dtype)
    with torch.no_grad():
        image = _double(maps_chans=2).to(measurement.maps.real.dtype)(measurement)
    assert image.dtype == dtype
    assert image.imag.abs().max() > 1e-3


def test_single_precision_is_close_to_double() -> None:
    _, measurement, _ = measured_noise((1, 2, 16, 21))
    single = measurement.to(torch.device("cpu"), torch.complex64)
    with torch.no_grad():
        double = _double()(measurement)
        assert (_double().float()(single) - double).norm() < 1e-4 * double.norm()
