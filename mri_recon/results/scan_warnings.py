"""What is uncertain about a scan, for the results that are made of it."""

from __future__ import annotations

import torch

from mri_recon.io import Scan
from mri_recon.masks.echo import echo_warnings

__all__ = ["scan_warnings"]


def scan_warnings(scan: Scan) -> list[str]:
    """Say what looks wrong with a scan, what its reader found and what was assumed; and what to do.

    Empty slices are not among it: `reconstruct` speaks of them.
    """
    assumed = [] if scan.axes_warning is None else [scan.axes_warning]
    return [*scan.meta.get("reader_warnings", ()), *assumed, *echo_warnings(scan.kspace, torch.as_tensor(scan.support))]
