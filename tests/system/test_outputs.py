"""Outputs are checked before the work: no input, no other output, nothing that is no file, nowhere that is closed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import mri_recon._system.outputs as outputs
from mri_recon._system.outputs import STDOUT, check_outputs, check_suffix, check_writable_folder
from mri_recon.errors import OutputError

KINDS = ("same", "symlink", "link to link", "hard link", "dotted", "other folder", "linked folder")
OPTIONS = ("-o", "--json", "--figure", "--markdown")


def alias(kind: str, file: Path) -> Path:
    """Another way to name a file."""
    folder = file.parent
    other = folder / "alias.h5"
    match kind:
        case "same":
            return file
        case "symlink":
            other.symlink_to(file)
        case "link to link":
            (folder / "step").symlink_to(file)
            other.symlink_to("step")
        case "hard link":
            other.hardlink_to(file)
        case "dotted":
            (folder / "sub").mkdir()
            return folder / "sub" / ".." / "." / file.name
        case "other folder":
            return Path(os.path.relpath(file))
        case "linked folder":
            (folder / "folder").symlink_to(folder)
            return folder / "folder" / file.name
    return other


@given(st.sampled_from(KINDS), st.sampled_from(OPTIONS), st.booleans())
def test_an_output_is_no_input(kind: str, option: str, swapped: bool) -> None:
    """Whichever of the two is the link."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "scan.h5")
        file.write_bytes(b"raw data")
        other = alias(kind, file)
        given, written = (other, file) if swapped else (file, other)
        with pytest.raises(OutputError, match=f"expected {option} to name a file of its own, got .*, which is --mask"):
            check_outputs({"--else": Path(name, "else"), option: written}, [("FILE", "absent"), ("--mask", given)])
        assert file.read_bytes() == b"raw data"
        assert not Path(name, "else").exists()


@given(st.sampled_from(KINDS), st.lists(st.sampled_from(OPTIONS), min_size=2, max_size=2, unique=True), st.booleans())
def test_two_outputs_are_two_files(kind: str, options: list[str], exists: bool) -> None:
    """Whether the file is there already or not."""
    assume(exists or kind != "hard link")
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "out.h5")
        if exists:
            file.touch()
        with pytest.raises(OutputError, match=f"expected {options[1]} .*, which is {options[0]}"):
            check_outputs({options[0]: file, options[1]: alias(kind, file)})
        assert file.exists() is exists


@given(
    st.lists(st.text("abcAB.é", min_size=1, max_size=6).filter(lambda name: name.strip(".")), min_size=2, max_size=4)
)
def test_different_files_are_fine(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        paths = {f"--{number}": Path(name, one) for number, one in enumerate(dict.fromkeys(names))}
        assert check_outputs(paths, [("FILE", Path(name, "input.h5"))]) == []
        assert not list(Path(name).iterdir())


def test_case_is_no_difference_where_the_file_system_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {"--json": tmp_path / "Out", "--figure": tmp_path / "out"}
    assert check_outputs(paths) == []
    monkeypatch.setattr(outputs, "_folds_case", lambda folder: True)
    with pytest.raises(OutputError, match="expected --figure to name a file of its own"):
        check_outputs(paths)


def test_whether_case_is_a_difference_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outputs._folds_case(tmp_path) is False
    monkeypatch.setattr(Path, "exists", lambda self: "CASE" in self.name)
    assert outputs._folds_case(tmp_path) is True
    assert not os.listdir(tmp_path)  # noqa: PTH208


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent" / "x")
    for path, message in (
        (tmp_path / "pipe", "it is a pipe"),
        (tmp_path / "link", "it is a pipe"),
        (Path("/dev/null"), "it is a device"),
        (Path("/dev/full"), "it is a device"),
        (tmp_path, "got the folder .*: add a file name"),
        (tmp_path / "file" / "x", "a folder that exists, got .*file"),
        (tmp_path / "absent" / "x", "a folder that exists, got .*absent: create it first"),
        (tmp_path / "nowhere", "a folder that exists, got .*absent: create it first"),
        (tmp_path / "loop", "Too many levels of symbolic links"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("/proc/out.json"), "cannot write /proc/out.json"),
        (Path("/proc/self/status"), "cannot write|write-protected"),
        (STDOUT, "got -: name one"),
    ):
        with pytest.raises(OutputError, match=f"--json: .*{message}"):
            check_outputs({"--json": path})


def test_standard_output(tmp_path: Path) -> None:
    assert check_outputs({"--json": STDOUT, "--figure": tmp_path / "a"}, stdout=["--json"]) == []
    with pytest.raises(OutputError, match="one output on standard output"):
        check_outputs({"--json": STDOUT, "--log": STDOUT}, stdout=["--json", "--log"])
    code = (
        "from pathlib import Path; from mri_recon._system.outputs import check_outputs\n"
        "try: check_outputs({'-o': Path('/dev/stdout')})\n"
        "except Exception as error: import sys; print(error, file=sys.stderr)"
    )
    with (tmp_path / "caught").open("w") as file:
        done = subprocess.run([sys.executable, "-c", code], stdout=file, stderr=subprocess.PIPE, text=True, check=True)
    assert "is where this command's standard output goes" in done.stderr


def test_protected_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "raw.h5"
    path.touch()
    path.chmod(0o444)
    with pytest.raises(OutputError, match=r"raw.h5 is write-protected \(mode 0444\) and is kept"):
        check_outputs({"-o": path})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_closed_folders(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="Permission denied.*can be written to"):
        check_outputs({"-o": tmp_path / "a"})


def test_refusals_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read-only file systems, full ones, immutable files: whatever the system says when it is asked."""
    (tmp_path / "old").touch()

    def refuse(number: int) -> Any:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise OSError(number, os.strerror(number))

        return fail

    for number, words in ((30, "Read-only file system"), (28, "free some space"), (122, "free some space")):
        with monkeypatch.context() as patch:
            patch.setattr(outputs, "create_beside", refuse(number))
            with pytest.raises(OutputError, match=f"--json: cannot write .*{words}"):
                check_outputs({"--json": tmp_path / "new"})
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse(1))
        with pytest.raises(OutputError, match="Operation not permitted"):
            check_outputs({"--json": tmp_path / "old"})
    assert [found.name for found in tmp_path.iterdir()] == ["old"]


def test_hard_links_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (note,) = check_outputs({"-o": tmp_path / "a"})
    assert "a has 2 names (hard links)" in note
    assert "the others keep the old content" in note


@pytest.mark.parametrize("name", ["a.h5", "a.HDF5", "a.b.h5", ".h5.h5"])
def test_suffixes(name: str) -> None:
    check_suffix(name, (".h5", ".hdf5"))
    check_suffix("anything", ())


@given(st.text(max_size=8), st.sampled_from(["", ".nii.gz", ".json", ".h5x", ".h", "h5", ".h5.part"]))
def test_other_suffixes_are_refused_with_the_list(stem: str, suffix: str) -> None:
    name = "x" + stem.replace("/", "").replace("\0", "") + "x" + suffix
    assume(not name.lower().endswith((".h5", ".hdf5", ".npy")))
    with pytest.raises(OutputError, match=r"--figure: expected a name that ends in \.h5, \.hdf5 or \.npy"):
        check_outputs({"--figure": Path(name)}, suffixes={"--figure": (".h5", ".hdf5", ".npy")})


def test_folders_for_outputs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_writable_folder("-o", tmp_path)
    check_writable_folder("-o", tmp_path / "a" / "b")
    with pytest.raises(OutputError, match="-o: expected a folder, got .*file, which is a file"):
        check_writable_folder("-o", tmp_path / "file" / "b")
    with pytest.raises(OutputError, match="-o: cannot write"):
        check_writable_folder("-o", Path("/proc/runs"))
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
