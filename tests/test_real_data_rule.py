"""Real data that is said to be at hand is used: a skipped real-data test fails the run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
TESTS = """
import pytest

def test_uses_it(real_data):
    assert real_data.is_dir()

@pytest.mark.real_data
@pytest.mark.skipif({skip}, reason="somebody's oversight")
def test_left_out():
    pass
"""


def _run(folder: Path, *, data: str | None, skip: bool) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = real_data\n")
    (folder / "test_it.py").write_text(TESTS.format(skip=skip))
    environment = {key: value for key, value in os.environ.items() if key != "MRI_RECON_DATA"}
    if data is not None:
        environment["MRI_RECON_DATA"] = data
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_without_the_data_skips_are_fine(tmp_path: Path) -> None:
    done = _run(tmp_path, data=None, skip=True)
    assert done.returncode == 0, done.stdout
    assert "2 skipped" in done.stdout


def test_with_the_data_everything_must_run(tmp_path: Path) -> None:
    assert _run(tmp_path, data=str(tmp_path), skip=False).returncode == 0


def test_with_the_data_a_skip_fails_and_is_named(tmp_path: Path) -> None:
    done = _run(tmp_path, data=str(tmp_path), skip=True)
    assert done.returncode == 1, done.stdout
    assert "MRI_RECON_DATA is set, but this real-data test was skipped: test_it.py::test_left_out" in done.stdout


@pytest.mark.parametrize("missing", ["absent", "file"])
def test_data_that_is_missing_fails(tmp_path: Path, missing: str) -> None:
    (tmp_path / "file").touch()
    done = _run(tmp_path, data=str(tmp_path / missing), skip=False)
    assert done.returncode == 1, done.stdout
    assert "which is not a folder" in done.stdout
