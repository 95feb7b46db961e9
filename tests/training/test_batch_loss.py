from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mri_recon.models import Measurement
from mri_recon.models.checkpoint import build_network
from mri_recon_data.examples.batches import Batch, BatchConfig, BatchSimulator
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.example import Example
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_training.losses import LossConfig, Shared, batch_loss, to_network

MODELS = {
    "unet": {"chans": 4, "num_pool_layers": 1, "channels_per_group": 4},
    "unrolled": {"chans": 4, "num_pool_layers": 1, "channels_per_group": 4, "num_cascades": 1, "maps_chans": 4},
}


@pytest.fixture
def batch(small_registry: RegistrySlices) -> Batch:
    simulation = {"min_size": 32, "multi_coil": 1.0, "num_coils": (3, 3)}
    data = DataConfig.model_validate(
        {"raw_probability": 0, "simulation": simulation, "sampling": {"acceleration": (2, 3)}}
    )
    return BatchSimulator(small_registry, data, BatchConfig(where="device"), seed=0, device=torch.device("cpu")).batch(
        0, range(3)
    )


@pytest.mark.parametrize("architecture", ["unet", "unrolled"])
def test_a_batch_at_once_is_its_examples_one_by_one(batch: Batch, architecture: str) -> None:
    """Every term of the loss, and its gradient: this is why batches of any kind train the same network."""
    config = LossConfig(l1=0.7, ssim=0.2, rms=0.4, log_l1=0.3, log_rms=0.5)
    torch.manual_seed(0)
    network = build_network(architecture, MODELS[architecture])
    for parameter in network.parameters():  # the last layer starts at zero, where nothing would differ
        torch.nn.init.normal_(parameter, std=0.1)
    parts = batch.measurement.split()
    examples = [Example(part, target, batch.valid) for part, target in zip(parts, batch.target, strict=True)]
    losses, gradients = [], []
    for kind in (batch, examples):
        network.zero_grad()
        loss = batch_loss(network, kind, config)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4 * float(gradients[1].abs().max()))


def test_only_the_valid_centre_of_a_batch_counts(batch: Batch) -> None:
    network = build_network("unet", MODELS["unet"])
    config = LossConfig(ssim=0)
    height, width = batch.valid
    spoiled = batch.target.clone()
    spoiled[:, :2] += 9
    inner = (height - 8, width)
    clean, dirty = (
        float(batch_loss(network, replace(batch, target=target, valid=inner), config).detach())
        for target in (batch.target, spoiled)
    )
    assert clean == dirty
    assert float(batch_loss(network, replace(batch, target=spoiled), config).detach()) > clean + 0.1


def test_a_measurement_comes_in_the_precision_of_the_network(batch: Batch) -> None:
    network = build_network("unet", MODELS["unet"])
    assert to_network(batch.measurement, network).samples.dtype == torch.complex64
    double = to_network(batch.measurement, network.double())
    assert [t.dtype for t in (double.samples, double.maps, double.mask)] == [
        torch.complex128,
        torch.complex128,
        torch.float64,
    ]
    assert isinstance(to_network(batch.measurement, torch.nn.Identity()), Measurement)


def test_a_shared_network_is_handed_to_the_function() -> None:
    network = torch.nn.Linear(2, 1)
    shared = Shared(network)
    assert shared(lambda inner: inner.weight.sum()) == network.weight.sum()
    assert [name for name, _ in shared.named_parameters()] == ["network.weight", "network.bias"]
