"""Collect what is uncertain about a scan, for the results that are made of it."""

from __future__ import annotations

from mri_recon.io import Scan
from mri_recon.masks.echo import echo_warnings

__all__ = ["scan_warnings"]


def scan_warnings(scan: Scan) -> list[str]:
    """List what looks wrong with a scan, what its reader found and what was assumed, each with what to do.

    Empty slices are left out: `reconstruct` warns of them.
    """
    assumed = [] if scan.axes_warning is None else [scan.axes_warning]
    return [*scan.meta.get("reader_warnings", ()), *assumed, *echo_warnings(scan.samples, scan.support)]
