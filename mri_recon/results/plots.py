"""Give every plot of the pages one look: white ground, thin grid, colours that colour-blind readers tell apart.

Drawn with Matplotlib's objects alone, never `pyplot`: no global state. Pictures of images are in
`mri_recon.results.figure`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mri_recon._system.files import write_atomically
from mri_recon.errors import MethodError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FURTHER", "LINES", "MAX_BYTES", "Line", "dress", "new_plot", "png", "save_plot"]

MAX_BYTES = 300_000
"""Largest size of a PNG."""

_DPI = 130


@dataclass(frozen=True)
class Line:
    """Hold the look of one line: colour, marker and dashes, which say the same three times.

    Attributes:
        colour: one of Okabe and Ito's colours, or gray.
        marker: Matplotlib's sign of a marker.
        dashes: Matplotlib's sign of a line style.
    """

    colour: str
    marker: str = "o"
    dashes: str = "-"

    def options(self) -> dict[str, Any]:
        """Return the arguments of `Axes.plot`."""
        look = {"color": self.colour, "marker": self.marker, "linestyle": self.dashes}
        return look | {"linewidth": 1.5, "markersize": 4.5}


LINES = {
    "zero-filled": Line("#7f7f7f", "v", ":"),
    "cg-sense": Line("#e69f00", "s", "--"),
    "cg-sense by SNR": Line("#f0c75e", "<", "-."),
    "cs-wavelet": Line("#0072b2", "D", "--"),
    "cs-wavelet by SNR": Line("#56b4e9", "d", "-."),
    "unet": Line("#009e73", "^"),
    "unrolled": Line("#d55e00", "o"),
    "ours": Line("#d55e00", "o"),
    "bart": Line("#0072b2", "s", "--"),
    "sigpy": Line("#009e73", "^", "-."),
    "wall": Line("#d55e00", "o"),
    "processor": Line("#0072b2", "s", "--"),
}
"""Lines of methods, of packages compared, and of what a clock counts: the same in every plot."""

FURTHER = (Line("#cc79a7", "P"), Line("#000000", "*"))
"""Lines of anything else, to be taken in turns."""


def new_plot(rows: int, columns: int, *, panel: tuple[float, float], **shared: Any) -> tuple[Figure, Any]:
    """Make a figure with dressed panels.

    Args:
        rows: number of rows of panels.
        columns: number of columns.
        panel: width and height of a panel, inches.
        shared: `sharex` and `sharey`, as of Matplotlib's `subplots`.

    Returns:
        the figure, and the panels as an array `(rows, columns)`.

    Raises:
        MethodError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MethodError("a plot needs Matplotlib, which is not installed: pip install 'mri-recon[plot]'") from error
    figure = Figure(
        figsize=(panel[0] * columns, panel[1] * rows), dpi=_DPI, layout="constrained", facecolor="white"
    )  # white, not transparent: black letters stay readable on a dark page
    panels = figure.subplots(rows, columns, squeeze=False, **shared)
    for axes in panels.flat:
        dress(axes)
    return figure, panels


def dress(axes: Axes) -> None:
    """Draw a thin grid behind the data, and no frame at the top and the right."""
    axes.grid(color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def png(figure: Figure) -> bytes:
    """Return a PNG of at most `MAX_BYTES`: with fewer dots an inch where it would be larger, down to half of them."""
    content = b""
    for share in (1.0, 0.75, 0.5):
        packed = io.BytesIO()
        figure.savefig(packed, format="png", dpi=_DPI * share)
        content = packed.getvalue()
        if len(content) <= MAX_BYTES:
            break
    return content


def save_plot(figure: Figure, path: str | Path) -> None:
    """Write a PNG of at most `MAX_BYTES`.

    Raises:
        OutputError: `path` cannot be written.
    """
    write_atomically(path, png(figure))
