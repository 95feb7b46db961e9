"""Draw the curves of a study: training and validation loss against steps and against seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mri_recon.results.plots import new_plot, save_plot
from mri_recon_training.study.study import Row, Study

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_curves", "study_figures"]

# Colour and dashes of each candidate, distinct in gray too; relatives share a hue.
_STYLES = {
    "gradient-descent": ("#7f7f7f", "--"),
    "lbfgs": ("#000000", "--"),
    "sgd": ("#0072B2", "-"),
    "momentum": ("#009E73", "-"),
    "nesterov": ("#56B4E9", "-."),
    "rmsprop": ("#E69F00", "-"),
    "adam": ("#D55E00", "-"),
    "amsgrad": ("#8c3b00", ":"),
    "adamw": ("#CC79A7", "-."),
    "group": ("#D55E00", "-"),
    "batch": ("#0072B2", "-"),
    "layer": ("#E69F00", "--"),
    "instance": ("#009E73", "-."),
    "none": ("#7f7f7f", ":"),
}
_LOSSES = (("training_loss", "training"), ("validation_loss", "validation"))
_AXES = {"steps": "steps", "seconds": "CPU seconds"}


def study_figures(study: Study, folder: Path) -> list[Path]:
    """Write `study-KIND.png`, or one picture for steps and one for seconds where there are several batch sizes.

    Raises:
        MethodError: Matplotlib is not installed.
        FormatError: the folder cannot be written to.
    """
    groups = study.config.study.batch_sizes
    if len(groups) == 1:
        panels = {f"study-{study.kind}.png": [(groups[0], "steps"), (groups[0], "seconds")]}
    else:
        panels = {f"study-{study.kind}-{axis}.png": [(group, axis) for group in groups] for axis in _AXES}
    paths = []
    for name, columns in panels.items():
        path = folder / name
        save_plot(draw_curves(study, columns), path)
        paths.append(path)
    return paths


def draw_curves(study: Study, columns: Sequence[tuple[int, str]]) -> Figure:
    """Draw two rows of panels, training above validation; one column for each (batch size, "steps" or "seconds").

    The line is the mean over the seeds, the band goes from the lowest to the highest seed. Losses are divided by the
    untrained network's on the same examples, and one step is one batch: a full-batch method's gradients are counted in
    units of it.

    Raises:
        MethodError: Matplotlib is not installed.
    """
    width = 3.2 + 2.2 / len(columns)  # the legend stands beside the panels
    figure, axes = new_plot(2, len(columns), panel=(width, 3.1), sharey=True, sharex="col")
    handles = dict[str, "Artist"]()
    for column, (group, axis) in enumerate(columns):
        rows = [row for row in study.rows if row.candidate.group == group and row.runs]
        for line, (key, title) in enumerate(_LOSSES):
            panel: Axes = axes[line, column]
            for row in rows:
                handles[row.candidate.name] = _draw(panel, row, study, key, axis)
            panel.set_title(f"{title}, batch {group}" if len(study.config.study.batch_sizes) > 1 else title, size=10)
            if column == 0:
                panel.set_ylabel("loss / loss of zero-filled")
        axes[1, column].set_xlabel(_AXES[axis])
    low, high = axes[0, 0].get_ylim()
    axes[0, 0].set_ylim(low, min(high, 1.05))  # a run that diverges would flatten all others
    figure.legend(list(handles.values()), list(handles), loc="outside right center", frameon=False)
    return figure


def _draw(panel: Axes, row: Row, study: Study, key: str, axis: str) -> Artist:
    runs = [run["curve"] for run in row.runs]
    shortest = min(len(run) for run in runs)
    unit, field = (row.candidate.group, "gradients") if axis == "steps" else (1, "seconds")
    x = np.mean([[point[field] / unit for point in run[:shortest]] for run in runs], axis=0)
    losses = [[point[key] for point in run[:shortest]] for run in runs]
    y = np.array(losses, dtype=float) / study.untrained[key]  # None, of a run that diverged, becomes NaN
    colour, dashes = _STYLES[row.candidate.name]
    (line,) = panel.plot(x, y.mean(axis=0), color=colour, linestyle=dashes, linewidth=1.6)
    panel.fill_between(x, y.min(axis=0), y.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    return line
