"""Losses on complex images and on held-out samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from mri_recon import metrics
from mri_recon._arrays import center_crop
from mri_recon.errors import ShapeError
from mri_recon.models import Measurement
from mri_recon.models.held_out import held_out_loss
from mri_recon.models.inference import apply_network, run_network
from mri_recon_data.examples.batches import Batch
from mri_recon_data.examples.example import Example

__all__ = [
    "LossConfig",
    "Shared",
    "batch_loss",
    "example_loss",
    "image_loss",
    "l1_ssim_loss",
    "score",
    "ssim_map",
    "to_network",
]


SSIM_WINDOW = 7


class LossConfig(BaseModel):
    """Weights of the terms of `l1_ssim_loss`, and of `held_out_loss` for data.target = "ssdu"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    l1: float = Field(default=1.0, ge=0, description="mean modulus of the complex difference")
    ssim: float = Field(default=0.1, ge=0, description="1 - mean SSIM of the magnitudes")
    rms: float = Field(default=0.0, ge=0, description="root mean square of the complex difference of each image")
    log_l1: float = Field(default=0.0, ge=0, description="logarithm of the l1 term of each image")
    log_rms: float = Field(default=0.0, ge=0, description="logarithm of the rms term of each image: decibels")
    held_out_l1: float = Field(default=1.0, ge=0, description="relative l1 error of the held-out samples")
    held_out_l2: float = Field(default=1.0, ge=0, description="relative l2 error of the held-out samples")


def example_loss(output: Tensor, example: Example, config: LossConfig) -> Tensor:
    """Compute the loss of one example: `output`, complex `(1, h, w)`, against the target, on its valid centre.

    An example with held-out samples is judged on these alone, see `held_out_loss`.
    """
    if example.held_out is not None:
        return held_out_loss(
            output, example.held_out.to(output.device), l1_weight=config.held_out_l1, l2_weight=config.held_out_l2
        )
    return image_loss(output, example.target[None], example.valid, config)


def image_loss(output: Tensor, target: Tensor, valid: tuple[int, int], config: LossConfig) -> Tensor:
    """Compute `l1_ssim_loss` with the weights of `config` on the centre `valid`; images complex `(batch, h, w)`."""
    return l1_ssim_loss(
        center_crop(output, valid),
        center_crop(target.to(output.device), valid),
        l1_weight=config.l1,
        ssim_weight=config.ssim,
        rms_weight=config.rms,
        log_l1_weight=config.log_l1,
        log_rms_weight=config.log_rms,
    )


def ssim_map(image: Tensor, target: Tensor, max_value: Tensor) -> Tensor:
    """Structural similarity at each pixel, differentiable.

    SSIM = (2 m_x m_y + C1)(2 c_xy + C2) / ((m_x^2 + m_y^2 + C1)(v_x + v_y + C2)), C1 = (0.01 L)^2 and
    C2 = (0.03 L)^2, over a 7x7 uniform window with unbiased variances, as in `mri_recon.metrics` (Wang et al., IEEE
    TIP 2004).

    Args:
        image, target: real `(batch, h, w)`, h and w at least 7.
        max_value: L of each image, `(batch,)`.

    Returns:
        `(batch, h - 6, w - 6)`.

    Raises:
        ShapeError: images smaller than the window.
    """
    if min(image.shape[-2:]) < SSIM_WINDOW:
        raise ShapeError(f"ssim: expected sides of at least {SSIM_WINDOW}, got {tuple(image.shape[-2:])}")
    samples = SSIM_WINDOW**2

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x[:, None], SSIM_WINDOW, stride=1)[:, 0]

    c1, c2 = ((k * max_value)[:, None, None] ** 2 for k in (0.01, 0.03))
    mx, my = mean(image), mean(target)
    unbiased = samples / (samples - 1)
    vx = unbiased * (mean(image * image) - mx * mx)
    vy = unbiased * (mean(target * target) - my * my)
    cxy = unbiased * (mean(image * target) - mx * my)
    return ((2 * mx * my + c1) * (2 * cxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def l1_ssim_loss(
    output: Tensor,
    target: Tensor,
    *,
    l1_weight: float = 1.0,
    ssim_weight: float = 0.1,
    rms_weight: float = 0.0,
    log_l1_weight: float = 0.0,
    log_rms_weight: float = 0.0,
) -> Tensor:
    """Mean over images of w1 a + w2 (1 - SSIM(|x|, |y|)) + w3 r + w4 ln a + w5 ln r, a = mean |x - y|, r = rms(x - y).

    x and y are complex `(batch, h, w)`, scaled as a network sees them; rms is the root mean square modulus of an image.
    The modulus of the complex difference asks for the right phase too; SSIM looks at magnitudes, with the largest
    magnitude of each target as data range. The logarithms count relative errors: a decibel on a clean, mildly
    undersampled scan is worth as much as one on a noisy scan, whose errors are ten times as large.

    Raises:
        ShapeError: images smaller than the SSIM window.
    """
    # A tiny constant keeps the derivative of the modulus finite at zero, where the air around a head is.
    squares = torch.view_as_real(output - target).square().sum(dim=-1).add(1e-12)
    l1, rms = squares.sqrt().mean(dim=(-2, -1)), squares.mean(dim=(-2, -1)).sqrt()
    loss = l1_weight * l1.mean() + rms_weight * rms.mean()
    loss = loss + log_l1_weight * l1.log().mean() + log_rms_weight * rms.log().mean()
    if ssim_weight:
        magnitude = torch.view_as_real(output).square().sum(dim=-1).add(1e-12).sqrt()
        reference = target.abs()
        max_value = reference.amax(dim=(-2, -1)).clamp_min(1e-6)
        loss = loss + ssim_weight * (1 - ssim_map(magnitude, reference, max_value).mean())
    return loss


class Shared(nn.Module):
    """Wraps a network: DistributedDataParallel and autocast see the way from batch to loss as one `forward` call.

    `shared(compute)` is `compute(network)`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, compute: Callable[[nn.Module], Tensor]) -> Tensor:
        """`compute(network)`."""
        return compute(self.network)


def batch_loss(network: nn.Module, batch: Batch | Sequence[Example], config: LossConfig) -> Tensor:
    """Compute the mean loss over a batch: examples of any sizes one by one, a `Batch` of equal sizes at once.

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
    """Measure the network's image of a whole slice on its valid centre, without gradients.

    Of an example with held-out samples y, `psnr` is 20 log10(||y|| / ||y - A x||): there is no true image, and one by
    another method would prefer networks that resemble that method.
    """
    with torch.inference_mode():
        output = apply_network(network, to_network(example.measurement, network)).cpu()
        error = None
        if example.held_out is not None:
            error = float(held_out_loss(output, example.held_out.to(output.device, output.dtype), l1_weight=0.0))
    image, target = (center_crop(x, example.valid).abs() for x in (output, example.target[None]))
    found = metrics.evaluate(image, target)
    return found if error is None else replace(found, psnr=-20 * math.log10(max(error, 1e-10)))


def to_network(measurement: Measurement, network: nn.Module) -> Measurement:
    """Move a measurement to the device and the precision of the network's weights."""
    weight = next(network.parameters(), None)
    if weight is None:
        return measurement
    return measurement.to(weight.device, torch.complex128 if weight.dtype == torch.float64 else None)
