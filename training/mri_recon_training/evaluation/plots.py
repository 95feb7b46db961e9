"""Plot an evaluation: quality by acceleration and by number of coils, mask variability as a band.

Drawn with Matplotlib's objects alone, never `pyplot`: no global state.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mri_recon.errors import MethodError
from mri_recon.results.plots import FURTHER, LINES, Line, new_plot, save_plot
from mri_recon_training.evaluation.averages import CLASSICAL, Spread
from mri_recon_training.evaluation.config import SimulatedArray
from mri_recon_training.evaluation.results import Evaluation
from mri_recon_training.evaluation.worlds import worlds_of
from mri_recon_training.markdown import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_by_acceleration", "plot_by_coils", "require_matplotlib", "save_plots"]

_METRICS = {"psnr": "PSNR / dB", "ssim": "SSIM"}

Points = dict[float, Spread]


def plot_by_acceleration(evaluation: Evaluation, methods: Sequence[str]) -> Figure:
    """Plot PSNR and SSIM against the requested acceleration, one column of panels for each world."""
    lines: dict[tuple[str, str, str], Points] = {}
    worlds = list(worlds_of(evaluation))
    for world, metric, method in itertools.product(worlds, _METRICS, methods):
        for acceleration in world.accelerations:
            mean = world.spread(acceleration, method, metric)
            if mean is not None:
                lines.setdefault((_heading(world.title), metric, method), {})[acceleration] = mean
    return _grid(
        lines,
        columns=[_heading(world.title) for world in worlds],
        methods=methods,
        ticks=evaluation.accelerations,
        x_label="acceleration R",
        title=f"Real raw k-space, split {evaluation.split}",
    )


def plot_by_coils(evaluations: Sequence[Evaluation], methods: Sequence[str], accelerations: Sequence[float]) -> Figure:
    """Plot PSNR and SSIM of simulated k-space against the number of coils, a column for each world and acceleration."""
    lines: dict[tuple[str, str, str], Points] = {}
    columns: dict[str, None] = {}
    for one in evaluations:
        for world, acceleration in itertools.product(worlds_of(one), accelerations):
            heading = _heading(", ".join(part for part in (world.name, f"R = {acceleration:g}") if part))
            columns[heading] = None
            for metric, method in itertools.product(_METRICS, methods):
                mean = world.spread(acceleration, method, metric)
                if mean is not None and one.array is not None:
                    lines.setdefault((heading, metric, method), {})[one.array.num_coils] = mean
    return _grid(
        lines,
        columns=list(columns),
        methods=methods,
        ticks=[one.array.num_coils for one in evaluations if one.array is not None],
        x_label="coils",
        title=f"SIMULATED multi-coil k-space, split {evaluations[0].split}",
        logarithmic=True,
    )


def save_plots(
    folder: Path,
    raw: Evaluation,
    simulated: Sequence[Evaluation],
    *,
    methods: Sequence[str],
    accelerations: Sequence[float],
    prefix: str = "results",
) -> dict[str, Picture]:
    """Write the plots of a results page into `folder`, each only if its lines have at least two points.

    Returns:
        "acceleration" and "coils" to the picture; the second of modelled coils at the default SNR alone.

    Raises:
        MethodError: Matplotlib is not installed.
        FormatError: the folder cannot be written to.
    """
    plots = {}
    if len(raw.accelerations) > 1:
        save_plot(plot_by_acceleration(raw, methods), folder / f"{prefix}-acceleration.png")
        plots["acceleration"] = Picture(
            f"{folder.name}/{prefix}-acceleration.png",
            "PSNR and SSIM against acceleration, one column of panels a world",
            "PSNR and SSIM by acceleration on the real raw scans of each world; bands: mask variability of the mean.",
        )
    alike = [one for one in simulated if one.array is not None and one.array == SimulatedArray(one.array.num_coils)]
    if len(alike) > 1:
        save_plot(plot_by_coils(alike, methods, accelerations), folder / f"{prefix}-coils.png")
        plots["coils"] = Picture(
            f"{folder.name}/{prefix}-coils.png",
            "PSNR and SSIM of simulated k-space against the number of coils",
            "**Simulated**: PSNR and SSIM by number of coils, mean over persons; bands: mask variability of the mean.",
        )
    return plots


def require_matplotlib() -> None:
    """Fail before the work where no plot can be drawn.

    Raises:
        MethodError: Matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MethodError(
            "the results page needs Matplotlib for its plots, which is not installed: pip install 'mri-recon[plot]', "
            "or leave --markdown out"
        ) from error


def _grid(
    lines: Mapping[tuple[str, str, str], Points],
    *,
    columns: Sequence[str],
    methods: Sequence[str],
    ticks: Sequence[float],
    x_label: str,
    title: str,
    logarithmic: bool = False,
) -> Figure:
    """Draw panels, metrics from top to bottom, `columns` from left to right; one scale a metric."""
    require_matplotlib()
    from matplotlib.ticker import FixedLocator, NullLocator

    width = max(2.5 * len(columns) + 0.9, 6.4) / len(columns)
    figure, panels = new_plot(len(_METRICS), len(columns), panel=(width, 2.8), sharex=True, sharey="row")
    styles = _styles(methods)
    for line, (metric, name) in enumerate(_METRICS.items()):
        for column, heading in enumerate(columns):
            axes = panels[line][column]
            for method in methods:
                _draw(axes, lines.get((heading, metric, method), {}), method, styles[method])
            if logarithmic:
                axes.set_xscale("log", base=2)
            axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticklabels([f"{tick:g}" for tick in ticks])
            if line == 0:
                axes.set_title(heading, fontsize=10)
            if line == len(_METRICS) - 1:
                axes.set_xlabel(x_label)
            if column == 0:
                axes.set_ylabel(name)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.suptitle(f"{title}; bands: least and largest over masks", fontsize=10.5)
    return figure


def _heading(title: str) -> str:
    """Break a title over lines, after commas, so that it fits a panel."""
    return title.replace(", ", ",\n")


def _draw(axes: Axes, points: Points, method: str, style: Line) -> None:
    x = sorted(points)
    # A classical method lies behind a learned one where both give the same numbers.
    order = 2 if method in CLASSICAL else 3
    axes.plot(
        x,
        [points[at].mean for at in x],
        **style.options(),
        label=method,
        zorder=order,
    )
    low, high = [points[at].low for at in x], [points[at].high for at in x]
    axes.fill_between(x, low, high, color=style.colour, alpha=0.15, linewidth=0, zorder=order - 1)


def _styles(methods: Sequence[str]) -> dict[str, Line]:
    further = itertools.cycle(FURTHER)
    return {method: LINES.get(method) or next(further) for method in methods}
