from __future__ import annotations

import json
from pathlib import Path

import pytest

from mri_recon.errors import ConfigError
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.folder_split import split_folder
from tests.support.fastmri_files import write_fastmri


def test_folder_is_split_by_person(fastmri_folder: Path) -> None:
    train, validation = split_folder(DataConfig(root=str(fastmri_folder)))
    assert {path.name for path in train} | {path.name for path in validation} == {
        path.name for path in fastmri_folder.iterdir()
    }
    for visits in (train, validation):
        names = {path.name for path in visits}
        assert ("file0.h5" in names) == ("file0-visit2.h5" in names)


def test_folder_split_by_a_list(fastmri_folder: Path, tmp_path: Path) -> None:
    lists = tmp_path / "split.json"
    lists.write_text(json.dumps({"train": ["file1.h5"], "validation": ["file2.h5"]}))
    train, validation = split_folder(DataConfig(root=str(fastmri_folder), split_file=str(lists)))
    assert [path.name for path in train] == ["file1.h5"]
    assert [path.name for path in validation] == ["file2.h5"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"train": ["file1.h5"]}', "expected JSON"),
        ("nonsense", "expected JSON"),
        ('{"train": ["file1.h5"], "validation": ["file7.h5"]}', r"files missing in data\.root: \['file7\.h5'\]"),
        ('{"train": ["file1.h5"], "validation": ["file1.h5"]}', r"in both splits: \['file1\.h5'\]"),
    ],
)
def test_bad_lists(fastmri_folder: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        split_folder(DataConfig(root=str(fastmri_folder), split_file=str(tmp_path / "split.json")))


def test_no_folder_and_one_person(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a folder with fastMRI files \(\*\.h5\), found none"):
        split_folder(DataConfig(root=str(tmp_path / "nosuch")))
    write_fastmri(tmp_path / "a.h5")
    with pytest.raises(ConfigError, match="expected files of at least two persons, got 0 training and 1 validation"):
        split_folder(DataConfig(root=str(tmp_path)))
