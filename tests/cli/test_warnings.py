"""What looks wrong with a result is told wherever the result is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import mri_recon as mr
from mri_recon.cli import build_app
from mri_recon.results.comparison import warning_lines
from mri_recon.results.figure import draw_comparison

WARNING = "the echo is nowhere, [/red] $x_1$: repeat the scan"


@pytest.fixture
def scan_file(tmp_path: Path) -> Path:
    y, x = np.mgrid[-1:1:25j, -1:1:30j]
    images = ((y**2 + x**2 < 0.7) * np.exp(1j * x))[None, None]
    path = tmp_path / "scan.npy"
    np.save(path, mr.fft2c(torch.from_numpy(images)).numpy().astype(np.complex64)[:, 0])
    return path


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> None:
    """cg-sense warns, in the middle of what else it says."""
    from mri_recon.methods import cg_sense as classical

    plain = classical.cg_sense

    def cg_sense(kspace: Any, mask: Any, sens_maps: Any = None, *, maps: str = "espirit") -> Any:
        image, info = plain(kspace, mask, sens_maps, maps=maps)
        return image, {**info, "warnings": [WARNING]}

    monkeypatch.setattr(classical, "cg_sense", cg_sense)


@pytest.mark.usefixtures("warned")
def test_every_verb_and_the_figure_tell_it(scan_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    base = [str(scan_file), "--acceleration", "2", "--num-low-frequencies", "6"]
    result = CliRunner().invoke(build_app(), ["reconstruct", *base, "--method", "cg-sense", "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert f"mri-recon: warning: {WARNING}\n" in result.stderr
    with h5py.File(out) as file:
        assert WARNING in json.loads(file.attrs["info"])["warnings"]
    arguments = ["compare", *base, "--methods", "zero-filled,cg-sense", "--json", str(tmp_path / "o.json")]
    result = CliRunner().invoke(build_app(), arguments)
    assert result.exit_code == 0, result.output
    assert f"\nWarning (cg-sense): {WARNING}\n" in result.stdout
    assert WARNING in json.loads((tmp_path / "o.json").read_text())["results"][1]["info"]["warnings"]


@pytest.mark.usefixtures("warned")
def test_python_and_the_figure_tell_it(scan_file: Path) -> None:
    scan = mr.load(scan_file, axes="slice readout phase")
    mask = mr.random_mask(scan.width, 2, num_low_frequencies=6)
    comparison = mr.compare(scan, mask, ["zero-filled", "cg-sense"])
    assert comparison.reconstructions["zero-filled"].warnings == ()
    assert comparison.reconstructions["cg-sense"].warnings == (WARNING,)
    figure = draw_comparison(comparison)
    texts = " ".join(text.get_text() for text in figure.texts)
    assert f"Warning (cg-sense): {WARNING}" in texts
    figure.draw_without_rendering()  # no dollar of it is mathematics
    heights = [figure.get_size_inches()[1]]
    rows = [{**row, "info": {}} for row in comparison.rows]
    heights.append(draw_comparison(mr.Comparison(**{**vars(comparison), "rows": rows})).get_size_inches()[1])
    assert heights[0] > heights[1], "the warning has room of its own"


def test_warnings_that_differ_in_numbers_are_one_line() -> None:
    def row(method: str, *warnings: str) -> dict[str, Any]:
        return {"method": method, "info": {"warnings": list(warnings)}}

    assert warning_lines([{"method": "a", "info": {}}]) == []
    assert warning_lines([row("a", "x"), row("b", "x")]) == ["Warning: x"]
    assert warning_lines([row("a", "x"), row("b"), row("c", "x", "y")]) == ["Warning (a, c): x", "Warning (c): y"]
    assert warning_lines([row("a", "of 3.5 dB"), row("a", "of 4 dB"), row("a", "of 5 dB")]) == [
        "Warning: of 3.5 dB (and 2 like it, with other numbers)"
    ]
