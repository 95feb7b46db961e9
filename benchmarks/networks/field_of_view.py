"""The networks on objects that cross the edge of the field of view: PSNR with and without periodic continuation.

    python benchmarks/networks/field_of_view.py

Raw validation scans as they are, shifted along the phase axis, and folded into a smaller field of view. `edge` is what
`mri_recon.models.inference.wrap_margin` decides by: mean magnitude of the outer columns over that of the slice.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.metrics import psnr
from mri_recon.models import inference
from mri_recon.models.checkpoint import load_named
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data.registry import files
from mri_recon_data.scenes.crop import fold_columns


def shifted(image: Tensor, share: float) -> Tensor:
    """The image moved along the phase axis by a share of the field of view."""
    return image.roll(round(share * image.shape[-1]), -1)


def folded(image: Tensor, share: float) -> Tensor:
    """The image in a field of view that is smaller along the phase axis: what is outside aliases back."""
    width, kept = image.shape[-1], round(share * image.shape[-1])
    return fold_columns(image, (width - kept) // 2, kept)


CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda image: image,
    "shifted by 0.3": lambda image: shifted(image, 0.3),
    "shifted by 0.5": lambda image: shifted(image, 0.5),
    "folded to 0.65": lambda image: folded(image, 0.65),
    "folded to 0.55": lambda image: folded(image, 0.55),
}


def main() -> None:
    for name in ("unet", "unrolled", "unrolled-0.1"):
        print(f"\n{name}")
        _table(load_named(name).network)


def _table(network: Any) -> None:
    print(f"{'case':16} {'R':>2} {'edge':>5} {'zero-filled':>12} {'margin 0':>9} {'margin 32':>10} {'by the rule':>12}")
    for name, change in CASES.items():
        for acceleration in (4, 8):
            rows = [_scan(file, change, acceleration, network) for file in files(split="validation", kind="raw")]
            edge, *scores = (fmean(column) for column in zip(*rows, strict=True))
            print(f"{name:16} {acceleration:2d} {edge:5.2f} " + " ".join(f"{score:10.2f}" for score in scores))


def _scan(file: Any, change: Callable[[Tensor], Tensor], acceleration: int, network: Any) -> tuple[float, ...]:
    image = change(ifft2c(file.load().kspace))
    kspace, target = fft2c(image), image[:, 0].abs()
    mask = random_mask(kspace.shape[-1], acceleration, seed=0)
    measurement, _ = inference.network_measurement(undersample(kspace, mask), mask)
    magnitude = measurement.adjoint().abs()
    edge = torch.cat([magnitude[..., :4], magnitude[..., -4:]], dim=-1).mean() / magnitude.mean()
    scores = [psnr(magnitude, target)]
    with torch.inference_mode():
        for margin in (0, 32):
            with patch.object(inference, "wrap_margin", lambda _, margin=margin: margin):
                scores.append(psnr(inference.apply_network(network, measurement).abs(), target))
        scores.append(psnr(inference.apply_network(network, measurement).abs(), target))
    return (float(edge), *scores)


if __name__ == "__main__":
    main()
