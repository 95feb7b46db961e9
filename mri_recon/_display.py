"""Draw what notebooks and desktops show of a result: thumbnails, HTML cards, pictures with a caption.

Functions take arrays and text, so that every room may use them. Pillow alone draws; Matplotlib need not be installed.
"""

from __future__ import annotations

import base64
import html
import importlib
import io
import math
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mri_recon._system.text import printable
from mri_recon.errors import OutputError
from mri_recon.notice import RESEARCH_ONLY

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["card", "gray", "montage", "show_picture", "thumbnail", "window_of"]

_WINDOW_PERCENTILE = 99.5
_THUMBNAIL = 160  # least side of a picture in a card, pixels
_MONTAGE_WIDTH = 1000  # pixels
_MOST_SLICES = 16
_FONT = 14
_MARGIN = 12


def window_of(magnitude: npt.NDArray[Any]) -> float:
    """Choose the magnitude to show as white: the 99.5th percentile, or the maximum of an image that is mostly zero."""
    finite = magnitude[np.isfinite(magnitude)]
    if not finite.size:
        return 1.0
    high = float(np.percentile(finite, _WINDOW_PERCENTILE))
    return high if high > 0 else float(finite.max()) or 1.0


def gray(magnitude: npt.NDArray[Any], *, white: float, least_side: int = _THUMBNAIL) -> Image:
    """Draw magnitudes in gray, black for 0, each pixel a whole number of times enlarged.

    Args:
        magnitude: real `(h, w)`; what is not finite is black.
        white: the magnitude shown as white.
        least_side: the picture is enlarged until its longer side has so many pixels.
    """
    from PIL import Image

    levels = np.nan_to_num(magnitude / white, nan=0.0, posinf=0.0, neginf=0.0)
    pixels = np.rint(255 * levels.clip(0, 1)).astype(np.uint8)
    factor = max(1, math.ceil(least_side / max(pixels.shape)))
    return Image.fromarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))


def thumbnail(magnitude: npt.NDArray[Any], *, white: float | None = None) -> bytes:
    """Draw magnitudes `(h, w)` as a small PNG; `white` is by default that of `window_of`."""
    return _png(gray(magnitude, white=window_of(magnitude) if white is None else white))


def card(
    title: str,
    facts: Sequence[tuple[str, str]],
    *,
    pictures: Sequence[tuple[str, bytes]] = (),
    notes: Sequence[str] = (),
) -> str:
    """Write a card in HTML, for a notebook, in light and dark themes: a title, facts, pictures, warnings, the notice.

    Args:
        title: heading.
        facts: name and value of each line.
        pictures: caption and PNG of each picture.
        notes: warnings, in the colour of warnings.
    """
    rows = "".join(
        f'<tr><th style="text-align:left;padding:1px 12px 1px 0;font-weight:normal;opacity:.75">{_escaped(name)}</th>'
        f'<td style="text-align:left;padding:1px 0">{_escaped(value)}</td></tr>'
        for name, value in facts
    )
    shown = "".join(
        '<figure style="display:inline-block;margin:8px 8px 0 0;vertical-align:top">'
        f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{_escaped(caption)}" '
        'style="height:160px;max-width:none;image-rendering:pixelated">'
        f'<figcaption style="font-size:85%">{_escaped(caption)}</figcaption></figure>'
        for caption, png in pictures
    )
    told = "".join(
        f'<div style="margin-top:6px;padding-left:8px;border-left:3px solid #c77700">{_escaped(note)}</div>'
        for note in notes
    )
    return (
        '<div style="border:1px solid #8886;border-radius:6px;padding:10px 14px;display:inline-block;max-width:60em">'
        f"<strong>{_escaped(title)}</strong>"
        f'<table style="border:0;margin:6px 0 0 0;background:none">{rows}</table>{shown}{told}'
        f'<div style="margin-top:8px;font-size:85%;opacity:.75">{_escaped(RESEARCH_ONLY)}</div></div>'
    )


def montage(
    magnitude: npt.NDArray[Any], *, title: str, notes: Sequence[str] = (), slice_index: int | None = None
) -> Image:
    """Draw slices side by side in one window, with a title above, and warnings and the notice below.

    Args:
        magnitude: real `(slice, h, w)`.
        title: text above.
        notes: warnings.
        slice_index: draw this slice alone; None draws all, or 16 of them at equal distances.
    """
    from PIL import Image, ImageDraw, ImageFont

    count = len(magnitude)
    chosen = _evenly(count) if slice_index is None else [slice_index]
    columns = math.ceil(math.sqrt(len(chosen)))
    room = _MONTAGE_WIDTH // columns
    white = window_of(magnitude[chosen])
    tiles = [gray(magnitude[one], white=white, least_side=min(room // 2, 512)) for one in chosen]
    across, down = tiles[0].size
    rows = math.ceil(len(tiles) / columns)
    font = ImageFont.load_default(_FONT)
    line = _FONT + 6
    width = max(columns * across, 480) + 2 * _MARGIN
    characters = int((width - 2 * _MARGIN) / (0.52 * _FONT))
    above = textwrap.wrap(printable(title), characters)
    below = [one for note in (*notes, RESEARCH_ONLY) for one in textwrap.wrap(printable(note), characters)]
    top = _MARGIN + len(above) * line + 4
    picture = Image.new("L", (width, top + rows * (down + line) + len(below) * line + 2 * _MARGIN), 16)
    draw = ImageDraw.Draw(picture)
    for number, text in enumerate(above):
        draw.text((_MARGIN, _MARGIN + number * line), text, fill=240, font=font)
    for number, (index, tile) in enumerate(zip(chosen, tiles, strict=True)):
        left, upper = _MARGIN + number % columns * across, top + number // columns * (down + line)
        picture.paste(tile, (left, upper))
        draw.text((left + 2, upper + down + 1), f"slice index {index}", fill=170, font=font)
    bottom = top + rows * (down + line) + _MARGIN
    for number, text in enumerate(below):
        draw.text((_MARGIN, bottom + number * line), text, fill=200, font=font)
    return picture


def show_picture(picture: Image | bytes) -> None:
    """Show a picture: in the output of a notebook's cell, else in the program that the desktop has for pictures.

    Args:
        picture: the picture, or its PNG.

    Raises:
        OutputError: neither a notebook nor a program that shows pictures is there.
    """
    from PIL import Image, ImageShow

    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        output = importlib.import_module("IPython.display")  # by name: its functions have no types
        output.display(output.Image(data=picture if isinstance(picture, bytes) else _png(picture)))
        return
    opened = Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else picture
    if not ImageShow.show(opened, title="mri-recon"):
        raise OutputError(
            "expected a notebook or a program that shows pictures, found none here: save the picture to a file instead"
        )


def _evenly(count: int) -> list[int]:
    if count <= _MOST_SLICES:
        return list(range(count))
    return [int(one) for one in np.linspace(0, count - 1, _MOST_SLICES).round()]


def _png(picture: Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return buffer.getvalue()


def _escaped(text: str) -> str:
    return html.escape(printable(text))
