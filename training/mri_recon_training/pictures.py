"""Draw validation examples for TensorBoard: the network's image, the target and their difference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mri_recon._arrays import center_crop
from mri_recon._display import window_of
from mri_recon.io import load
from mri_recon.io.pictures import NO_PICTURES
from mri_recon.models.inference import apply_network
from mri_recon_data.examples.example import Example
from mri_recon_data.examples.slices import FolderSlices, Slices
from mri_recon_data.registry import files as registered_files
from mri_recon_training.losses import to_network

__all__ = ["CAPTION", "chosen_examples", "picture", "pictures_allowed"]

CAPTION = "reconstruction | target | 5 x absolute difference"
"""What is beside what, from left to right; white is the 99.5th percentile of the target in all three."""

_GAIN = 5.0
_MOST = 4
"""Examples of which a picture is drawn: the first of each kind."""


def pictures_allowed(validation: Slices) -> bool:
    """Tell whether every scan that the validation examples may come from may be pictured."""
    if isinstance(validation, FolderSlices):
        first = dict(reversed(validation.slices))  # of each file, one slice
        return not any(load(path, slices=first[path]).meta.get(NO_PICTURES) for path in first)
    return not any(file.no_pictures for file in registered_files(split="validation"))


def chosen_examples(examples: Sequence[tuple[str, Example]]) -> list[tuple[str, Example]]:
    """Choose the first example of each kind, a few at most."""
    first: dict[str, Example] = {}
    for kind, example in examples:
        first.setdefault(kind, example)
    return list(first.items())[:_MOST]


def picture(network: nn.Module, example: Example) -> npt.NDArray[np.float32]:
    """Draw an example as `CAPTION` says: gray values in [0, 1], `(h, 3 w)`."""
    network.eval()
    with torch.inference_mode():
        output = apply_network(network, to_network(example.measurement, network)).cpu()
    image, target = (center_crop(x, example.valid).abs()[0].float().numpy() for x in (output, example.target[None]))
    parts = [image, target, _GAIN * np.abs(image - target)]
    drawn: npt.NDArray[np.float32] = np.clip(np.concatenate(parts, axis=1) / window_of(target), 0, 1).astype(np.float32)
    return drawn
