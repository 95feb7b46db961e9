"""The page for users of fastMRI, BART and SigPy: its blocks run, each tool's in order, and agree where it says so."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import mri_recon as mr
from benchmarks.classical.bart_sides import compare
from mri_recon.cli import build_app
from mri_recon.embedded_sample import sample_path

PAGE = Path(__file__).parents[2] / "docs" / "using" / "coming-from.md"
needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="needs BART: apt install bart")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(sample_path(), tmp_path / "knee.h5")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_tool_has_its_blocks() -> None:
    counts = {tool: sum(name == tool for name, _, _ in _blocks()) for tool in ("fastMRI", "BART", "SigPy", "mri-recon")}
    assert min(counts.values()) >= 5, counts


@pytest.mark.usefixtures("folder")
def test_our_python_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, Any] = {}
    for code in _code("mri-recon", "python"):
        exec(compile(code, str(PAGE), "exec"), space)
        printed = capsys.readouterr().out
        for said in re.findall(r"print\(.*\)  # (.*)", code):
            assert said in printed
    np.testing.assert_allclose(
        space["zero_filled"].image, space["by_hand"], rtol=0, atol=1e-5 * float(space["by_hand"].max())
    )
    assert mr.evaluate(space["theirs"].image, space["cs"].magnitude).nmse < 0.02  # the same scan, another prior


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_our_commands_run() -> None:
    """But for training, which has tests of its own, and the one on BART's file."""
    for line in _lines("mri-recon"):
        words = shlex.split(line)
        if words[1] != "train" and "kspace.cfl" not in words:
            _ours(words)


@needs_bart
@pytest.mark.slow
def test_barts_commands_run_and_our_command_takes_their_file(folder: Path) -> None:
    for line in _lines("BART"):
        words = shlex.split(line)
        if words[0] == "bart":
            subprocess.run(words, check=True, capture_output=True)
        else:
            _ours(words)
    (line,) = (line for line in _lines("mri-recon") if "kspace.cfl" in line)
    _ours(shlex.split(line))
    assert (folder / "sense.cfl").exists()


@needs_bart
@pytest.mark.parametrize(("size", "alike"), [((150, 126), True), ((151, 127), False)])
def test_barts_sense_is_ours_on_even_sides_alone(size: tuple[int, int], alike: bool) -> None:
    distance, bart, ours = compare(size)
    assert (distance < 1e-4) == alike
    assert (abs(bart / ours - 1) < 1e-3) == alike


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sigpy") is None, reason="needs SigPy: pip install sigpy")
@pytest.mark.usefixtures("folder")
def test_sigpys_blocks_run_and_its_sense_is_ours() -> None:
    space: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SigPy uses what NumPy 2 deprecates
        for code in _code("SigPy", "python"):
            exec(compile(code, str(PAGE), "exec"), space)
    ours = mr.reconstruct(
        space["y"][None], space["lines"], method="cg-sense", reg_weight=0.01, sens_maps=_unit(space["mps"]), tol=1e-6
    )
    assert mr.evaluate(ours.image, np.abs(space["sense"])[None]).nmse < 1e-2
    assert np.isfinite(space["cs"]).all()


def test_fastmris_blocks_are_python() -> None:
    for code in _code("fastMRI", "python"):
        compile(code, str(PAGE), "exec")


def _blocks() -> Iterator[tuple[str, str, str]]:
    """Tool, language and text of each block; a tool's name stands in bold before its blocks."""
    tool = ""
    for bold, language, block in re.findall(
        r"^\*\*([\w-]+)\*\*$|^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    ):
        tool = bold or tool
        if not bold:
            yield tool, language, block


def _code(tool: str, language: str) -> list[str]:
    return [block for name, kind, block in _blocks() if (name, kind) == (tool, language)]


def _lines(tool: str) -> list[str]:
    return [line for block in _code(tool, "") for line in block.splitlines()]


def _ours(words: list[str]) -> None:
    result = CliRunner().invoke(build_app(), words[1:])
    assert result.exit_code == 0, f"{' '.join(words)}: {result.output}"


def _unit(maps: Any) -> Any:
    """SigPy's maps, less the crop's last digits: unit root sum of squares where they are not zero."""
    size = np.sqrt((np.abs(maps) ** 2).sum(0))
    return np.where(size > 0.5, maps / np.maximum(size, 0.5), 0).astype(np.complex64)
