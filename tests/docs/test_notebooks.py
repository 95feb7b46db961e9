"""The notebooks run from top to bottom, and were saved with their output."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_the_notebooks_are_found() -> None:
    assert {one.stem for one in NOTEBOOKS} == {"first-reconstruction", "own-data-to-training", "trust"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_saved_as_it_ran(path: Path) -> None:
    """Every cell has run, in order, none failed, and none shows where it ran."""
    nbformat = pytest.importorskip("nbformat")
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(output.output_type != "error" for output in outputs)
    assert any("image/png" in output.get("data", {}) or "<img" in str(output) for output in outputs)
    assert str(Path.home()) not in str(outputs)
    assert path.stat().st_size < 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, 4)
    from jupyter_client.manager import AsyncKernelManager

    kernel = AsyncKernelManager(transport="ipc")
    client = nbclient.NotebookClient(notebook, kernel, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "OMP_NUM_THREADS": "1"})
    saved = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    now = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for before, after in zip(saved, now, strict=True):
        assert [one.output_type for one in before.outputs] == [one.output_type for one in after.outputs], after.source
