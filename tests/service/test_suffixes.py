"""Every place that tells a user which files are read names the same formats."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mri_recon.io import RESULT_SUFFIXES
from mri_recon_service.uploads.upload import SUFFIXES

ROOT = Path(__file__).parents[2]
ONE_OF_TWO = {".hdf5"}  # another spelling of .h5, which prose leaves out

TEXTS = {
    "README.md": r"mr\.load\(.*",
    "mri_recon/cli/options.py": r'help="k-space: .*',
    "mri_recon/io/formats/table.py": r"FORMATS = \((?s:.*?)\n\)",
    "service/mri_recon_service/http/openapi.py": r'"The scan: .*',
    "service/mri_recon_service/static/viewer/index.html": r'id="file-hint">.*',
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_name_every_suffix(name: str) -> None:
    found = re.search(TEXTS[name], (ROOT / name).read_text(encoding="utf-8"))
    assert found, f"{name}: the text that lists the formats is not where it was"
    named = set(re.findall(r"\.(?:h5|[a-z]{3}|7)\b", found[0].replace("HDF5", ".h5")))
    assert set(SUFFIXES) - ONE_OF_TWO <= named


@pytest.mark.parametrize("name", ["README.md", "mri_recon/cli/options.py", "mri_recon/io/formats/table.py"])
def test_texts_name_the_formats_that_are_not_uploaded(name: str) -> None:
    found = re.search(TEXTS[name], (ROOT / name).read_text(encoding="utf-8"))
    assert found
    assert all(format in found[0] for format in (".cfl", "Agilent fid"))


def test_the_help_and_the_page_name_every_format_of_results() -> None:
    written = set(RESULT_SUFFIXES) - ONE_OF_TWO
    verbs = (ROOT / "mri_recon/cli/verbs.py").read_text(encoding="utf-8")
    (line,) = re.findall(r'"File to write: (.*)"', verbs)
    assert written <= set(line.rstrip(",").split(", "))
    (section,) = re.findall(
        r"^## Writing\n(.*?)^## ", (ROOT / "docs/using/files.md").read_text(encoding="utf-8"), re.M | re.S
    )
    assert written <= set(re.findall(r"`(\.[a-z0-9.]+)`", section))


def test_the_viewer_takes_every_suffix() -> None:
    page = (ROOT / "service/mri_recon_service/static/viewer/index.html").read_text(encoding="utf-8")
    found = re.search(r'id="file" accept="([^"]*)"', page)
    assert found
    assert set(found[1].split(",")) == set(SUFFIXES)
