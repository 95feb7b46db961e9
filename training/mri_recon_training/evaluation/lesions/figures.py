"""Draw a lesion that a learned method loses, and one that it invents."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mri_recon.results.plots import save_plot
from mri_recon_training.evaluation.averages import CLASSICAL
from mri_recon_training.evaluation.lesions.inserts import Image, object_of
from mri_recon_training.evaluation.lesions.observer import invented_excess
from mri_recon_training.evaluation.lesions.run import FULL, LesionRun, Subject, reconstructed
from mri_recon_training.evaluation.lesions.summary import REFERENCE
from mri_recon_training.markdown import Picture

__all__ = ["draw_invented", "draw_lost"]

_HALF = 24
"""Half the side of the part that is drawn, pixels."""


def draw_lost(run: LesionRun, folder: Path, prefix: str) -> Picture | None:
    """Draw the bright lesion of which a learned method keeps least compared with compressed sensing.

    Only subjects of whom a picture may be drawn are searched. None where there is no such method or subject.

    Raises:
        MethodError: Matplotlib is not installed.
    """
    config = run.config
    worst: tuple[float, Subject, float, int, int, int, str, float, float] | None = None
    contrasts = [(number, one) for number, one in enumerate(config.contrasts) if one == max(config.contrasts) > 0]
    for subject, row, other in _learned_rows(run):
        for number, contrast in contrasts:
            mine, theirs = (
                (np.array(one["present"][number]) - np.array(one["absent"])) / contrast for one in (row, other)
            )
            index = int(np.argmax(theirs - mine))
            gap = float(theirs[index] - mine[index])
            if worst is None or gap > worst[0]:
                case = (subject, row["acceleration"], row["seed"], number, index, row["method"])
                worst = (gap, *case, float(mine[index]), float(theirs[index]))
    if worst is None:
        return None
    _, subject, acceleration, seed, number, index, method, mine_, theirs_ = worst
    contrast, place = config.contrasts[number], subject.places[index]
    names = [FULL, *config.methods]
    columns = [("truth", subject.magnitudes(contrast), subject.image)]
    for name in names:
        pair = [reconstructed(subject, name, one, acceleration, seed) for one in (contrast, 0.0)]
        columns.append((name, pair[0], pair[1]))
    path = folder / f"{prefix}-lost.png"
    _draw(path, columns, ("with the lesion", "without"), (place.row, place.column), subject)
    return Picture(
        f"images/{path.name}",
        f"A lesion that {method} weakens, with every method beside it",
        f"The lesion of which a learned method keeps least compared with `{REFERENCE}`: {subject.person}, simulated, "
        f"R = {acceleration:g}, mask {seed}, contrast {contrast:g}, {place.width:g} pixels wide, in the middle of the "
        f"circle. `{method}` keeps {mine_:.0%} of its contrast, `{REFERENCE}` {theirs_:.0%}. Source: "
        f"{subject.attribution}",
    )


def draw_invented(run: LesionRun, folder: Path, prefix: str) -> Picture | None:
    """Draw the clearest bright lesion that a learned method invents; None where there is none.

    Raises:
        MethodError: Matplotlib is not installed.
    """
    config = run.config
    most: tuple[int, Subject, float, int, str] | None = None
    contrast, width = max(config.contrasts), config.widths[-1]
    for subject, row, _ in _learned_rows(run):
        count = row["invented"][-1][config.contrasts.index(contrast)]
        if count and (most is None or count > most[0]):
            most = (count, subject, row["acceleration"], row["seed"], row["method"])
    if most is None or contrast < 0:
        return None
    _, subject, acceleration, seed, method = most
    image = reconstructed(subject, method, 0.0, acceleration, seed)
    spots = invented_excess(image, subject.image, object_of(subject.image), width, contrast)
    row_, column = (int(n) for n in np.unravel_index(int(spots.argmax()), spots.shape))
    columns = [("truth", subject.image, np.zeros_like(subject.image))]
    for name in (FULL, *config.methods):
        found = reconstructed(subject, name, 0.0, acceleration, seed)
        columns.append((name, found, np.abs(found - subject.image)))
    path = folder / f"{prefix}-invented.png"
    _draw(path, columns, ("no lesion here", "|error|"), (row_, column), subject)
    return Picture(
        f"images/{path.name}",
        f"A place where {method} draws what is not there",
        f"The clearest lesion that a learned method draws where there is none, in the image with most of them: "
        f"{subject.person}, simulated, R = {acceleration:g}, mask {seed}. `{method}` draws a spot {width:g} pixels "
        f"wide with a contrast of {float(spots.max()):.2f} in the middle of the circle. Below: errors. Source: "
        f"{subject.attribution}",
    )


def _learned_rows(run: LesionRun) -> Iterator[tuple[Subject, dict[str, Any], dict[str, Any]]]:
    """Yield each row of a learned method, of a subject that may be drawn, with that of compressed sensing."""
    rows = {(row["file"], row["acceleration"], row["seed"], row["method"]): row for row in run.rows}
    learned = [name for name in run.config.methods if name not in CLASSICAL]
    drawable = [one for one in run.subjects if one.attribution is not None]
    if REFERENCE not in run.config.methods:
        return
    for subject, acceleration, seed, method in itertools.product(
        drawable, run.config.accelerations, run.config.seeds, learned
    ):
        key = (subject.name, acceleration, seed)
        yield subject, rows[*key, method], rows[*key, REFERENCE]


def _draw(
    path: Path,
    columns: Sequence[tuple[str, Image, Image]],
    labels: tuple[str, str],
    place: tuple[int, int],
    subject: Subject,
) -> None:
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    height, width = subject.image.shape
    top, left = (
        min(max(0, at - _HALF), max(0, size - 2 * _HALF)) for at, size in zip(place, (height, width), strict=True)
    )
    part = (slice(top, top + 2 * _HALF), slice(left, left + 2 * _HALF))
    largest = float(columns[0][1][part].max())
    figure = Figure(figsize=(1.5 * len(columns), 3.3), layout="constrained")
    panels = figure.subplots(2, len(columns), squeeze=False)
    for column, (title, *images) in enumerate(columns):
        for row, image in enumerate(images):
            axes = panels[row][column]
            axes.imshow(image[part], cmap="gray", vmin=0, vmax=largest, interpolation="nearest")
            axes.add_patch(Circle((place[1] - left, place[0] - top), 7, fill=False, color="#e69f00", linewidth=0.8))
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(title, fontsize=8)
            if column == 0:
                axes.set_ylabel(labels[row], fontsize=8)
    save_plot(figure, path)
