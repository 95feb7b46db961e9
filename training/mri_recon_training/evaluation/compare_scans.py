"""Compare methods on scans: every scan with a truth, every acceleration, every mask.

A scan without a truth (prospectively undersampled) is left out of the metrics, and the result says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mri_recon.errors import DataError
from mri_recon.io import Scan
from mri_recon.io.masks import choose_mask
from mri_recon.masks.types import Mask
from mri_recon.results.comparison import check_methods, compare
from mri_recon.results.summary import estimate_noise
from mri_recon_training.evaluation.config import SimulatedArray
from mri_recon_training.evaluation.results import Evaluation
from mri_recon_training.evaluation.resume import FinishedComparisons
from mri_recon_training.evaluation.sources import Source
from mri_recon_training.evaluation.weight_by_snr import rows_by_snr

__all__ = ["Masks", "evaluate_scans"]


@dataclass(frozen=True)
class Masks:
    """Undersampling masks of an evaluation.

    Attributes:
        accelerations: requested R.
        seeds: one mask each.
        curve: further R.
        curve_seeds: masks at those.
        part_seeds: masks of scans that are parts of one file, at every R; None: as other scans.
        center_fraction: of the fully sampled centre; None: the default of each R.
        num_low_frequencies: the centre as a number of columns.
    """

    accelerations: Sequence[float]
    seeds: Sequence[int] = (0,)
    center_fraction: float | None = None
    num_low_frequencies: int | None = None
    curve: Sequence[float] = ()
    curve_seeds: Sequence[int] = (0,)
    part_seeds: Sequence[int] | None = None

    def choose(self, scan: Scan, acceleration: float, seed: int) -> Mask:
        """Choose the mask of a scan at one acceleration with one seed.

        Raises:
            MaskError: as `choose_mask`.
        """
        return choose_mask(
            scan,
            acceleration=acceleration,
            center_fraction=self.center_fraction,
            num_low_frequencies=self.num_low_frequencies,
            seed=seed,
        )

    def cases(self, source: Source) -> Iterator[tuple[float, int]]:
        """Yield the accelerations and seeds at which a scan is measured."""
        for acceleration in sorted({*self.accelerations, *self.curve}):
            seeds = self.seeds if acceleration in self.accelerations else self.curve_seeds
            if source.is_part and self.part_seeds is not None:
                seeds = self.part_seeds
            for seed in seeds:
                yield acceleration, seed


def evaluate_scans(
    sources: Sequence[Source],
    masks: Masks,
    *,
    split: str,
    methods: Sequence[str],
    options: Mapping[str, Mapping[str, Any]] | None = None,
    device: str | torch.device | None = None,
    foreground: bool = False,
    kind: str = "raw",
    array: SimulatedArray | None = None,
    done: FinishedComparisons | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Compare the methods on every scan that has a truth, at every acceleration and with every seed.

    Scans of several coils have rows of the classical methods with their weight by SNR too, see `weight_by_snr`.

    Args:
        sources: the scans.
        masks: accelerations and seeds; all methods see the same masks.
        split: name of their split.
        methods: names of methods.
        options: method to its options.
        device: to compute on.
        foreground: measure again with the background masked.
        kind: "raw", "phantom" or "simulated".
        array: of simulated scans.
        done: comparisons found there are not repeated; new ones are put there.
        report: called with a text before each comparison.

    Raises:
        DataError: no scan has a truth.
        MethodError, MaskError: as `compare` and `choose_mask`.
    """
    check_methods(methods, options or {})
    store = FinishedComparisons(None, {}) if done is None else done
    result = Evaluation(split=split, kind=kind, array=array)
    for source in sources:
        if not source.has_truth:
            result.left_out[source.name] = "prospectively undersampled: no truth, so no metrics"
            continue
        scan = _scan_with_reference(source)
        result.persons[source.name] = source.person
        result.labels[source.name] = source.label or source.name
        result.worlds[source.name] = source.world
        if source.is_part:
            result.parts.append(source.name)
        result.shapes[source.name] = tuple(scan.kspace.shape)
        snr = _estimated_snr(scan) if array is None else array.snr
        if snr is not None:
            result.snrs[source.name] = snr
        for acceleration, seed in masks.cases(source):
            found = store.get(source.name, acceleration, seed)
            if found is None:
                report(f"{source.name}, R = {acceleration:g}, seed {seed}")
                mask = masks.choose(scan, acceleration, seed)
                made = compare(
                    scan, mask, methods, device=device, options=options, file=source.name, foreground=foreground
                )
                tuned = rows_by_snr(
                    scan,
                    mask,
                    acceleration,
                    methods=methods,
                    options=options,
                    device=device,
                    file=source.name,
                    foreground=foreground,
                )
                found = {"rows": [*made.rows, *tuned], "receipt": made.receipt, "target_source": made.target_source}
                store.put(source.name, acceleration, seed, found)
            result.target_source = found["target_source"]
            result.rows.extend(found["rows"])
            result.receipts.append({"file": source.name, **found["receipt"]})
    if not result.rows:
        raise DataError(f"expected scans with a truth in the split {split!r}, got none: choose another split")
    return result


def _scan_with_reference(source: Source) -> Scan:
    scan = source.load()
    if scan.target is None:
        raise DataError(f"{source.name}: expected a scan with a reference, got none: register it as not fully sampled")
    return scan


def _estimated_snr(scan: Scan) -> float | None:
    """Estimate the SNR of a scan by `worlds.SNR_RULE`; None where its noise is not known."""
    noise = estimate_noise(scan)
    if noise is None or not noise.sigma or scan.target is None:
        return None
    return float(np.percentile(scan.target.numpy(), 99.5)) / (noise.sigma / 2**0.5)
