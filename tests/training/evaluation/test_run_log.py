from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mri_recon_training.evaluation.run_log import code_state, command_text, commit, find_repository, log_test_run


def test_the_log_gets_a_line_a_run(tmp_path: Path) -> None:
    log = tmp_path / "runs.log"
    log_test_run(log, "mri-recon evaluate --split test")
    log_test_run(log, "second")
    first, second = log.read_text().splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (\w{12}(\+changes)?|unknown) mri-recon evaluate --split test", first
    )
    assert second.endswith(" second")


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    log_test_run(tmp_path / "runs.log", "c")
    assert (tmp_path / "runs.log").read_text().split()[1] == "unknown"
    assert code_state() == "unknown"


def test_the_state_is_that_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's own page and log are no change of it; a changed module is, and each change another."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    packages = ("mri_recon", "data/mri_recon_data", "training/mri_recon_training", "service/mri_recon_service")
    for folder in (*packages, "docs"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_text("first")
    (tmp_path / "pyproject.toml").write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.chdir(tmp_path / "docs")
    first = commit(), code_state()
    assert re.fullmatch(r"\w{12}", first[0])
    (tmp_path / "docs" / "file").write_text("a page")
    assert (commit(), code_state()) == first
    git("commit", "-qam", "a page")
    assert commit() != first[0]
    assert code_state() == first[1]
    states = {first[1]}
    for package in packages:
        for text in ("second", "third"):
            (tmp_path / package / "file").write_text(text)
            assert commit().endswith("+changes")
            states.add(code_state())
    assert len(states) == 9


def test_the_checkout_is_found_from_inside(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    assert find_repository(inside) is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mri-recon"\n')
    assert find_repository(inside) == tmp_path
    (tmp_path / "a" / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert find_repository(inside) is None


@pytest.mark.parametrize(
    ("argument", "written"),
    [
        ("/home/somebody/out/results.json", "results.json"),
        ("--json=/home/somebody/results.json", "--json=results.json"),
        ("unrolled.model=/home/somebody/w.safetensors", "unrolled.model=w.safetensors"),
        ("../results.json", "results.json"),
        ("docs/results.md", "docs/results.md"),
        ("results.json", "results.json"),
        ("zero-filled,cg-sense", "zero-filled,cg-sense"),
        ("cs-wavelet.reg_weight=0.05", "cs-wavelet.reg_weight=0.05"),
    ],
)
def test_a_command_tells_of_no_folder_outside_the_checkout(
    argument: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mri-recon"\n')
    monkeypatch.chdir(tmp_path)
    assert command_text(["evaluate", argument]) == f"mri-recon evaluate {written}"


def test_a_path_below_the_checkouts_root_is_written_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mri-recon"\n')
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    assert command_text(["./results.md"]) == "mri-recon docs/results.md"
    assert command_text([str(tmp_path / "docs" / "results.md")]) == "mri-recon docs/results.md"


def test_outside_a_checkout_only_names_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command_text(["a b", "docs/results.md"]) == "mri-recon 'a b' results.md"
