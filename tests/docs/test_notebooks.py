"""The notebooks run from top to bottom, and were saved with their output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def _code(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def _shown(cell: dict[str, Any]) -> list[str]:
    """Kinds of the outputs of a cell, but for printed text, which comes in any number of parts."""
    return [one["output_type"] for one in cell["outputs"] if one["output_type"] != "stream"]


def test_the_notebooks_are_found() -> None:
    assert {one.stem for one in NOTEBOOKS} == {"first-reconstruction", "own-data-to-training", "trust"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_saved_as_it_ran(path: Path) -> None:
    """Every cell has run, in order, none failed, and none shows where it ran."""
    cells = _code(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert all(output["output_type"] != "error" for output in outputs)
    assert any("image/png" in output.get("data", {}) or "<img" in str(output) for output in outputs)
    assert str(Path.home()) not in str(outputs)
    assert path.stat().st_size < 1_000_000


# In a process of its own: what Jupyter's client leaves open would be a warning, and so an error, of a later test.
# The kernel's sockets are files with short, relative names.
_RUN = """
import sys
import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, AsyncKernelManager(transport="ipc"), timeout=600, startup_timeout=300).execute()
nbformat.write(notebook, "done.ipynb")
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    for needed in ("nbformat", "nbclient", "ipykernel"):
        pytest.importorskip(needed)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(path)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for before, after in zip(_code(path), _code(tmp_path / "done.ipynb"), strict=True):
        assert _shown(before) == _shown(after)
