"""What a user gets: the wheel, installed where other packages are called `data` and `tests`, works by itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.no_network import sitecustomize as no_network
from tests.support.patience import PATIENCE

ROOT = Path(__file__).parents[1]

PACKAGES = ("mri_recon", "mri_recon_data", "mri_recon_service", "mri_recon_training")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Without isolation: the build backend is locked with everything else, and no network is needed.
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)], ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of a fresh environment that has the wheel, and borrows its dependencies from here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    _run([sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet", "--no-deps", str(wheel)], folder)
    # After its own packages on the path. Files of the editable install are not followed from there, so that mri_recon
    # can only be the wheel's.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A working folder with packages named like rooms of this project."""
    for name in ("data", "tests", "training", "service"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('the user\\'s own {name} was imported')\n")
    return tmp_path


def test_what_travels(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {*PACKAGES, f"{wheel.name.split('-py3')[0]}.dist-info"}
    for needed in ("mri_recon/_sample/colin27_8ch.h5", "mri_recon/_sample/NOTICE.txt", "mri_recon_data/registry.toml"):
        assert needed in names
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert [name for name in names if name.startswith("mri_recon/weights/") and name.endswith(".safetensors")]
    assert not [name for name in names if "test" in name or "__pycache__" in name]
    assert [name for name in names if name.endswith(".dist-info/sboms/bundled.cdx.json")]
    assert wheel.stat().st_size < 45e6  # four networks: the released ones and those of version 0.1


def test_the_package_is_the_wheel(installed: Path, elsewhere: Path) -> None:
    where = _run([str(installed / "python"), "-c", "import mri_recon; print(mri_recon.__file__)"], elsewhere)
    assert Path(where.strip()).is_relative_to(installed.parent)


def test_the_demo_runs_from_anywhere(installed: Path, elsewhere: Path) -> None:
    program = str(installed / "mri-recon")
    sample = _run([program, "data", "sample"], elsewhere).strip()
    assert Path(sample).is_relative_to(installed.parent)
    methods = "zero-filled,cs-wavelet,unet,unrolled"
    arguments = ["--acceleration", "4", "--methods", methods, "--json", "out.json", "--figure", "out.png"]
    _run([program, "compare", sample, *arguments], elsewhere)
    results = json.loads((elsewhere / "out.json").read_text())["results"]
    assert [row["method"] for row in results] == methods.split(",")
    assert (elsewhere / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def served(installed: Path, elsewhere: Path) -> Iterator[str]:
    log = elsewhere / "server.log"
    with log.open("w") as out:
        command = [str(installed / "mri-recon"), "serve", "--port", "0"]
        server = subprocess.Popen(command, cwd=elsewhere, stdout=out, stderr=subprocess.STDOUT, env=_environment())
        try:
            yield _address(server, log)
        finally:
            server.terminate()
            server.wait(timeout=PATIENCE)


def test_the_server_runs_from_anywhere(served: str) -> None:
    with urllib.request.urlopen(f"{served}/health/live", timeout=PATIENCE) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{served}/v1/models", timeout=PATIENCE) as answer:
        assert b"unet" in answer.read()


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"serves on (http://127\.0\.0\.1:\d+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"the server did not start: {log.read_text()}")


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, env=_environment(), check=False
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _environment() -> dict[str, str]:
    """This environment without what would lead Python to this source tree, and without a network."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COVERAGE", "PYTEST"))}
    return {**kept, "PYTHONPATH": str(Path(no_network.__file__).parent)}
