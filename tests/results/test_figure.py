from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mri_recon.errors import MethodError, OutputError, ShapeError
from mri_recon.io import Scan
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import PatternMask
from mri_recon.results.comparison import Comparison, compare
from mri_recon.results.figure import MAX_BYTES, RESEARCH_ONLY, _round_up, comparison_figure, draw_comparison
from mri_recon.transforms.fourier import fft2c

METHODS = ["zero-filled", "cg-sense"]


def _scan(*shape: int, target: bool = True) -> Scan:
    slices, coils, h, w = shape
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    images = (y**2 + x**2 < 0.6) * np.linspace(1, 2, slices)[:, None, None, None] * np.ones((1, coils, 1, 1))
    images = images + 0.2 * rng.normal(size=images.shape)
    reference = torch.from_numpy(np.sqrt((np.abs(images) ** 2).sum(1))).float()
    return Scan(
        samples=fft2c(torch.from_numpy(images)).to(torch.complex64).numpy(),
        reference=reference.numpy() if target else None,
        target_source="rss of the full k-space" if target else "none",
        mask=None,
        support=np.ones(w, dtype=bool),
        recon_size=(h, w),
        meta={"file": "discs.npy"},
    )


def _comparison(*shape: int, target: bool = True) -> Comparison:
    mask = random_mask(shape[-1], 2, num_low_frequencies=4, seed=1)
    return compare(_scan(*shape, target=target), mask, METHODS)


def _texts(comparison: Comparison, slice_index: int | None = None) -> list[str]:
    return [text.get_text() for text in draw_comparison(comparison, slice_index=slice_index).texts]


@pytest.mark.parametrize("target", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 17, 22), (3, 2, 40, 15), (1, 1, 11, 90)])
def test_every_shape_makes_a_picture(shape: tuple[int, ...], target: bool, tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    comparison_figure(_comparison(*shape, target=target), path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
    assert path.stat().st_size <= MAX_BYTES
    assert [file.name for file in tmp_path.iterdir()] == ["out.png"]


def test_noise_that_does_not_compress_still_fits() -> None:
    scan = _scan(1, 1, 320, 320)
    noise = torch.rand(1, 320, 320)
    comparison = compare(replace(scan, reference=noise.numpy()), random_mask(320, 1.3), METHODS)
    content = io.BytesIO()
    comparison_figure(comparison, content)
    assert 10_000 < len(content.getvalue()) <= MAX_BYTES


def test_the_picture_says_everything() -> None:
    comparison = _comparison(3, 1, 20, 24)
    text = "\n".join(_texts(comparison))
    assert "discs.npy, slice 2 of 3" in text
    assert "Random columns, 12 of 24 (4 in the centre), R = 2 requested, 2.00 achieved, seed 1" in text
    for row in comparison.rows:
        assert f"PSNR {row['psnr']:.2f} dB    SSIM {row['ssim']:.3f}" in text
        assert f"NMSE {row['nmse']:.4f}" in text
    for heading in ("Reference", "Zero-filled", "CG-SENSE", "Sampled k-space"):
        assert heading in text
    assert RESEARCH_ONLY in text
    assert "Gray: 0 to " in text
    assert "error: absolute" in text


def test_without_reference_it_says_so() -> None:
    text = "\n".join(_texts(_comparison(1, 1, 20, 24, target=False)))
    assert "No reference: no error, no metrics." in text
    assert "PSNR" not in text
    assert "Reference\n" not in text


def test_images_share_a_window_and_errors_a_scale() -> None:
    comparison = _comparison(3, 1, 20, 24)
    figure = draw_comparison(comparison, slice_index=2)
    images = [axes.images[0] for axes in figure.axes if axes.images and axes.images[0].get_array().shape == (20, 24)]
    grays = [image for image in images if image.get_cmap().name == "gray"]
    errors = [image for image in images if image.get_cmap().name == "inferno"]
    assert (len(grays), len(errors)) == (3, 2)
    assert len({image.get_clim() for image in grays}) == 1
    assert len({image.get_clim() for image in errors}) == 1
    assert comparison.target is not None
    np.testing.assert_array_equal(grays[0].get_array(), comparison.target[2])
    np.testing.assert_array_equal(grays[1].get_array(), comparison.magnitude("zero-filled")[2])
    difference = (comparison.magnitude("zero-filled")[2] - comparison.target[2]).abs() / comparison.target.max()
    np.testing.assert_allclose(errors[0].get_array(), 100 * difference, rtol=1e-5, atol=1e-4)


def test_the_map_of_trust_says_what_bright_means() -> None:
    comparison = _comparison(1, 1, 20, 24)
    mapped = {name: replace(one, trust_map=one.image.abs() / 10) for name, one in comparison.reconstructions.items()}
    figure = draw_comparison(replace(comparison, reconstructions=mapped))
    said = " ".join(" ".join(text.get_text() for text in figure.texts).split())
    assert "Expected error (map of trust). Bright: do not trust." in said
    assert "expected error, % of maximum" in [axes.get_ylabel() for axes in figure.axes]


def test_a_pixel_is_a_whole_number_of_dots() -> None:
    figure = draw_comparison(_comparison(1, 1, 20, 24))
    for axes in figure.axes:
        if axes.images and axes.images[0].get_array().shape == (20, 24):
            box = axes.get_window_extent()
            assert (box.width / 24) == pytest.approx(round(box.width / 24), abs=1e-6)
            assert (box.height / 20) == pytest.approx(round(box.width / 24), abs=1e-6)
            assert box.x0 == pytest.approx(round(box.x0), abs=1e-6)


def test_a_two_dimensional_mask_is_drawn() -> None:
    pattern = np.random.default_rng(0).random((20, 24)) < 0.5
    pattern[8:12, 8:16] = True
    comparison = compare(_scan(1, 1, 20, 24), PatternMask(pattern), ["zero-filled"])
    figure = draw_comparison(comparison)
    assert any(axes.images and np.array_equal(axes.images[0].get_array(), pattern) for axes in figure.axes)
    assert f"2-D pattern, {pattern.sum()} samples" in "\n".join(text.get_text() for text in figure.texts)


def test_a_simulated_scan_says_so() -> None:
    scan = _scan(1, 1, 17, 22)
    simulated = replace(scan, meta={**scan.meta, "simulated": True})
    comparison = compare(simulated, random_mask(22, 2, num_low_frequencies=4), METHODS)
    assert _texts(comparison)[0] == "discs.npy (simulated)"


def test_a_long_name_is_cut_at_its_start() -> None:
    comparison = replace(_comparison(1, 1, 17, 22), file="x" * 300 + "end.h5")
    title = _texts(comparison)[0]
    assert title.startswith("…")
    assert title.endswith("end.h5")
    assert len(title) < 100


@pytest.mark.parametrize("index", [-1, 3])
def test_no_such_slice(index: int) -> None:
    with pytest.raises(ShapeError, match=f"between 0 and 2, got {index}"):
        draw_comparison(_comparison(3, 1, 17, 22), slice_index=index)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="choose a folder that exists"):
        comparison_figure(_comparison(1, 1, 17, 22), tmp_path / "absent" / "out.png")


def test_without_matplotlib_the_error_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = _comparison(1, 1, 17, 22)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MethodError, match=r"pip install 'mri-recon\[plot\]'"):
        draw_comparison(comparison)


def test_scales_are_round_numbers() -> None:
    assert [_round_up(value) for value in (0.0, 0.93, 1.0, 1.2, 6.1, 17.0, 99.0)] == [1, 1, 1, 1.5, 8, 20, 100]


def test_importing_draws_nothing() -> None:
    """Neither the library nor its picture room loads Matplotlib before a picture is asked for."""
    program = "import sys, mri_recon.results.figure; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
