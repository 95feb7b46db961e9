"""Training examples: a measurement and its target image, from simulated or real k-space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon._arrays import center_window
from mri_recon.coils.combine import combine, rss
from mri_recon.errors import ShapeError
from mri_recon.masks.convert import undersample
from mri_recon.masks.types import Mask
from mri_recon.models.inference import network_measurement
from mri_recon.operators.measurement import Measurement
from mri_recon.transforms.fourier import ifft2c

__all__ = ["Example", "crop_rows", "raw_example"]

BoolArray = npt.NDArray[np.bool_]

_OBJECT = 0.1  # of bright tissue: brighter pixels belong to the object


@dataclass(frozen=True)
class Example:
    """Input and target of a network.

    `measurement`: made by `network_measurement` from the undersampled k-space, a batch of one. `target`: the image with
    the same phase taken out, complex64 `(h, w)`. The loss counts on the centre of `valid` rows and
    columns: oversampled margins are not judged. `held_out`: samples that the network does not see, with the maps of
    `measurement`; where they are given, the loss uses them and not the target (see `targets`).
    """

    measurement: Measurement
    target: Tensor
    valid: tuple[int, int]
    held_out: Measurement | None = None


def raw_example(
    kspace: Tensor,
    mask: Mask,
    *,
    sens_maps: Tensor | None = None,
    image: Tensor | None = None,
    valid: tuple[int, int] | None = None,
) -> Example:
    """Make an example from one slice of full k-space and a mask.

    The target is `image` where it is known (simulation of several coils); else the full k-space, combined with
    `sens_maps` where they are known, else with the maps estimated from the centre and brought to the
    root-sum-of-squares magnitude, the reference of the metrics. Then its noise on the sampled lines is the input's: a
    network that keeps what was measured is not punished for it, as a real single-coil reference asks for. Simulated
    scans of several coils are judged by an image without noise.

    Args:
        kspace: full, complex64 `(coil, readout, phase)`.
        mask: the mask to learn from.
        sens_maps: true maps `(coil, readout, phase)`.
        image: true image `(readout, phase)` of the true maps, without noise.
        valid: centre that the loss counts on; everything by default.

    Raises:
        MaskError: the mask has no fully sampled centre.
        ShapeError: an image without its maps.
    """
    if image is not None and sens_maps is None:
        raise ShapeError("raw_example: expected true maps with the true image, got the image alone: give both or none")
    masked = undersample(kspace, mask)[None]
    measurement, _ = network_measurement(masked, mask)
    coil_images = ifft2c(kspace) if image is None or sens_maps is None else sens_maps * image
    target = combine(coil_images, measurement.maps[0])  # the phase is in these maps already
    if kspace.shape[0] > 1:
        magnitude = rss(coil_images) if sens_maps is None else combine(coil_images, sens_maps).abs()
        # The phase in the gauge of the estimated maps is the only one that a network can know.
        target = torch.polar(magnitude, target.angle())
    return Example(measurement, target, valid or (int(target.shape[0]), int(target.shape[1])))


def crop_rows(example: Example, scale: Tensor, rows: int, rng: np.random.Generator) -> Example:
    """Divide by `scale` and cut a random band of `rows` readout rows.

    Undersampled columns alias along the phase axis only, so a band of readout rows is a complete reconstruction problem
    at a fraction of the cost. A pattern of two dimensions couples the rows: its slices stay whole.
    """
    height, width = (int(side) for side in example.target.shape)
    measurement, target, valid = example.measurement.scaled(scale), example.target / scale[0], example.valid
    held_out = None if example.held_out is None else example.held_out.scaled(scale)
    if rows >= height or measurement.dims != (-1,):
        return Example(measurement, target, valid, held_out)
    # Inside the rows that are judged; around them where these are fewer than the band.
    inside, _ = center_window((height, width), (min(height, max(rows, valid[0])), width))
    start = int(rng.integers(inside.start, inside.stop - rows + 1))
    band = slice(start, start + rows)
    return Example(
        measurement.rows(band),
        target[band],
        (min(rows, valid[0]), valid[1]),
        None if held_out is None else held_out.rows(band),
    )
