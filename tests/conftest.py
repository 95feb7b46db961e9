"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the registered real data; skips, with the reason, where `MRI_RECON_DATA` is unset."""
    root = os.environ.get("MRI_RECON_DATA")
    if not root:
        pytest.skip("real data: set MRI_RECON_DATA to a folder laid out like the data registry")
    path = Path(root)
    if not path.is_dir():
        pytest.fail(f"MRI_RECON_DATA names {path}, which is not a folder")
    return path
