"""The look of plots: lines are told apart in three ways, panels are dressed, PNGs stay small and are white."""

from __future__ import annotations

import io
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mri_recon.errors import MethodError, OutputError
from mri_recon.results.plots import FURTHER, LINES, MAX_BYTES, Line, new_plot, png, save_plot

TOGETHER = (
    ("zero-filled", "cg-sense", "cg-sense by SNR", "cs-wavelet", "cs-wavelet by SNR", "unet", "unrolled"),
    ("ours", "bart", "sigpy"),
    ("wall", "processor"),
)
"""Names that stand in one plot."""


@pytest.mark.parametrize("names", TOGETHER)
def test_lines_of_one_plot_differ_in_colour_and_marker(names: tuple[str, ...]) -> None:
    lines = [*(LINES[name] for name in names), *FURTHER]
    for one, other in itertools.combinations(lines, 2):
        assert one.colour != other.colour
        assert one.marker != other.marker


def test_lines_of_one_plot_are_all_in_a_group() -> None:
    assert set(LINES) == set(itertools.chain(*TOGETHER))
    assert Line("#000000").options().items() >= {"color": "#000000", "marker": "o", "linestyle": "-"}.items()


def test_panels_have_a_grid_behind_the_data_and_two_sides() -> None:
    figure, panels = new_plot(2, 3, panel=(2.0, 1.5), sharey=True)
    assert panels.shape == (2, 3)
    assert tuple(figure.get_size_inches()) == (6.0, 3.0)
    for axes in panels.flat:
        assert axes.get_axisbelow() is True
        assert [side for side, spine in axes.spines.items() if spine.get_visible()] == ["left", "bottom"]


def test_a_png_is_white_and_small_enough(tmp_path: Path) -> None:
    figure, panels = new_plot(1, 1, panel=(9.0, 9.0))
    panels[0, 0].imshow(np.random.default_rng(0).random((600, 600, 3)), interpolation="nearest")  # does not compress
    save_plot(figure, tmp_path / "noise.png")
    with Image.open(tmp_path / "noise.png") as picture:
        assert picture.width == int(9.0 * figure.dpi / 2)  # the coarsest
    plain, _ = new_plot(1, 1, panel=(3.0, 2.0))
    with Image.open(io.BytesIO(png(plain))) as picture:
        assert picture.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
    assert len(png(plain)) < MAX_BYTES
    with pytest.raises(OutputError):
        save_plot(plain, tmp_path / "absent" / "p.png")


def test_without_matplotlib_a_plot_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MethodError, match=r"pip install 'mri-recon\[plot\]'"):
        new_plot(1, 1, panel=(1.0, 1.0))
