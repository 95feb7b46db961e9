"""The first minute: `mri-recon demo`, and a trial training on the embedded sample."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon.cli import demo as module
from mri_recon.io import load

README = Path(__file__).parents[2] / "README.md"


def test_the_demo_ends_with_table_picture_and_next_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_METHODS", ("zero-filled", "cg-sense"))
    done = CliRunner().invoke(build_app(), ["demo", "--folder", str(tmp_path / "new" / "demo")], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    table, _, following = done.stdout.partition("Next, with a scan of yours")
    assert re.search(r"zero-filled .*22\.90", table)
    assert "SIMULATED" in table
    assert "a demonstration, not a result" in table
    results = json.loads((tmp_path / "new" / "demo" / "compare.json").read_text())["results"]
    assert [row["method"] for row in results] == ["zero-filled", "cg-sense"]
    with Image.open(tmp_path / "new" / "demo" / "compare.png") as picture:
        assert picture.width > 500
    for command in re.findall(r"^  mri-recon (\w+)", following, flags=re.MULTILINE):
        assert CliRunner().invoke(build_app(), [command, "--help"]).exit_code == 0


def test_a_demo_without_matplotlib_has_no_picture_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_METHODS", ("zero-filled",))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = CliRunner().invoke(build_app(), ["demo", "--folder", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "pip install matplotlib" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["compare.json"]


def test_a_folder_that_cannot_be_made_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = CliRunner().invoke(build_app(), ["demo", "--folder", str(tmp_path / "file" / "demo")])
    assert done.exit_code == 2
    assert "expected a folder that can be made" in done.stderr
    assert "--folder" in done.stderr


def test_the_readmes_trial_training_runs_on_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its two commands as they stand there, with fewer steps; there is no network in the tests."""
    monkeypatch.chdir(tmp_path)
    commands = re.findall(
        r"^mri-recon (data sample --files .*|train try .*)$", README.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert len(commands) == 2
    fewer = ["--set", "run.steps=2", "--set", "run.validate_every=2", "--set", "optimizer.warmup=1"]
    for command, more in zip(commands, ([], [*fewer, "--set", "data.workers=0"]), strict=True):
        done = CliRunner().invoke(build_app(), [*shlex.split(command), *more])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "runs" / "try" / "try.safetensors").is_file()
    scan = load(tmp_path / "my-scans" / "validation.h5")
    assert scan.num_slices == 1
    assert scan.meta["simulated"]
