from __future__ import annotations

from pathlib import Path

import pytest

from mri_recon.batch.inputs import SUFFIXES, find_inputs, names_several
from mri_recon.errors import FormatError
from mri_recon_service.uploads.upload import SUFFIXES as UPLOADED


def _names(*arguments: Path, without: tuple[Path, ...] = ()) -> list[str]:
    return [one.name for one in find_inputs(arguments, without=without).files]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for name in ("b.h5", "a/x.npy", "a/x.mat", "a/deep/fid", "a/deep/procpar", "notes.txt", ".hidden.h5", ".git/y.h5"):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "scans"


def test_a_folder_stands_for_its_files_of_kspace(scans: Path) -> None:
    found = find_inputs([scans])
    assert [one.name for one in found.files] == ["a/deep/fid", "a/x.mat", "a/x.npy", "b.h5"]
    assert found.left_out == 2  # notes and procpar


def test_a_pattern_matches_files_and_folders(scans: Path) -> None:
    assert _names(scans / "*.h5") == ["b.h5"]
    assert _names(scans / "**" / "x.*") == ["x.mat", "x.npy"]
    assert _names(scans / "*") == ["a/deep/fid", "a/x.mat", "a/x.npy", "b.h5", "notes.txt"]
    assert names_several([scans / "*.h5"])


def test_a_file_whose_name_has_brackets_is_no_pattern(tmp_path: Path) -> None:
    path = tmp_path / "scan[1].h5"
    path.touch()
    assert not names_several([path])
    assert _names(path) == ["scan[1].h5"]


def test_each_file_is_there_once_in_the_order_of_the_arguments(scans: Path) -> None:
    (scans / "a" / "link.h5").symlink_to(scans / "b.h5")
    assert _names(scans / "b.h5", scans, scans / "a" / ".." / "b.h5") == ["b.h5", "a/deep/fid", "a/x.mat", "a/x.npy"]


def test_files_of_one_name_are_told_apart(scans: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "b.h5"
    other.parent.mkdir()
    other.touch()
    assert _names(scans / "b.h5", other) == ["scans/b.h5", "other/b.h5"]


def test_outputs_are_no_inputs(scans: Path) -> None:
    assert _names(scans, without=(scans / "a",)) == ["b.h5"]
    assert _names(scans / "**" / "*.npy", scans / "b.h5", without=(scans / "b.h5",)) == ["a/x.npy", "b.h5"]


def test_a_missing_file_is_left_to_the_reader(scans: Path) -> None:
    assert _names(scans / "b.h5", scans / "none.h5") == ["b.h5", "none.h5"]
    assert names_several([scans, scans])
    assert not names_several([scans / "none.h5"])


def test_a_folder_or_pattern_without_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FormatError, match=r"expected files of k-space in .*, found none that end in \.h5, "):
        find_inputs([tmp_path])
    with pytest.raises(FormatError, match="name the files or another folder"):
        find_inputs([tmp_path / "*.h5"])


def test_a_folder_of_dicom_images_holds_no_kspace(tmp_path: Path) -> None:
    (tmp_path / "image.dcm").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(FormatError, match="is a folder of DICOM images, which holds no k-space"):
        find_inputs([tmp_path])


def test_every_suffix_of_an_upload_is_searched_for() -> None:
    assert set(UPLOADED) <= set(SUFFIXES)
