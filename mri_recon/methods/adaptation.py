"""Adapt a network to one scan by what was measured of it alone: zero-shot self-supervised learning.

The sampled lines outside the fully sampled centre are split three ways. The network sees one part and the centre, the
loss looks at the second part, which is drawn anew at every step, and the third part, fixed and seen by neither, decides
which weights are kept. Weights that do not predict this third part better than the given ones are not used.

Source: Yaman, Hosseini and Akcakaya, ICLR 2022 (zero-shot self-supervised learning).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mri_recon.coils.noise import sigma_from_below
from mri_recon.errors import MaskError, MethodError
from mri_recon.masks.calibration_region import center_samples
from mri_recon.masks.convert import undersample
from mri_recon.masks.echo import echo_center
from mri_recon.masks.split import num_outside, split_mask
from mri_recon.masks.types import BoolArray, ColumnMask, Mask
from mri_recon.models import Measurement, measure
from mri_recon.models.held_out import held_out_loss
from mri_recon.models.inference import image_scale, run_network, wrap_margin

__all__ = ["LEAST_OUTSIDE", "MOST_STEPS", "Split", "adapt_network", "fixed_split"]

MOST_STEPS = 1000

LEAST_OUTSIDE = 6
"""Fewest sampled lines (positions, of a pattern) outside the fully sampled centre that can be split three ways."""

_VALIDATION_SHARE, _LOSS_SHARE = 0.2, 0.4
_LEARNING_RATE = 1e-4
_LEAST_GAIN = 0.01
"""Least relative fall of the validation error: few lines decide, so a smaller one may be chance."""

_AVERAGE_DECAY = 0.95
_CLIP = 1.0
_WARM_UP = 10
_ROWS = 64
_CHECKS, _LEAST_BETWEEN = 10, 10
_PATIENCE = 4
_VALIDATED_SLICES = 8
_VALIDATION, _TRAINING, _BAND = 0, 1, 2  # kinds of random numbers


@dataclass(frozen=True)
class Split:
    """Hold the parts of a mask.

    Attributes:
        seen: lines that training uses, for the network's input or the loss; the fully sampled centre is here.
        validation: the other lines, for the choice of the weights alone.
        keep: columns (positions, of a pattern) that stay in the network's input at every step.
        seed: seed of all splits.
    """

    seen: Mask
    validation: Mask
    keep: BoolArray
    seed: int

    def step(self, number: int) -> tuple[Mask, Mask]:
        """Split `seen` for a step into the lines of the network's input and those of the loss."""
        return split_mask(self.seen, _LOSS_SHARE, self.generator(number), keep=self.keep)

    def generator(self, number: int) -> np.random.Generator:
        """Return the random numbers of a step."""
        return np.random.default_rng([self.seed, _TRAINING, number])


def fixed_split(kspace: Tensor, mask: Mask, *, seed: int) -> Split:
    """Set the validation lines of a scan aside.

    Args:
        kspace: complex `(slice, coil, readout, phase)`; it tells where the echo is, whose lines serve for the maps.
        mask: its sampling mask.
        seed: seed of the splits.

    Raises:
        MaskError: no fully sampled centre, or fewer than `LEAST_OUTSIDE` lines outside it.
    """
    keep = center_samples(mask, at=echo_center(kspace, mask))
    found = num_outside(mask, keep=keep)
    if found < LEAST_OUTSIDE:
        what = "lines" if isinstance(mask, ColumnMask) else "positions"
        raise MaskError(
            f"adapt: expected at least {LEAST_OUTSIDE} sampled {what} outside the fully sampled centre to learn from, "
            f"got {found}: sample more, or leave adapt out"
        )
    seen, validation = split_mask(mask, _VALIDATION_SHARE, np.random.default_rng([seed, _VALIDATION]), keep=keep)
    return Split(seen, validation, keep, seed)


def adapt_network(
    network: nn.Module,
    kspace: Tensor,
    mask: Mask,
    maps: Tensor,
    *,
    steps: int,
    seed: int = 0,
    sigma: float | None = None,
    learning_rate: float | None = None,
    least_gain: float | None = None,
    on_step: Callable[[int], None] | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Adapt a copy of a network to a scan; the network itself does not change.

        loss = ||y - A x||_1 / ||y||_1 + ||y - A x||_2 / ||y||_2

    over the lines y of the loss, x the network's image from the other lines. Steps of Adam cycle through the slices. Of
    a column mask, a step takes a band of 64 readout rows, because columns alias along the phase axis only. The weights
    are averaged over the steps. The average is judged by the same error on the validation lines, of at most 8
    slices, and the best one is kept if its error is at least 1 % lower than that of the given weights. Steps end early
    if the error has not improved four times in a row.

    Args:
        network: see `inference.run_network`; in evaluation mode.
        kspace: complex `(slice, coil, readout, phase)`, zero where not sampled.
        mask: its sampling mask.
        maps: coil sensitivities with the smooth phase of the image, like `kspace` (`inference.network_measurement`).
        steps: largest number of steps.
        seed: seed of the splits and of the bands. Equal seeds give equal weights on the same machine and threads.
        sigma: noise sqrt(E|n|^2) of one sample; estimated from the lines of training when absent.
        learning_rate: of Adam, after a warm-up of 10 steps; 1e-4 when absent.
        least_gain: least relative fall of the validation error for which the adapted copy is used; 0.01 when absent.
        on_step: called after every step with its number; an exception from it stops the work.

    Returns:
        the adapted copy, or `network` itself where no step predicts the validation lines clearly better; and a report:
        `steps` done, `kept_step` (0: the given weights), `validation_before` and `validation_after`, the errors of the
        given and the kept weights on the validation lines, `lines` of each part, `seed`, `seconds`.

    Raises:
        MaskError: as `fixed_split`.
        MethodError: a loss that is not finite.
    """
    start = time.perf_counter()
    split = fixed_split(kspace, mask, seed=seed)
    # A caller may be in inference mode, whose tensors know no gradients: compute with copies outside it.
    with torch.inference_mode(False), torch.enable_grad():
        scan = _Scan.of(kspace.clone(), maps.clone(), split, sigma)
        learner = _Learner.of(network, scan, _LEARNING_RATE if learning_rate is None else learning_rate)
        best, kept, before = None, 0, learner.validation_error()
        lowest, misses, done = before, 0, 0
        between = max(_LEAST_BETWEEN, math.ceil(steps / _CHECKS))
        while done < steps and misses < _PATIENCE:
            done += 1
            learner.step(done)
            if on_step is not None:
                on_step(done)
            if done % between and done < steps:
                continue
            error = learner.validation_error()
            if error < lowest:
                best, kept, lowest, misses = copy.deepcopy(learner.average), done, error, 0
            else:
                misses += 1
    least = _LEAST_GAIN if least_gain is None else least_gain
    if best is None or lowest > (1 - least) * before:
        best, kept = None, 0
    report = {
        "steps": done,
        "kept_step": kept,
        "validation_before": before,
        "validation_after": lowest if kept else before,
        "lines": split_sizes(split),
        "seed": seed,
        "seconds": time.perf_counter() - start,
    }
    return network if best is None else best, report


def split_sizes(split: Split) -> dict[str, int]:
    """Count the lines (positions, of a pattern) of each part: `input` with the centre, `loss` and `validation`."""
    given, judged = split.step(1)
    parts = {"input": given, "loss": judged, "validation": split.validation}
    return {name: int(np.count_nonzero(part.array)) for name, part in parts.items()}


@dataclass(frozen=True)
class _Scan:
    """Hold a scan and the split of its lines; makes the network's input and the samples to judge it by."""

    kspace: Tensor
    maps: Tensor
    split: Split
    sigma: Tensor

    @classmethod
    def of(cls, kspace: Tensor, maps: Tensor, split: Split, sigma: float | None) -> _Scan:
        if sigma is None:
            level = sigma_from_below(undersample(kspace, split.seen), split.seen)
        else:
            level = torch.full((len(kspace), 1, 1), float(sigma), dtype=kspace.real.dtype, device=kspace.device)
        return cls(kspace, maps, split, level)

    def scaled(self, number: int, given: Mask, judged: Mask) -> tuple[Measurement, Measurement, int]:
        """Return the network's input and the samples to judge it by of a slice, scaled, and the margin."""
        one = slice(number, number + 1)
        kspace, maps = self.kspace[one], self.maps[one]
        inputs, samples = (
            measure(undersample(kspace, part), part.tensor(kspace.device), maps, level)
            for part, level in ((given, self.sigma[one]), (judged, None))
        )
        zero_filled = inputs.adjoint()
        scale = image_scale(zero_filled)
        return inputs.scaled(scale), samples.scaled(scale), wrap_margin(zero_filled)


@dataclass(frozen=True)
class _Learner:
    """Train a copy of a network on a scan, and average its weights."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    scan: _Scan
    validated: Sequence[int]
    learning_rate: float

    @classmethod
    def of(cls, network: nn.Module, scan: _Scan, learning_rate: float) -> _Learner:
        copied = copy.deepcopy(network).requires_grad_(True)
        count = len(scan.kspace)
        places = np.linspace(0, count - 1, min(count, _VALIDATED_SLICES))
        return cls(
            copied,
            copy.deepcopy(network).requires_grad_(False),
            torch.optim.Adam(copied.parameters(), lr=learning_rate),
            scan,
            [round(place) for place in places],
            learning_rate,
        )

    def step(self, number: int) -> None:
        """Take step `number`, from 1."""
        given, judged = self.scan.split.step(number)
        inputs, samples, margin = self.scan.scaled((number - 1) % len(self.scan.kspace), given, judged)
        height = int(inputs.samples.shape[-2])
        if inputs.dims == (-1,) and height > _ROWS:
            rng = np.random.default_rng([self.scan.split.seed, _BAND, number])
            first = int(rng.integers(height - _ROWS + 1))
            inputs, samples = (part.rows(slice(first, first + _ROWS)) for part in (inputs, samples))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * min(1.0, number / _WARM_UP)
        self.optimizer.zero_grad(set_to_none=True)
        loss = held_out_loss(run_network(self.network, inputs, margin), samples)
        if not bool(torch.isfinite(loss)):
            raise MethodError(
                f"adapt: expected a finite loss, got {loss.detach().item()} at step {number}: leave adapt out"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)
        self.optimizer.step()
        # The memory is shorter at the start, where an average over the first weights would only delay.
        decay = min(_AVERAGE_DECAY, (1 + number) / (10 + number))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)

    @torch.no_grad()
    def validation_error(self) -> float:
        """Compute the mean error of the averaged weights on the validation lines."""
        split, errors = self.scan.split, []
        for number in self.validated:
            inputs, samples, margin = self.scan.scaled(number, split.seen, split.validation)
            errors.append(float(held_out_loss(run_network(self.average, inputs, margin), samples)))
        return math.fsum(errors) / len(errors)
