"""Training targets: the fully sampled truth, solutions of compressed sensing, or undersampled data alone.

One key chooses, `data.target`:

- "truth": the image of the full k-space, see `raw_example`.
- "cs": the minimiser of our own compressed-sensing problem of the undersampled k-space. The network becomes an
  amortised solver: one forward pass in place of the iterations.
- "ssdu": the sampled positions are split into two sets; the network sees one and is judged on the other. Only sampled
  positions are read (self-supervision by data undersampling: Yaman et al., Magn Reson Med 2020).

"cs" and "ssdu" need no full k-space, so they take prospectively undersampled scans too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mri_recon._system.files import write_atomically
from mri_recon.errors import DataError
from mri_recon.masks.convert import undersample
from mri_recon.masks.split import split_mask
from mri_recon.masks.types import Mask
from mri_recon.methods.cs_wavelet import cs_wavelet
from mri_recon.models.inference import network_measurement
from mri_recon.operators.measurement import measure
from mri_recon_data.examples.example import Example, raw_example

__all__ = ["CsConfig", "Problem", "SsduConfig", "Target", "check_target", "cs_example", "make_example", "ssdu_example"]

Target = Literal["truth", "cs", "ssdu"]


class CsConfig(BaseModel):
    """The compressed-sensing problem to learn from; the keys are options of `cs_wavelet`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prior: Literal["stationary", "orthonormal", "stationary-synthesis", "tv"] = Field(
        default="stationary", description="the prior that compressed sensing minimises"
    )
    reg_weight: float | Literal["auto"] = Field(default="auto", description="lambda in units of the noise")
    gap_tol: float = Field(default=1e-3, ge=0, description="relative duality gap to stop at, where there is one")
    max_iters: int = Field(default=500, ge=1, description="most iterations")
    cache: str = Field(default="", description="folder that keeps the solutions; empty: solve again each time")


class SsduConfig(BaseModel):
    """Split of the sampled positions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    held_out: float = Field(
        default=0.4,
        gt=0,
        lt=1,
        description="share of the sampled lines outside the fully sampled centre that is kept for the loss",
    )


@dataclass(frozen=True)
class Problem:
    """One slice to make an example from.

    Attributes:
        kspace: complex64 `(coil, readout, phase)`; full, or zero outside `mask` where nobody sampled more.
        mask: mask of the input samples.
        sens_maps: true maps `(coil, readout, phase)` of a simulation; None: not known.
        valid: centre that a loss on images counts on; None: everything.
        full: whether the k-space outside the mask is there.
        image: true image `(readout, phase)` without noise, where the target is to have none.
    """

    kspace: Tensor
    mask: Mask
    sens_maps: Tensor | None = None
    valid: tuple[int, int] | None = None
    full: bool = True
    image: Tensor | None = None


def make_example(problem: Problem, target: Target, cs: CsConfig, ssdu: SsduConfig, rng: np.random.Generator) -> Example:
    """Make the example of a problem for a target; only "ssdu" draws from `rng`, to split the positions.

    Raises:
        DataError: the truth of a scan without one.
        MaskError: no fully sampled centre, or for "ssdu" too few positions outside it.
    """
    if target == "ssdu":
        return ssdu_example(problem.kspace, problem.mask, ssdu, rng)
    if target == "cs":
        return cs_example(problem.kspace, problem.mask, cs, valid=problem.valid)
    check_target(target, full=problem.full)
    return raw_example(
        problem.kspace, problem.mask, sens_maps=problem.sens_maps, image=problem.image, valid=problem.valid
    )


def check_target(target: Target, *, full: bool) -> None:
    """Refuse the target "truth" of a scan that is not fully sampled.

    Raises:
        DataError: the truth of a scan without one.
    """
    if target == "truth" and not full:
        raise DataError(
            "data.target truth: expected a fully sampled scan, got an undersampled one, which has no truth: leave such "
            'files out, or learn from what was sampled, data.target = "ssdu" (or "cs")'
        )


def cs_example(kspace: Tensor, mask: Mask, config: CsConfig, *, valid: tuple[int, int] | None = None) -> Example:
    """Learn from compressed sensing: the target is argmin over u of 1/2 ||A u - y||^2 + lambda R(u).

    A has the maps that the network gets; the smooth phase in these is taken out of u afterwards
    (`network_measurement`). The whole slice is solved, and cut to bands after. The target is the minimiser itself,
    without the step of data consistency with which `cs_wavelet` ends by default, so that the imitated image minimises
    an objective.

    R is by default the stationary Haar wavelets of `cs_wavelet`. Their problem does not change where the image is
    moved by a pixel, as a convolution does not; an orthonormal transform has a grid that a network on a band of rows
    cannot know. And with one coil it has a duality gap, so that the distance of the target from the optimum is known;
    for several coils choose "stationary-synthesis" or "orthonormal" where a certificate is wanted.

    Args:
        kspace: complex64 `(coil, readout, phase)`; only the samples of the mask are read.
        mask: the sampling mask.
        config: the problem.
        valid: centre that the loss counts on.

    Raises:
        MaskError: the mask has no fully sampled centre.
        FormatError: no noise level in the k-space.
    """
    masked = undersample(kspace, mask)[None]
    measurement, phase = network_measurement(masked, mask)
    # One coil is not given its map of ones: the solver then knows that A^H A is a projection.
    maps = measurement.maps * phase.conj()[:, None] if kspace.shape[0] > 1 else None
    target = _cached(masked, mask, maps, config) * phase[0].conj()
    return Example(measurement, target, valid or (int(target.shape[0]), int(target.shape[1])))


def ssdu_example(kspace: Tensor, mask: Mask, config: SsduConfig, rng: np.random.Generator) -> Example:
    """Learn from undersampled data alone: Omega = Theta + Lambda, the network sees Theta, the loss looks at Lambda.

    Maps and phase come from the fully sampled centre, which is in Theta. The loss is that of `held_out_loss`;
    `target` is a zero-filled image of Omega for the sake of its shape, and no loss looks at it.

    Args:
        kspace: complex64 `(coil, readout, phase)`; only the samples of the mask are read.
        mask: Omega.
        config: the share of Lambda.
        rng: deals the positions.

    Raises:
        MaskError: no fully sampled centre, or fewer than two sampled positions (columns, of a column mask) outside it.

    Source: Yaman et al., Magn Reson Med 2020; a new split for each example: Yaman et al., NMR Biomed 2022.
    """
    theta, held_out = split_mask(mask, config.held_out, rng)
    measurement, _ = network_measurement(undersample(kspace, theta)[None], theta)
    judged = measure(undersample(kspace, held_out)[None], held_out.tensor(), measurement.maps)
    target = (measurement.adjoint() + judged.adjoint())[0]
    return Example(measurement, target, (int(target.shape[0]), int(target.shape[1])), held_out=judged)


def _cached(masked: Tensor, mask: Mask, maps: Tensor | None, config: CsConfig) -> Tensor:
    """Give the solution from the cache if it is there, in a file named by a checksum of the problem; else solve."""
    if not config.cache:
        return _solve(masked, mask, maps, config)
    digest = hashlib.sha256(config.model_dump_json(exclude={"cache"}).encode())
    for array in (masked.numpy(), mask.tensor().numpy(), np.empty(0) if maps is None else maps.numpy()):
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    path = Path(config.cache) / f"{digest.hexdigest()}.safetensors"
    if path.is_file():
        try:
            return torch.view_as_complex(load_tensors(path.read_bytes())["image"])
        except (SafetensorError, KeyError) as error:
            raise DataError(f"data.cs.cache: expected a solution in {path}, got a damaged file: delete it") from error
    image = _solve(masked, mask, maps, config)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save_tensors({"image": torch.view_as_real(image).contiguous()}))
    return image


def _solve(masked: Tensor, mask: Mask, maps: Tensor | None, config: CsConfig) -> Tensor:
    """Compute the minimiser `(readout, phase)`, with its phase."""
    image, _ = cs_wavelet(
        masked,
        mask,
        maps,
        prior=config.prior,
        reg_weight=config.reg_weight,
        gap_tol=config.gap_tol,
        max_iters=config.max_iters,
        final_step=False,
    )
    return image[0]
