from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mri_recon.errors import ShapeError
from mri_recon.models import Cascade, CascadeConfig, Measurement, cascade, concatenate, measure
from mri_recon.models.cascade import data_step
from mri_recon.operators.sense import SenseOperator
from tests.support.helpers import column_lines, complex_randn, random_columns, smooth_maps
from tests.support.networks import dense_gram, measured_noise, tiny_network


def _network(**config: int | float) -> Cascade:
    network = tiny_network("cascade", **config).double()
    assert isinstance(network, Cascade)
    return network


@pytest.mark.parametrize("shape", [(1, 1, 9, 10), (1, 4, 9, 10), (2, 3, 8, 11)])
def test_a_data_step_is_the_minimiser(shape: tuple[int, ...]) -> None:
    """Against a dense solution of (A^H A + mu) u = A^H y + mu x, another mu for every item."""
    operator, measurement, kspace = measured_noise(shape)
    slices, _, h, w = shape
    x = complex_randn(slices, h, w, seed=5)
    mu = torch.linspace(0.01, 0.3, slices, dtype=torch.float64)[:, None, None]
    with torch.no_grad():
        u = data_step(measurement, measurement.adjoint(), x, mu, 80)
    normal = dense_gram(operator, shape) + mu * torch.eye(h * w, dtype=torch.float64)
    right = (operator.adjoint(kspace) + mu * x).reshape(slices, h * w)
    torch.testing.assert_close(u, torch.linalg.solve(normal, right).reshape(slices, h, w), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("num_coils", "ratio", "mu"), [(1, 0.0, 0.16), (3, 0.0, 0.16), (1, 0.7, 0.16), (3, 0.7, 0.14)])
def test_an_untrained_network_starts_at_cg_sense_and_stays_consistent(num_coils: int, ratio: float, mu: float) -> None:
    """mu is (0.2 / 0.5)^2, or the ratio times 0.2 for several coils."""
    shape = (1, num_coils, 8, 11)
    operator, measurement, kspace = measured_noise(shape, sigma=0.2)
    config = CascadeConfig(chans=4, num_pool_layers=1, num_cascades=1, memory=1, start_iterations=60, start_ratio=ratio)
    network = Cascade(config).double()
    first = list[Tensor]()
    network.refinements[0].register_forward_hook(lambda _, inputs, __: first.append(inputs[0]))
    with torch.no_grad():
        network(measurement)
    normal = dense_gram(operator, shape) + mu * torch.eye(88, dtype=torch.float64)
    expected = torch.linalg.solve(normal, operator.adjoint(kspace).reshape(1, 88)).reshape(1, 8, 11)
    start = torch.complex(first[0][:, 0], first[0][:, 1])
    torch.testing.assert_close(start, expected, rtol=1e-8, atol=1e-8)
    change = torch.complex(first[0][:, 3], first[0][:, 4])
    torch.testing.assert_close(change, operator.adjoint(kspace) - expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", [(1, 1, 17, 12), (2, 1, 16, 21), (1, 4, 9, 16)])
def test_without_noise_the_result_agrees_with_the_samples(shape: tuple[int, ...]) -> None:
    """Whatever the refinements draw."""
    operator, measurement, kspace = measured_noise(shape, sigma=0.0, acceleration=2)
    network = _network(start_iterations=100, step_iterations=200)
    with torch.no_grad():
        image = network(measurement)
    assert (image - operator.adjoint(kspace)).norm() > 0.01 * image.norm()
    assert (operator.forward(image) - kspace).norm() < 1e-4 * kspace.norm()


def test_more_noise_moves_the_result_less_towards_the_samples() -> None:
    misfits = []
    for sigma in (0.001, 0.05, 0.5):
        operator, measurement, kspace = measured_noise((1, 3, 12, 15), sigma=sigma)
        with torch.no_grad():
            image = _network(step_iterations=60)(measurement)
        misfits.append(float((operator.forward(image) - kspace).norm()))
    assert misfits[0] < misfits[1] < misfits[2]


def test_wrong_maps_count_as_noise() -> None:
    """Where the samples are missed by more than their noise, the weight grows by the power of the excess."""
    _, measurement, _ = measured_noise((1, 4, 12, 16), sigma=0.01)
    network = _network()
    wrong = measurement.with_maps(measurement.maps.roll(5, -1))
    with torch.no_grad():
        for one in (measurement, wrong):
            u = data_step(one, one.adjoint(), torch.zeros_like(one.adjoint()), torch.full((1, 1, 1), 1e-4).double(), 80)
            excess = (one.misfit(u) - 1e-4).clamp_min(0)
            for mu, log_tau in zip(network.step_weights(one, u), network.step_weights.log_tau[1], strict=True):
                expected = ((1e-4 + excess) / (2 * log_tau).exp()).clamp_min(1e-6)
                torch.testing.assert_close(mu, expected)
    assert float(wrong.misfit(u)) > 100 * float(measurement.misfit(u)) or float(excess) > 0.01


def test_the_weights_follow_what_the_scan_tells() -> None:
    """tau = t (sigma / 0.03)^a (L / 12)^b (R / 4)^c (C / 8)^d, one t for one coil."""
    network = _network(num_cascades=1)
    weights = network.step_weights
    nn.init.constant_(weights.log_tau[0], 0.3)
    exponents = torch.tensor([0.5, -0.25, 0.75, 0.125], dtype=torch.float64)
    with torch.no_grad():
        weights.exponents.copy_(exponents[:, None])
        weights.log_tau[1] = -1.5
        for coils in (1, 4):
            _, measurement, _ = measured_noise((1, coils, 12, 16), sigma=0.2)
            zero_filled = measurement.adjoint()
            u = data_step(
                measurement, zero_filled, torch.zeros_like(zero_filled), torch.full((1, 1, 1), 0.01).double(), 9
            )
            lines = column_lines(16, 3)
            run = _run(lines.tolist(), 8)
            told = torch.tensor(
                [0.2 / 0.03, run / 12, lines.size / lines.sum() / 4, coils / 8 if coils > 1 else 1.0],
                dtype=torch.float64,
            )
            tau = (weights.log_tau[int(coils > 1), 0]).exp() * (told**exponents).prod()
            excess = (measurement.misfit(u) - 0.04).clamp_min(0)
            torch.testing.assert_close(weights(measurement, u)[0], (0.04 + excess) / tau**2)


def _run(lines: list[bool], centre: int) -> int:
    start = stop = centre
    while start > 0 and lines[start - 1]:
        start -= 1
    while stop < len(lines) and lines[stop]:
        stop += 1
    return stop - start


def _mixtures(coils: int, shape: tuple[int, int], *, of: int) -> Measurement:
    """Smooth maps of `coils` coils that are mixtures of fewer, and noise as samples."""
    maps = torch.einsum("cm,mhw->chw", complex_randn(coils, of, seed=4), smooth_maps(of, *shape))[None]
    maps = maps / maps.abs().square().sum(dim=1, keepdim=True).sqrt()
    mask = random_columns(shape[1])
    kspace = complex_randn(1, coils, *shape, seed=3) * mask
    return measure(kspace, mask, maps, torch.full((1, 1, 1), 0.1, dtype=torch.float64))


def test_virtual_coils_give_the_image_of_all_coils(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixtures of three coils lose nothing; a slice does not depend on its neighbours, whose maps need all coils."""
    measurement = _mixtures(8, (21, 18), of=3)
    used = list[int]()
    found = cascade._conjugate_gradients

    def counting(measurement: Measurement, *rest: Any) -> Tensor:
        used.append(measurement.maps.shape[1])
        return found(measurement, *rest)

    monkeypatch.setattr(cascade, "_conjugate_gradients", counting)
    network = _network(num_cascades=2)
    with torch.no_grad():
        image = network(measurement)
        assert used == [8, 3, 8]  # the first and the last step are those of all coils
        rough = measurement.with_maps(complex_randn(1, 8, 21, 18, seed=8) / 4)
        both = network(concatenate([rough, measurement]))
        monkeypatch.setattr(cascade, "_LEFT_OUT", 0.0)
        torch.testing.assert_close(image, network(measurement), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(both[1:], image, rtol=1e-9, atol=1e-9)
    used.clear()
    network(measurement)
    assert set(used) == {8}  # with gradients


def test_smooth_maps_change_the_image_little_and_the_samples_stay() -> None:
    """Virtual coils leave something out, but the last step has all coils."""
    maps = smooth_maps(8, 45, 50)[None]
    mask = random_columns(50)
    kspace = complex_randn(1, 8, 45, 50, seed=3) * mask
    measurement = measure(kspace, mask, maps, torch.full((1, 1, 1), 0.1, dtype=torch.float64))
    network = _network()
    with torch.no_grad():
        image = network(measurement)
    exact = network(measurement).detach()
    error = (image - exact).norm() / exact.norm()
    assert 1e-9 < error < 0.02
    # Without noise, what the last step leaves does not depend on the virtual coils.
    samples = SenseOperator(mask, maps).sample(complex_randn(1, 45, 50, seed=6))
    consistent = replace(measurement, samples=samples, sigma=torch.zeros(1, 1, 1, dtype=torch.float64))
    network = _network(start_iterations=100, step_iterations=200)
    with torch.no_grad():
        residual = consistent.residual(network(consistent)).norm()
    assert residual < 1e-3 * consistent.samples.norm()
    assert residual < 1.5 * consistent.residual(network(consistent).detach()).norm()  # that of all coils


def test_the_noise_level_must_be_known() -> None:
    _, measurement, _ = measured_noise((1, 2, 8, 9))
    with pytest.raises(ShapeError, match=r"expected a measurement with its noise level, got none: set Measurement"):
        _network()(replace(measurement, sigma=None))


@pytest.mark.parametrize("num_coils", [1, 2])
def test_gradients_of_weights_and_samples(num_coils: int) -> None:
    """Against differences, in double precision."""
    _, measurement, _ = measured_noise((1, num_coils, 4, 6))
    network = _network(chans=2, num_cascades=1, memory=1, patch=1, start_iterations=40, step_iterations=40)
    names, weights = zip(*network.named_parameters(), strict=True)

    def forward(samples: Tensor, *values: Tensor) -> Tensor:
        changed = replace(measurement, samples=samples)
        output: Tensor = torch.func.functional_call(network, dict(zip(names, values, strict=True)), (changed,))
        return torch.view_as_real(output)

    leaves = [value.detach().clone().requires_grad_() for value in (measurement.samples, *weights)]
    assert torch.autograd.gradcheck(forward, leaves, eps=1e-7, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_every_weight_gets_a_gradient() -> None:
    network = _network()
    for num_coils in (1, 6):
        # One coil has no excess for g to weigh; more coils than R have one with maps that do not fit.
        _, measurement, _ = measured_noise((1, num_coils, 12, 10), acceleration=2, sigma=0.01)
        network(measurement.with_maps(measurement.maps.roll(3, -1))).abs().square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_an_empty_slice_stays_empty_and_finite() -> None:
    _, measurement, _ = measured_noise((2, 3, 12, 15))
    samples = measurement.samples.clone()
    samples[0] = 0
    network = Cascade(CascadeConfig(chans=4, num_pool_layers=1, num_cascades=2)).double()
    empty = replace(measurement, samples=samples)
    image = network(empty)
    assert not image[0].any()
    image.abs().square().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()
