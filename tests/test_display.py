"""What notebooks and desktops show: short lines, cards in HTML, pictures."""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageShow

import mri_recon as mr
from mri_recon._display import card, gray, montage, show_picture, thumbnail, window_of
from mri_recon.io.pictures import NO_PICTURES
from mri_recon.io.scan import make_scan
from mri_recon.masks.types import PatternMask
from mri_recon.notice import RESEARCH_ONLY
from mri_recon.reconstruction import Reconstruction


def _scan(shape: tuple[int, ...] = (1, 1, 9, 14), name: str = "a.npy", **meta: Any) -> mr.Scan:
    rng = np.random.default_rng(3)
    kspace = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return make_scan(kspace, name=name, meta={"file": name, **meta})


def _parsed(text: str) -> ElementTree.Element:
    """Parse the HTML strictly: every tag closed, every attribute quoted."""
    return ElementTree.fromstring(re.sub(r"(<img [^>]*)>", r"\1/>", text))


def _pictures(text: str) -> list[npt.NDArray[np.uint8]]:
    found = [one.attrib["src"] for one in _parsed(text).iter("img")]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one.split(",")[1])))) for one in found]


@pytest.mark.parametrize(
    ("thing", "line"),
    [
        (_scan(), "<Scan a.npy: 1 slice, 1 coil, 9 x 14, fully sampled>"),
        (_scan((3, 2, 5, 4), simulated=True), "<Scan a.npy: 3 slices, 2 coils, 5 x 4, fully sampled, simulated>"),
        (
            mr.random_mask(20, 2, num_low_frequencies=3, seed=1),
            "<ColumnMask: random columns, 10 of 20 (3 in the centre), R = 2 requested, 2.00 achieved, seed 1>",
        ),
        (PatternMask(np.eye(4, 6, dtype=bool)), "<PatternMask: 2-D pattern, 4 samples, R = 6.00>"),
        (
            Reconstruction(torch.zeros(1, 9, 14), "zero-filled", {"seconds": 0.256, "warnings": ["odd"]}),
            "<Reconstruction by zero-filled: 1 slice, 9 x 14, 0.26 s, 1 warning>",
        ),
        (Reconstruction(torch.zeros(2, 3, 4), "mine"), "<Reconstruction by mine: 2 slices, 3 x 4>"),
    ],
)
def test_a_line_says_what_it_is(thing: object, line: str) -> None:
    assert repr(thing) == line


def test_the_sample_is_one_call_away() -> None:
    assert repr(mr.sample()) == "<Scan colin27_8ch.h5: 4 slices, 8 coils, 151 x 127, fully sampled, simulated>"


def test_an_undersampled_scan_says_that_its_mask_is_not_known() -> None:
    kspace = np.ones((1, 1, 8, 16), complex)
    kspace[..., ::2] = 0
    assert "undersampled, mask not known" in repr(make_scan(kspace, name="a", meta={}))


@pytest.mark.parametrize("shape", [(1, 1, 9, 14), (3, 2, 9, 11)])
def test_cards_are_html_with_what_the_thing_shows(shape: tuple[int, ...]) -> None:
    scan = _scan(shape, simulated=True)
    mask = mr.random_mask(shape[-1], 2, num_low_frequencies=2, seed=0)
    comparison = mr.compare(scan, mask, ["zero-filled", "cg-sense"])
    for thing in (scan, mask, *comparison.reconstructions.values(), comparison):
        text = thing._repr_html_()
        assert RESEARCH_ONLY in "".join(_parsed(text).itertext())
        assert all(len(np.unique(one)) > 1 for one in _pictures(text))  # none is blank
    assert len(_pictures(scan._repr_html_())) == 2
    assert len(_pictures(comparison._repr_html_())) == 3
    assert "SIMULATED" in comparison._repr_html_()
    assert "SIMULATED" in scan._repr_html_()


def test_a_card_shows_the_image_and_not_another() -> None:
    """The thumbnail of a scan is the inverse FFT of its middle slice, neither mirrored nor shifted."""
    image = np.zeros((3, 1, 9, 14))
    image[1, 0, 2, 11] = 5.0
    kspace = np.asarray(mr.fft2c(torch.as_tensor(image, dtype=torch.complex64)))
    shown = _pictures(make_scan(kspace, name="a", meta={})._repr_html_())[1]
    factor = shown.shape[0] // 9
    assert shown.shape == (9 * factor, 14 * factor)
    assert np.argwhere(shown[::factor, ::factor] > 128).tolist() == [[2, 11]]


def test_the_picture_of_a_mask_has_its_lines() -> None:
    mask = mr.random_mask(21, 3, num_low_frequencies=3, seed=4)
    (shown,) = _pictures(mask._repr_html_())
    assert (shown[0, :: shown.shape[1] // 21] == 255 * mask.lines).all()


def test_names_and_warnings_are_text_and_no_html() -> None:
    text = _scan(name='<img src=x onerror="alert(1)">\x1b[2J.npy')._repr_html_()
    assert "<img src=x" not in text
    assert "\x1b" not in text
    assert "\x1b" not in repr(_scan(name="\x1b[2J.npy"))
    assert "<b>" not in card("<b>", [("<b>", "<b>")], pictures=[("<b>", b"")], notes=["<b>"])


def test_what_may_not_be_pictured_is_not() -> None:
    scan = _scan((1, 1, 12, 14), **{NO_PICTURES: True})
    comparison = mr.compare(scan, mr.random_mask(14, 2, num_low_frequencies=2), ["zero-filled"])
    for thing in (scan, comparison):
        assert "<img" not in thing._repr_html_()
    with pytest.raises(mr.DataError, match="no_pictures"):
        comparison.show()


def test_a_window_is_finite_for_any_image() -> None:
    assert window_of(np.zeros((3, 4))) == 1.0
    assert window_of(np.array([[np.nan, np.inf]])) == 1.0
    assert window_of(np.eye(100)) > 0  # 99 % zeros: the maximum, where the percentile is zero
    assert np.asarray(gray(np.array([[np.nan, np.inf, 2.0, 1.0]]), white=2.0, least_side=1)).tolist() == [
        [0, 0, 255, 128]
    ]
    assert Image.open(io.BytesIO(thumbnail(np.zeros((3, 5))))).size == (160, 96)


def test_a_montage_shows_every_slice_in_one_window() -> None:
    volume = np.stack([np.full((5, 7), 1.0 + number) for number in range(3)])
    shown = np.asarray(montage(volume, title="three", notes=["a warning"]))
    assert {85, 170, 255} <= set(np.unique(shown))  # 1/3, 2/3 and all of white
    alone = np.asarray(montage(volume, title="one", slice_index=0))
    assert (alone == 255).sum() > 5 * 7
    assert np.asarray(montage(np.ones((40, 5, 7)), title="many")).shape[1] <= 1100


class _Shown:
    def __init__(self, data: bytes) -> None:
        self.data = data


def _notebook(monkeypatch: pytest.MonkeyPatch) -> list[_Shown]:
    """Pretend to run in a notebook's kernel; the list gets what is displayed."""
    shown: list[_Shown] = []
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    shell = SimpleNamespace(kernel=object())
    vars(ipython).update(get_ipython=lambda: shell, display=display, version_info=(9, 0))  # Matplotlib asks, too
    vars(display).update(Image=_Shown, display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def test_show_puts_a_picture_into_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _notebook(monkeypatch)
    scan = _scan((2, 1, 16, 15))
    comparison = mr.compare(scan, mr.random_mask(15, 2, num_low_frequencies=3), ["zero-filled"])
    comparison.reconstructions["zero-filled"].show()
    comparison.reconstructions["zero-filled"].show(1)
    comparison.show(slice_index=0)
    assert [Image.open(io.BytesIO(one.data)).format for one in shown] == ["PNG"] * 3


def test_show_opens_the_desktops_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    opened: list[Image.Image] = []

    class Viewer(ImageShow.Viewer):
        def show_image(self, image: Image.Image, **options: Any) -> int:
            opened.append(image)
            return 1

    monkeypatch.setattr(ImageShow, "_viewers", [Viewer()])
    Reconstruction(torch.ones(1, 9, 14), "mine").show()
    assert len(opened) == 1
    monkeypatch.setattr(ImageShow, "_viewers", [])
    with pytest.raises(mr.OutputError, match=r"expected a notebook or a program.*save the picture"):
        show_picture(opened[0])


@pytest.mark.parametrize("number", [-1, 2])
def test_show_refuses_a_slice_that_is_not_there(number: int) -> None:
    with pytest.raises(mr.ShapeError, match=f"expected a slice between 0 and 1, got {number}"):
        Reconstruction(torch.ones(2, 9, 14), "mine").show(number)


def test_a_comparison_becomes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = _scan((2, 1, 16, 15))
    comparison = mr.compare(scan, mr.random_mask(15, 2, num_low_frequencies=3), ["zero-filled", "cg-sense"])
    line = repr(comparison)
    assert line.startswith("<Comparison of a.npy, random columns, 8 of 15 (3 in the centre)")
    assert f"zero-filled {comparison.rows[0]['psnr']:.2f} dB, cg-sense" in line
    comparison.save_figure(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size[0] > 300
    pandas = pytest.importorskip("pandas")
    frame = comparison.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["file", "acceleration", "seed", "method", "nmse", "psnr", "ssim", "seconds"]
    assert frame["psnr"].tolist() == [row["psnr"] for row in comparison.rows]
    assert "Data range" in frame.attrs["convention"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(mr.MethodError, match="pip install pandas"):
        comparison.to_frame()
