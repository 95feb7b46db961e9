"""The loss of a batch, whichever way it was made, and the module that several processes train as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from mri_recon_data.examples.batches import Batch
from mri_recon_data.examples.example import Example
from torch import Tensor, nn

from mri_recon import metrics
from mri_recon._arrays import center_crop
from mri_recon.models import Measurement
from mri_recon.models.inference import apply_network, run_network
from mri_recon_training.losses import LossConfig, example_loss, image_loss

__all__ = ["Shared", "batch_loss", "score", "to_network"]


class Shared(nn.Module):
    """A network that is handed to a function: `shared(compute)` is `compute(network)`.

    What keeps the processes of a run equal (`DistributedDataParallel`) and what sets its precision wrap a module and
    watch its call; this makes the whole way from a batch to its loss that call.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, compute: Callable[[nn.Module], Tensor]) -> Tensor:
        """`compute(network)`."""
        return compute(self.network)


def batch_loss(network: nn.Module, batch: Batch | Sequence[Example], config: LossConfig) -> Tensor:
    """The mean loss over a batch: examples of any sizes one by one, a `Batch` of equal sizes at once.

    Losses are computed in the precision of the images, also where the network runs under autocast.
    """
    if isinstance(batch, Batch):
        output = run_network(network, to_network(batch.measurement, network))
        with torch.autocast(output.device.type, enabled=False):
            return image_loss(output, batch.target, batch.valid, config)
    losses = []
    for example in batch:
        output = run_network(network, to_network(example.measurement, network))
        with torch.autocast(output.device.type, enabled=False):
            losses.append(example_loss(output, example, config))
    return torch.stack(losses).mean()


def score(network: nn.Module, example: Example) -> metrics.Metrics:
    """How good the network's image of a whole slice is, on the centre that counts; without gradients."""
    with torch.inference_mode():
        output = apply_network(network, to_network(example.measurement, network)).cpu()
    image, target = (center_crop(x, example.valid).abs() for x in (output, example.target[None]))
    return metrics.evaluate(image, target)


def to_network(measurement: Measurement, network: nn.Module) -> Measurement:
    """The measurement on the device and in the precision of the network's weights."""
    weight = next(network.parameters(), None)
    if weight is None:
        return measurement
    here = measurement.to(weight.device)
    if weight.dtype != torch.float64:
        return here
    samples, maps = here.samples.to(torch.complex128), here.maps.to(torch.complex128)
    sigma = None if here.sigma is None else here.sigma.to(torch.float64)
    return replace(here, samples=samples, maps=maps, mask=here.mask.to(torch.float64), sigma=sigma)
