"""Collect the uncertainties of a scan, for the results computed from it."""

from __future__ import annotations

from mri_recon.io import Scan
from mri_recon.io.writers.result import SIMULATED

__all__ = ["scan_warnings"]


def scan_warnings(scan: Scan) -> list[str]:
    """List the problems of a scan: simulation, findings of its reader, data crimes and assumptions, each with advice.

    Empty slices are left out: `reconstruct` warns of them.
    """
    made = [SIMULATED] if scan.meta.get("simulated") else []
    assumed = [] if scan.axes_warning is None else [scan.axes_warning]
    crimes = [crime.sentence for crime in scan.data_crimes]
    echo = [] if scan.echo is None else scan.echo.warnings()
    return [*made, *scan.meta.get("reader_warnings", ()), *assumed, *crimes, *echo]
