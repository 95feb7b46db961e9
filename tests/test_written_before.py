"""What version 0.1 wrote, before the packages were moved, replays, loads and resumes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon.models.checkpoint import load_checkpoint
from mri_recon_training.run import run

WRITTEN = Path(__file__).parent / "written_by_0_1"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files, since a run names the folder of its scans relative to it."""
    shutil.copytree(WRITTEN, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


@pytest.mark.parametrize("name", ["cs-wavelet", "unet", "unrolled", "unrolled-tiny"])
def test_a_result_replays(old: Path, name: str) -> None:
    model = ["--model", "run-done/tiny.safetensors"] if name == "unrolled-tiny" else []
    done = CliRunner().invoke(build_app(), ["replay", f"{name}.h5", "--input", "scans/0.h5", *model])
    assert done.exit_code == 0, done.output


def test_a_checkpoint_loads(old: Path) -> None:
    loaded = load_checkpoint(old / "run-done" / "tiny.safetensors")
    assert loaded.card.architecture == "cascade"
    stored = load_file(old / "run-done" / "tiny.safetensors")
    assert {name: tuple(value.shape) for name, value in loaded.network.state_dict().items()} == {
        name: tuple(value.shape) for name, value in stored.items()
    }


def test_a_training_state_goes_on_to_the_same_weights(old: Path) -> None:
    stopped = load_file(old / "run-stopped" / "state.safetensors")
    folder = run(None, (), old / "run-stopped")
    mine, theirs = (load_file(one / "state.safetensors") for one in (folder, old / "run-done"))
    assert mine.keys() == theirs.keys()
    # Other processors round differently, and Adam makes a whole step of a gradient that is nearly zero. So single
    # weights differ, but all together have changed alike since the run was stopped.
    for part in ("model.", "average.", "optimizer."):
        names = [name for name in theirs if name.startswith(part) and theirs[name].is_floating_point()]
        assert names
        apart = sum(float((mine[name] - theirs[name]).square().sum()) for name in names)
        change = sum(float((theirs[name] - stopped[name]).square().sum()) for name in names)
        assert apart < 0.2**2 * change, part
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [4, 6]
