"""Every place that tells a user which files are read names the same formats."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


def test_the_viewer_takes_every_suffix() -> None:
    page = (ROOT / "service/mri_recon_service/static/viewer/index.html").read_text(encoding="utf-8")
    found = re.search(r'id="file" accept="([^"]*)"', page)
    assert found
    assert set(found[1].split(",")) == set(SUFFIXES)
