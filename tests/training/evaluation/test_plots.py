from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mri_recon.errors import MethodError, OutputError
from mri_recon.results.plots import MAX_BYTES, save_plot
from mri_recon_training.evaluation.averages import scan_summaries
from mri_recon_training.evaluation.config import SimulatedArray
from mri_recon_training.evaluation.plots import (
    plot_by_acceleration,
    plot_by_coils,
    require_matplotlib,
    save_plots,
)
from tests.support.evaluations import METHODS, small_evaluation


def _lines(figure: Figure, panel: int) -> dict[str, tuple[list[float], list[float]]]:
    lines = figure.axes[panel].get_lines()
    return {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in lines}


def test_a_panel_shows_the_means_over_masks_of_its_scan() -> None:
    evaluation = small_evaluation()
    figure = plot_by_acceleration(evaluation, METHODS)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["near,\n1 coil", "far,\n1 coil"]
    expected = [
        row["psnr"].mean
        for row in scan_summaries(evaluation.rows)
        if (row["file"], row["method"]) == ("set/b", "cg-sense")
    ]
    assert _lines(figure, 1)["cg-sense"] == ([2, 4], expected)
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == METHODS


def test_bands_reach_from_the_least_to_the_largest_mask() -> None:
    evaluation = small_evaluation()
    figure = plot_by_acceleration(evaluation, ["zero-filled"])
    values = [row["psnr"] for row in evaluation.at(4) if (row["file"], row["method"]) == ("set/b", "zero-filled")]
    band = np.asarray(figure.axes[1].collections[0].get_paths()[0].vertices)
    at_four = band[band[:, 0] == 4, 1]
    assert (at_four.min(), at_four.max()) == (min(values), max(values))


def test_coils_are_on_the_axis_and_the_title_says_simulated() -> None:
    evaluations = [small_evaluation(kind="simulated", array=SimulatedArray(coils)) for coils in (2, 8)]
    figure = plot_by_coils(evaluations, [*METHODS, "a-new-one"], [2, 4])
    titles = ["near,\nR = 2", "near,\nR = 4", "far,\nR = 2", "far,\nR = 4"]
    assert [axes.get_title() for axes in figure.axes[:4]] == titles
    x, y = _lines(figure, 1)["zero-filled"]
    mean = next(m for m in evaluations[0].means() if (m["acceleration"], m["method"]) == (4, "zero-filled"))
    assert x == [2, 8]
    assert y == pytest.approx([mean["psnr"]] * 2)
    title = figure.get_suptitle()
    assert title.startswith("SIMULATED")


def test_plots_are_small_files(tmp_path: Path) -> None:
    evaluation = small_evaluation()
    simulated = [small_evaluation(kind="simulated", array=SimulatedArray(coils)) for coils in (2, 8)]
    found = save_plots(tmp_path, evaluation, simulated, methods=METHODS, accelerations=[4])
    assert {name: picture.path for name, picture in found.items()} == {
        "acceleration": f"{tmp_path.name}/results-acceleration.png",
        "coils": f"{tmp_path.name}/results-coils.png",
    }
    for file in tmp_path.iterdir():
        assert file.stat().st_size <= MAX_BYTES
        with Image.open(file) as image:
            assert image.width > 600


def test_other_noise_and_measured_coils_are_no_points_of_the_plot_by_coils(tmp_path: Path) -> None:
    arrays = [SimulatedArray(2), SimulatedArray(8, 10.0), SimulatedArray(16, measured=True)]
    simulated = [small_evaluation(kind="simulated", array=array) for array in arrays]
    found = save_plots(tmp_path, small_evaluation(), simulated, methods=METHODS, accelerations=[4], prefix="mine")
    assert {picture.path for picture in found.values()} == {f"{tmp_path.name}/mine-acceleration.png"}


def test_one_point_makes_no_line(tmp_path: Path) -> None:
    evaluation = small_evaluation()
    evaluation.rows = evaluation.at(4)
    assert save_plots(tmp_path, evaluation, [], methods=METHODS, accelerations=[4]) == {}


def test_a_large_picture_gets_fewer_dots(tmp_path: Path) -> None:
    figure = Figure(figsize=(6, 6))
    figure.figimage(np.random.default_rng(0).random((780, 780)), cmap="viridis")
    save_plot(figure, tmp_path / "noise.png")
    with Image.open(tmp_path / "noise.png") as image:
        assert image.width < 780


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="choose a folder that exists"):
        save_plot(Figure(), tmp_path / "absent" / "p.png")


def test_without_matplotlib_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_matplotlib()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MethodError, match="needs Matplotlib.*mri-recon.plot"):
        require_matplotlib()
