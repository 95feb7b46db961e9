"""What is uncertain about a scan, for the results that are made of it, and what several results warn of."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from mri_recon.echo import echo_warnings
from mri_recon.io import Scan
from mri_recon.methods import Reconstruction

__all__ = ["all_warnings", "scan_warnings"]


def scan_warnings(scan: Scan) -> list[str]:
    """Say what looks wrong with a scan, or was assumed of it, before anything is reconstructed; and what to do.

    Empty slices are not among it: `reconstruct` speaks of them.
    """
    assumed = [] if scan.axes_warning is None else [scan.axes_warning]
    return [*assumed, *echo_warnings(scan.kspace, torch.as_tensor(scan.support))]


def all_warnings(results: Iterable[Reconstruction]) -> list[str]:
    """The warnings of several results, each once; one that not all of them share names its methods."""
    methods: dict[str, list[str]] = {}
    count = 0
    for result in results:
        count += 1
        for text in dict.fromkeys(result.info.get("warnings", [])):
            methods.setdefault(text, []).append(result.method)
    return [text if len(names) == count else f"{', '.join(names)}: {text}" for text, names in methods.items()]
