"""Draw a comparison: the reference, each method, its error on a common scale, and its metrics.

The module avoids Matplotlib's `pyplot`, which has global state, so that a server may draw in any thread.
"""

from __future__ import annotations

import io
import math
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mri_recon._system.files import write_atomically
from mri_recon._system.outputs import FIGURE_SUFFIXES, check_suffix
from mri_recon._system.text import printable
from mri_recon.errors import MethodError, ShapeError
from mri_recon.io.pictures import NO_PICTURES, require_pictures_allowed
from mri_recon.masks.caption import mask_caption
from mri_recon.masks.types import PatternMask
from mri_recon.notice import RESEARCH_ONLY
from mri_recon.results.comparison import Comparison
from mri_recon.results.trust import trust_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MAX_BYTES", "comparison_figure", "draw_comparison"]

MAX_BYTES = 300_000
"""Largest size of a PNG in bytes. The resolution is lowered until the PNG fits."""

_PALETTES = ((128, 80), (80, 56), (56, 40), (40, 28))  # levels of gray and of error, finest first
_SHRINK = (1.0, 0.85, 0.7, 0.55, 0.4)
_WINDOW_PERCENTILE = 99.0
_ERROR_PERCENTILE = 99.5
_BACKGROUND, _TEXT, _MUTED, _ACCENT, _EDGE = "#0f1115", "#f2f2f2", "#a3a9b3", "#f0b35a", "#2b2f36"
_IMAGE_MAP, _ERROR_MAP = "gray", "inferno"
_LABELS = {
    "zero-filled": "Zero-filled",
    "cg-sense": "CG-SENSE",
    "cs-wavelet": "CS wavelet",
    "unet": "U-Net",
    "unrolled": "Unrolled",
    "auto": "Auto",
}
_PANEL = (2.5, 3.6)  # largest width and height of a panel, inches
_CELL = 2.1  # smallest width of a column: the metrics must fit under a narrow panel
_SMALL = 7.5  # points
_SMALL_PER_INCH = 17  # characters of that size per inch, for wrapping

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Panels:
    """Hold the numbers to draw: one slice of each image, the errors, and their common scales."""

    reference: FloatArray | None
    images: dict[str, FloatArray]
    errors: dict[str, FloatArray]  # per cent of the reference's maximum
    trust: dict[str, FloatArray]  # the same; without a reference, of the largest value of all images
    window: float
    error_limit: float


@dataclass(frozen=True)
class _Layout:
    """Place the parts of the figure, in inches from the upper left corner.

    Panels start on whole dots, and a pixel of the image is a whole number of dots, so that all pixels have the same
    width.
    """

    columns: int
    rows: int
    panel: tuple[float, float]
    dpi: float
    footer_lines: int = 1
    margin: float = 0.3
    gap: float = 0.12
    header: float = 0.98
    captions: float = 0.5
    bar: float = 0.72

    @classmethod
    def of(cls, size: tuple[int, int], *, columns: int, rows: int) -> _Layout:
        """Choose the layout for images of `size` (h, w), and rows of errors or maps of trust under them."""
        height, width = size
        inches = min(_PANEL[0] / width, _PANEL[1] / height)  # an image pixel, square
        dots = max(1, int(210 * inches))  # the number of whole dots for each pixel at about 210 dots per inch
        return cls(
            columns=columns,
            rows=rows,
            panel=(width * inches, height * inches),
            dpi=dots / inches,
            bar=0.72 if rows > 1 else 0.0,
        )

    @property
    def cell(self) -> float:
        """Width of a column."""
        return max(self.panel[0], _CELL)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure."""
        used = self.columns * self.cell + (self.columns - 1) * self.gap
        width = max(2 * self.margin + used + self.bar, 7.2)
        height = self.header + self.rows * self.panel[1] + (self.rows - 1) * self.gap + self.captions
        return self.snap(width), self.snap(height + 0.5 + 0.17 * self.footer_lines)

    def snap(self, inches: float) -> float:
        """Round a length to whole dots."""
        return round(inches * self.dpi) / self.dpi

    def box(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Give left, bottom, width and height of a panel as fractions of the figure."""
        width, height = self.size
        left = self.snap(self.margin + column * (self.cell + self.gap) + (self.cell - self.panel[0]) / 2)
        top = self.snap(self.header + row * (self.panel[1] + self.gap))
        return left / width, 1 - (top + self.panel[1]) / height, self.panel[0] / width, self.panel[1] / height

    def x(self, inches: float) -> float:
        """Convert a width to a fraction of the figure."""
        return inches / self.size[0]

    def y(self, inches: float) -> float:
        """Convert a distance from the top to a fraction of the figure, counted from its bottom."""
        return 1 - inches / self.size[1]


def comparison_figure(
    comparison: Comparison, path: str | Path | io.BufferedIOBase, *, slice_index: int | None = None
) -> None:
    """Draw a comparison and save it as PNG, PDF or SVG.

    Args:
        comparison: result of `compare`.
        path: where to write; the suffix selects the format, `.png` (of at most `MAX_BYTES`), `.pdf` or `.svg`. An open
            binary file receives a PNG.
        slice_index: number of the slice to show; None is the middle one.

    Raises:
        ShapeError: no such slice.
        MethodError: Matplotlib is not installed.
        DataError: pictures of the scan are forbidden.
        OutputError: unknown suffix, or `path` cannot be written.
    """
    if not isinstance(path, str | Path):
        path.write(_png(draw_comparison(comparison, slice_index=slice_index)))
        return
    check_suffix(path, FIGURE_SUFFIXES)
    figure = draw_comparison(comparison, slice_index=slice_index)
    suffix = Path(path).suffix.lower()
    write_atomically(path, _png(figure) if suffix == ".png" else _vectors(figure, suffix[1:]))


def draw_comparison(comparison: Comparison, *, slice_index: int | None = None) -> Figure:
    """Draw the picture as a Matplotlib figure; see `comparison_figure`."""
    require_pictures_allowed({NO_PICTURES: comparison.no_pictures, "file": comparison.file}, what="a comparison of it")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MethodError(
            "a picture needs Matplotlib, which is not installed: pip install 'mri-recon[plot]', or leave the figure out"
        ) from error
    index = _checked_slice(comparison, slice_index)
    panels = _panels(comparison, index)
    size = next(iter(panels.images.values())).shape
    trust_row = 1 + bool(panels.errors)
    layout = _Layout.of((size[0], size[1]), columns=len(panels.images) + 1, rows=trust_row + bool(panels.trust))
    room = int((layout.size[0] - 2 * layout.margin) * _SMALL_PER_INCH)
    warned = [line for text in comparison.warnings for line in textwrap.wrap(text, room)]
    trusted = [line for text in trust_lines(comparison.rows) for line in textwrap.wrap(text, room)]
    footer = [*warned, *trusted, *textwrap.wrap(_scales(comparison, panels), room)]
    layout = replace(layout, footer_lines=len(footer))
    figure = Figure(figsize=layout.size, dpi=layout.dpi, facecolor=_BACKGROUND)
    _draw_header(figure, layout, comparison, index)
    if panels.reference is not None:
        _draw_image(figure, layout, 0, panels.reference, "Reference", panels.window)
    _draw_mask(figure, layout, comparison)
    if panels.trust:
        _draw_legend(figure, layout, trust_row)
    for column, (name, image) in enumerate(panels.images.items(), start=1):
        _draw_image(figure, layout, column, image, _LABELS.get(name, name), panels.window)
        if name in panels.errors:
            _draw_error(figure, layout, 1, column, panels.errors[name], panels.error_limit, "|error|")
        if name in panels.trust:
            _draw_error(figure, layout, trust_row, column, panels.trust[name], panels.error_limit, "expected error")
        _caption(figure, layout, column, *_measured(_row_of(comparison, name)))
    for line, text in enumerate([*footer, RESEARCH_ONLY]):
        figure.text(
            layout.x(layout.margin),
            layout.y(layout.size[1] - 0.32 - 0.17 * (len(footer) - line)),
            text,
            color=_ACCENT if text == RESEARCH_ONLY or line < len(warned) else _MUTED,
            fontsize=_SMALL,
            va="top",
            parse_math=False,  # a warning names files and units
        )
    for shown in figure.texts:
        shown.set_parse_math(False)  # two dollar signs in a file's name are not a formula
    return figure


def _checked_slice(comparison: Comparison, slice_index: int | None) -> int:
    count = int(next(iter(comparison.reconstructions.values())).image.shape[0])
    if slice_index is None:
        return count // 2
    if not 0 <= slice_index < count:
        raise ShapeError(
            f"expected a slice between 0 and {count - 1}, got {slice_index}: choose one of the {count} slices"
        )
    return slice_index


def _panels(comparison: Comparison, index: int) -> _Panels:
    images = {name: _array(comparison.magnitude(name)[index]) for name in comparison.reconstructions}
    maps = {name: comparison.trust_map(name) for name in comparison.reconstructions}
    known = {name: _array(one[index]) for name, one in maps.items() if one is not None}
    if comparison.target is None:
        window = max(float(np.percentile(image, _WINDOW_PERCENTILE)) for image in images.values())
        largest = max(float(image.max()) for image in images.values()) or 1.0
        trust = {name: 100 * one / np.float32(largest) for name, one in known.items()}
        return _Panels(None, images, {}, trust, window=window or 1.0, error_limit=_limit(trust))
    reference = _array(comparison.target[index])
    peak = float(comparison.target.max()) or 1.0
    errors = {name: 100 * np.abs(image - reference) / np.float32(peak) for name, image in images.items()}
    return _Panels(
        reference=reference,
        images=images,
        errors=errors,
        trust={name: 100 * one / np.float32(peak) for name, one in known.items()},
        window=float(np.percentile(reference, _WINDOW_PERCENTILE)) or 1.0,
        error_limit=_limit(errors),
    )


def _limit(shown: dict[str, FloatArray]) -> float:
    return _round_up(max((float(np.percentile(one, _ERROR_PERCENTILE)) for one in shown.values()), default=1.0))


def _array(image: Any) -> FloatArray:
    return np.asarray(image.detach().cpu().numpy(), dtype=np.float32)


def _round_up(value: float) -> float:
    """Round up to 1, 1.5, 2, 2.5, 3, 4, 5, 6 or 8 times a power of ten, for a readable scale."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return power * next(step for step in steps if value <= step * power * (1 + 1e-9))


def _axes(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    axes = figure.add_axes(box, facecolor="black")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=_EDGE, linewidth=0.6)
    return axes


def _heading(figure: Figure, layout: _Layout, column: int, text: str) -> None:
    left, bottom, width, height = layout.box(0, column)
    above = bottom + height + 0.06 / layout.size[1]
    figure.text(left + width / 2, above, text, color=_TEXT, fontsize=11, fontweight="bold", ha="center", va="bottom")


def _draw_image(figure: Figure, layout: _Layout, column: int, image: FloatArray, label: str, window: float) -> None:
    _axes(figure, layout.box(0, column)).imshow(image, cmap=_IMAGE_MAP, vmin=0.0, vmax=window)
    _heading(figure, layout, column, label)


def _draw_error(
    figure: Figure, layout: _Layout, row: int, column: int, error: FloatArray, limit: float, label: str
) -> None:
    box = layout.box(row, column)
    drawn = _axes(figure, box).imshow(error, cmap=_ERROR_MAP, vmin=0.0, vmax=limit)
    if column < layout.columns - 1:
        return
    # One bar at the right end serves the whole row, because its panels share a scale.
    axes = figure.add_axes((box[0] + box[2] + layout.x(0.12), box[1], layout.x(0.11), box[3]))
    bar = figure.colorbar(drawn, cax=axes)
    bar.outline.set_visible(False)
    axes.tick_params(colors=_MUTED, labelsize=8, length=2)
    axes.set_ylabel(f"{label}, % of maximum", color=_MUTED, fontsize=8)


def _draw_legend(figure: Figure, layout: _Layout, row: int) -> None:
    """Say what the maps of trust are and how to read them, at the left of their row."""
    left, bottom, width, height = layout.box(row, 0)
    text = (
        "Expected error (map of trust). Bright: do not trust. Made without the reference; |error| is smaller in 90 % "
        "of the object's pixels on scans like those of its fit."
    )
    lines = textwrap.wrap(text, int(width * layout.size[0] * _SMALL_PER_INCH))
    middle = bottom + height / 2
    shown = figure.text(left + width / 2, middle, "\n".join(lines), color=_MUTED, fontsize=_SMALL, ha="center")
    shown.set_verticalalignment("center")


def _draw_mask(figure: Figure, layout: _Layout, comparison: Comparison) -> None:
    """Draw the mask in the panel that has no error: under the reference, or first if there is none."""
    row = 0 if comparison.target is None else 1
    axes = _axes(figure, layout.box(row, 0))
    mask, receipt = comparison.mask, comparison.receipt
    axes.imshow(np.atleast_2d(mask.array), cmap=_IMAGE_MAP, vmin=0.0, vmax=1.15, interpolation="nearest", aspect="auto")
    if row == 0:
        _heading(figure, layout, 0, "Sampling")
    count = (
        f"{receipt['num_samples']} samples"
        if isinstance(mask, PatternMask)
        else f"{receipt['num_lines']} of {receipt['support_width']} columns"
    )
    _caption(figure, layout, 0, "Sampled k-space", f"{count}, R = {receipt['realised_acceleration']:.2f}", row=row)


def _measured(row: dict[str, Any]) -> tuple[str, str]:
    seconds = f"{row['seconds']:.2f} s" if row["seconds"] >= 0.01 else "< 0.01 s"
    if row["nmse"] is None:
        return "no reference", seconds
    psnr = "infinite" if row["psnr"] is None else f"{row['psnr']:.2f} dB"
    return f"PSNR {psnr}    SSIM {row['ssim']:.3f}", f"NMSE {row['nmse']:.4f}    {seconds}"


def _caption(figure: Figure, layout: _Layout, column: int, first: str, second: str, *, row: int | None = None) -> None:
    left, bottom, width, _ = layout.box(layout.rows - 1 if row is None else row, column)
    under = (1 - bottom) * layout.size[1] + 0.08
    figure.text(left + width / 2, layout.y(under), first, color=_TEXT, fontsize=9.5, ha="center", va="top")
    figure.text(left + width / 2, layout.y(under + 0.2), second, color=_MUTED, fontsize=8.5, ha="center", va="top")


def _draw_header(figure: Figure, layout: _Layout, comparison: Comparison, index: int) -> None:
    count = int(next(iter(comparison.reconstructions.values())).image.shape[0])
    which = f", slice {index + 1} of {count}" if count > 1 else ""
    left = layout.x(layout.margin)
    room = layout.size[0] - 2 * layout.margin
    title = _in_font(printable(comparison.file)) + (" (simulated)" if comparison.simulated else "") + which
    if len(title) > room * 8:  # characters of the title's size in an inch
        title = "…" + title[-int(room * 8) :]
    figure.text(left, layout.y(0.2), title, color=_TEXT, fontsize=14, fontweight="bold", va="top")
    caption = mask_caption(comparison.receipt)
    caption = caption[:1].upper() + caption[1:]
    figure.text(left, layout.y(0.49), caption, color=_MUTED, fontsize=9.5, va="top")


def _in_font(text: str) -> str:
    """Escape characters that the font of the picture lacks, because boxes in their place would make two names equal."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))  # comes with Matplotlib
    return "".join(
        one if font.get_char_index(ord(one)) else one.encode("ascii", "backslashreplace").decode() for one in text
    )


def _scales(comparison: Comparison, panels: _Panels) -> str:
    """State the scales of the picture in words."""
    if comparison.target is None:
        return f"Gray: 0 to {panels.window:.3g}, the same for all. No reference: no error, no metrics."
    white = 100 * panels.window / (float(comparison.target.max()) or 1.0)
    return (
        f"Gray: 0 to {white:.0f} % of the reference's maximum; error: absolute, 0 to {panels.error_limit:g} %; the "
        f"same for all. Metrics over the whole scan. Reference: {comparison.target_source}."
    )


def _row_of(comparison: Comparison, method: str) -> dict[str, Any]:
    return next(row for row in comparison.rows if row["method"] == method)


def _vectors(figure: Figure, kind: str) -> bytes:
    packed = io.BytesIO()
    figure.savefig(packed, format=kind, dpi=figure.dpi, facecolor=figure.get_facecolor())
    return packed.getvalue()


def _png(figure: Figure) -> bytes:
    """Encode with a palette, made coarser and then smaller until the PNG fits; the last attempt stands."""
    from PIL import Image

    content = b""
    for shrink in _SHRINK:
        raw = io.BytesIO()
        figure.savefig(raw, format="png", dpi=figure.dpi * shrink, facecolor=figure.get_facecolor())
        with Image.open(raw) as picture:
            colours = picture.convert("RGB")
        for levels in _PALETTES:
            # No dithering, which would paint noise that no image contains.
            indexed = colours.quantize(palette=_palette(*levels), dither=Image.Dither.NONE)
            packed = io.BytesIO()
            indexed.save(packed, format="png", optimize=True)
            content = packed.getvalue()
            if len(content) <= MAX_BYTES:
                return content
    return content


def _palette(grays: int, errors: int) -> Any:
    """Build a palette: grays, the colours of the error, and shades between the background and each text colour."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb
    from PIL import Image

    colours = [(level,) * 3 for level in np.linspace(0, 1, grays)]
    colours += [tuple(colour[:3]) for colour in colormaps[_ERROR_MAP](np.linspace(0, 1, errors))]
    dark = np.array(to_rgb(_BACKGROUND))
    for ink in (_TEXT, _MUTED, _ACCENT, _EDGE):
        colours += [tuple(dark + share * (np.array(to_rgb(ink)) - dark)) for share in np.linspace(0, 1, 10)]
    flat = [round(255 * float(value)) for colour in colours for value in colour]
    palette = Image.new("P", (1, 1))
    palette.putpalette(flat + flat[:3] * (256 - len(colours)))
    return palette
