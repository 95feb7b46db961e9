"""Tune the classical methods as hard as the networks: their weight from the noise of the scan, by a rule.

With several coils one weight does not serve every noise: it holds back the noise that unfolding amplifies. The rule is

    weight = weight_40 (SNR / 40)^a (R / 4)^b,

SNR as `undersampled_snr` estimates it from the undersampled scan alone, R the requested acceleration. `weight_40`, a
and b are the best in the mean over validation scans of 8 and 16 coils (`benchmarks/classical/weight_by_snr.py`). With
one coil the automatic weight of `cs-wavelet` is within 0.1 dB of the best, and CG-SENSE is the zero-filled image
whatever its weight: there is no rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mri_recon.coils.combine import rss
from mri_recon.coils.noise import estimate_sigma
from mri_recon.errors import FormatError
from mri_recon.io import Scan
from mri_recon.masks.convert import undersample
from mri_recon.masks.types import Mask
from mri_recon.results.comparison import compare
from mri_recon.transforms.fourier import ifft2c

__all__ = ["RULES", "WeightRule", "options_by_snr", "rows_by_snr", "undersampled_snr"]

_RANGE = (1e-4, 1.0)
_PERCENTILE = 0.995


@dataclass(frozen=True)
class WeightRule:
    """Rule for the weight of one method.

    Attributes:
        method: that takes the weight as `reg_weight`.
        weight: at SNR 40 and R = 4.
        snr_power: a.
        acceleration_power: b.
    """

    method: str
    weight: float
    snr_power: float
    acceleration_power: float

    def __call__(self, snr: float, acceleration: float) -> float:
        """Compute the weight, within 1e-4 and 1."""
        scale = math.pow(snr / 40, self.snr_power) * math.pow(acceleration / 4, self.acceleration_power)
        return min(max(self.weight * scale, _RANGE[0]), _RANGE[1])


RULES: Mapping[str, WeightRule] = {
    "cg-sense by SNR": WeightRule("cg-sense", 0.03, -1.25, -0.75),
    "cs-wavelet by SNR": WeightRule("cs-wavelet", 0.08, -0.75, -1.25),
}
"""The rules by the name under which their results stand in tables."""


def undersampled_snr(kspace: Tensor, mask: Mask) -> float | None:
    """Estimate the SNR of a scan from its undersampled k-space; None where it holds no noise.

    The 99.5th percentile of the zero-filled root sum of squares over the standard deviation of the noise's real part.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: its mask.
    """
    try:
        sigma = float(estimate_sigma(kspace, mask).sigma.median())
    except FormatError:
        return None
    bright = rss(ifft2c(kspace)).flatten()[:: max(1, kspace[:, 0].numel() // 1_000_000)]
    return float(torch.quantile(bright, _PERCENTILE)) / (sigma / 2**0.5)


def options_by_snr(scan: Scan, mask: Mask, acceleration: float) -> dict[str, dict[str, float]]:
    """Compute the weights of a scan by the rules: name of the rule to its options; none with one coil or no noise."""
    if scan.num_coils == 1:
        return {}
    snr = undersampled_snr(undersample(scan.kspace, mask), mask)
    return {} if snr is None else {name: {"reg_weight": rule(snr, acceleration)} for name, rule in RULES.items()}


def rows_by_snr(
    scan: Scan,
    mask: Mask,
    acceleration: float,
    *,
    methods: Sequence[str],
    options: Mapping[str, Mapping[str, Any]] | None = None,
    **given: Any,
) -> list[dict[str, Any]]:
    """Measure the methods of the rules once more with their weight by SNR.

    Rows are as of `compare`, under the rules' names.

    Args:
        scan: with a reference.
        mask: the mask.
        acceleration: requested.
        methods: rules of other methods are left out.
        options: method to its options; a method whose weight is given has no rule.
        **given: passed on to `compare`.
    """
    rows = []
    for name, weight in options_by_snr(scan, mask, acceleration).items():
        method = RULES[name].method
        own = dict((options or {}).get(method, {}))
        if method in methods and "reg_weight" not in own:
            made = compare(scan, mask, [method], options={method: {**own, **weight}}, **given)
            rows += [{**row, "method": name} for row in made.rows]
    return rows
