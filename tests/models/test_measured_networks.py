"""Properties that the cascade and the unrolled network share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_recon.models import measure
from mri_recon.operators.sense import SenseOperator
from tests.support.helpers import complex_randn, smooth_maps
from tests.support.networks import measured_noise, tiny_network

NETWORKS = ["cascade", "unrolled"]


@settings(max_examples=15)
@given(
    h=st.integers(1, 33), w=st.integers(5, 33), coils=st.integers(1, 32), acceleration=st.integers(2, 12),
    margin=st.integers(0, 5), sigma=st.sampled_from([0.0, 1e-6, 0.03, 10.0]),
)  # fmt: skip
@pytest.mark.parametrize("architecture", NETWORKS)
def test_one_set_of_weights_for_everything(
    architecture: str, h: int, w: int, coils: int, acceleration: int, margin: int, sigma: float
) -> None:
    _, measurement, _ = measured_noise((1, coils, h, w), acceleration=acceleration, sigma=sigma, dtype=torch.complex64)
    with torch.no_grad():
        image = tiny_network(architecture)(measurement, margin)
    assert image.shape == (1, h, w)
    assert image.dtype == torch.complex64
    assert torch.isfinite(image.abs()).all()


@pytest.mark.parametrize(("architecture", "tolerance"), [("cascade", 1e-9), ("unrolled", 1e-10)])
def test_batched_equals_single(architecture: str, tolerance: float) -> None:
    _, measurement, _ = measured_noise((3, 2, 13, 18))
    network = tiny_network(architecture).double()
    with torch.no_grad():
        single = torch.cat([network(part) for part in measurement.split()])
        torch.testing.assert_close(network(measurement), single, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("architecture", "tolerance"), [("cascade", (1e-3, 1e-4)), ("unrolled", (1e-12, 1e-12))])
def test_a_pattern_of_two_dimensions(architecture: str, tolerance: tuple[float, float]) -> None:
    mask = torch.rand(12, 15, generator=torch.Generator().manual_seed(0)) < 0.5
    maps = smooth_maps(1, 12, 15)[None]
    operator = SenseOperator(mask, maps)
    kspace = operator.forward(complex_randn(1, 12, 15))
    noise = torch.zeros(1, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        image = tiny_network(architecture).double()(measure(kspace, mask, maps, noise))
    rtol, atol = tolerance
    torch.testing.assert_close(operator.forward(image), kspace, rtol=rtol, atol=atol)
