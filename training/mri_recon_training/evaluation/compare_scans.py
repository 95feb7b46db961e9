"""Compare methods on scans: every scan with a truth, every acceleration, every mask.

A scan without a truth (prospectively undersampled) is left out of the metrics, and the result says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mri_recon.errors import DataError
from mri_recon.io import Scan
from mri_recon.io.masks import choose_mask
from mri_recon.masks.types import Mask
from mri_recon.results.comparison import check_methods, compare
from mri_recon_training.evaluation.results import Evaluation
from mri_recon_training.evaluation.resume import FinishedComparisons
from mri_recon_training.evaluation.sources import Source

__all__ = ["Masks", "evaluate_scans"]


@dataclass(frozen=True)
class Masks:
    """Undersampling masks of an evaluation.

    Attributes:
        accelerations: requested R.
        seeds: one mask each.
        center_fraction: of the fully sampled centre; None: the default of each R.
        num_low_frequencies: the centre as a number of columns.
    """

    accelerations: Sequence[float]
    seeds: Sequence[int] = (0,)
    center_fraction: float | None = None
    num_low_frequencies: int | None = None

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

    def cases(self) -> Iterator[tuple[float, int]]:
        """Give every acceleration with every seed."""
        return ((acceleration, seed) for acceleration in self.accelerations for seed in self.seeds)


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
    num_coils: int | None = None,
    done: FinishedComparisons | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Compare the methods on every scan that has a truth, at every acceleration and with every seed.

    Args:
        sources: the scans.
        masks: accelerations and seeds; all methods see the same masks.
        split: name of their split.
        methods: names of methods.
        options: method to its options.
        device: to compute on.
        foreground: measure again with the background masked.
        kind: "raw" or "simulated".
        num_coils: of simulated scans.
        done: comparisons found there are not repeated; new ones are put there.
        report: called with a text before each comparison.

    Raises:
        DataError: no scan has a truth.
        MethodError, MaskError: as `compare` and `choose_mask`.
    """
    check_methods(methods, options or {})
    store = FinishedComparisons(None, {}) if done is None else done
    result = Evaluation(split=split, kind=kind, num_coils=num_coils)
    for source in sources:
        if not source.has_truth:
            result.left_out[source.name] = "prospectively undersampled: no truth, so no metrics"
            continue
        scan = _scan_with_reference(source)
        result.persons[source.name] = source.person
        result.labels[source.name] = source.label or source.name
        result.shapes[source.name] = tuple(scan.kspace.shape)
        for acceleration, seed in masks.cases():
            found = store.get(source.name, acceleration, seed)
            if found is None:
                report(f"{source.name}, R = {acceleration:g}, seed {seed}")
                mask = masks.choose(scan, acceleration, seed)
                made = compare(
                    scan, mask, methods, device=device, options=options, file=source.name, foreground=foreground
                )
                found = {"rows": made.rows, "receipt": made.receipt, "target_source": made.target_source}
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
