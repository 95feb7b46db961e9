"""A folder of small files in fastMRI's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fastmri_files import write_folder


@pytest.fixture
def fastmri_folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "files")
