"""Runs that are made longer or interrupted, and what a run says at its start and at its end."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load as load_tensors
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon_data.examples.slices import FolderSlices
from mri_recon_training.optimizer_config import OptimizerConfig
from mri_recon_training.pictures import pictures_allowed
from mri_recon_training.run import run
from mri_recon_training.schedules import extended_factor, learning_rate_factor
from mri_recon_training.toml_config import named_configs
from tests.support.patience import PATIENCE
from tests.training.test_train import COMMON, UNET


def _overrides(tmp_path: Path, data: Path, steps: int) -> list[str]:
    tmp_path.mkdir(exist_ok=True)
    return [*COMMON, *UNET, f"run.folder={tmp_path / 'runs'}", f"data.root={data}", f"run.steps={steps}"]


def _start(tmp_path: Path, data: Path, steps: int, *more: str) -> Path:
    path = tmp_path / "config.toml"
    tmp_path.mkdir(exist_ok=True)
    path.write_text("")
    return run(path, [*_overrides(tmp_path, data, steps), *more])


def _state(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors((folder / "state.safetensors").read_bytes())


def _events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    return events


@given(
    lengths=st.lists(st.integers(2, 40), min_size=2, max_size=4, unique=True).map(sorted),
    warmup=st.integers(0, 9),
    decay=st.sampled_from(["cosine", "exponential", "step", "none"]),
    share=st.floats(0.1, 1),
)
def test_a_longer_schedule_begins_where_the_old_one_stood_and_ends_as_the_new_one(
    lengths: list[int], warmup: int, decay: str, share: float
) -> None:
    config = OptimizerConfig(decay=decay, warmup=warmup)  # type: ignore[arg-type]
    starts = [max(1, round(share * length)) for length in lengths[:-1]]
    extended = tuple(zip(starts, lengths, strict=False))
    factors = [extended_factor(step, lengths[-1], extended, config) for step in range(lengths[-1])]
    for step in range(starts[0]):
        assert factors[step] == learning_rate_factor(step, lengths[0], config)
    for step in range(starts[-1] + max(1, warmup), lengths[-1]):
        assert factors[step] == pytest.approx(learning_rate_factor(step, lengths[-1], config))
    if warmup and starts[0] < lengths[-1]:
        assert factors[starts[0]] == pytest.approx(learning_rate_factor(starts[0], lengths[0], config))


def test_a_run_that_is_made_longer(tmp_path: Path, fastmri_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It goes on from its state, says what becomes of the learning rate, and does so again in the same bits."""
    folder = _start(tmp_path / "a", fastmri_folder, 4)
    weights = _state(folder)
    capsys.readouterr()
    assert run(None, ["run.steps=10", "run.validate_every=2"], folder) == folder
    said = capsys.readouterr().err
    assert "changed: run.steps 4 -> 10, run.validate_every 4 -> 2" in said
    assert "learning rate: from 5e-06 at step 4 to 0.000176 at step 6, where a run of 10 steps would be" in said
    assert "going on behind step 4 of 10" in said
    assert json.loads((folder / "config.json").read_text())["run"]["extended"] == [[4, 4]]
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [4, 6, 8, 10]
    rates = {event.step: event.value for event in _events(folder).Scalars("train/lr")}
    expected = [5e-4 * extended_factor(step, 10, [(4, 4)], OptimizerConfig(warmup=2)) for step in range(11)]
    assert rates[10] == pytest.approx(expected[10], rel=1e-5)
    assert [rates[step] for step in range(4, 11)] == pytest.approx(expected[4:], rel=1e-5)
    changed = _state(folder)
    assert any(not torch.equal(weights[key], changed[key]) for key in weights if key.startswith("model"))
    # The same in two pieces.
    other = _start(tmp_path / "b", fastmri_folder, 4)
    run(None, ["run.steps=10", "run.validate_every=2"], other)
    assert all(torch.equal(value, _state(other)[key]) for key, value in changed.items())
    run(None, ["run.steps=10"], other)  # it has nothing left to do
    assert json.loads((other / "config.json").read_text())["run"]["extended"] == [[4, 4]]


@pytest.mark.slow  # a process that imports everything
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_saves_the_step_it_stopped_at(number: signal.Signals, tmp_path: Path, fastmri_folder: Path) -> None:
    """Between two saved states: nothing of the steps since the last is lost, and the line on stderr resumes the run."""
    rarely = ["run.checkpoint_every=1000", "run.validate_every=1000"]
    whole = _start(tmp_path / "a", fastmri_folder, 150, *rarely)
    path = tmp_path / "config.toml"
    path.write_text("")
    given = _overrides(tmp_path / "b", fastmri_folder, 150) + rarely
    command = [sys.executable, "-m", "mri_recon.cli", "train", str(path)]
    command += [part for one in given for part in ("--set", one)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        deadline = time.monotonic() + PATIENCE
        for line in process.stderr:
            assert time.monotonic() < deadline
            if line.startswith("expected time for the other"):
                break
        process.send_signal(number)
        errors = process.stderr.read()
    folder = tmp_path / "b" / "runs" / "tiny"
    assert "stopping after this step; again stops at once" in errors
    last = errors.splitlines()[-1]
    if number == signal.SIGINT:
        assert process.returncode == 130, errors
        assert last == f"mri-recon: interrupted: go on with mri-recon train --resume {folder}"
    else:
        assert process.returncode == -signal.SIGTERM, errors
        assert last == "mri-recon: ended by SIGTERM"
    assert (folder / "state.safetensors").exists()
    result = CliRunner().invoke(build_app(), ["train", "--resume", str(folder)])
    assert result.exit_code == 0, result.output
    started = int(result.stderr.split("going on behind step ")[1].split()[0])
    assert 20 <= started < 150
    theirs, mine = _state(whole), _state(folder)
    assert all(torch.equal(value, mine[key]) for key, value in theirs.items())


def test_a_run_says_what_it_is_and_how_its_weights_are_used(tmp_path: Path, fastmri_folder: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("")
    sets = [part for one in _overrides(tmp_path, fastmri_folder, 30) for part in ("--set", one)]
    result = CliRunner().invoke(build_app(), ["train", str(path), *sets])
    assert result.exit_code == 0, result.output
    said = result.stderr.splitlines()
    assert f"data: {fastmri_folder}, split by subject" in said
    assert "training: 3 subjects, 3 files, 6 slices" in said
    assert "validation: 1 subject, 1 file, 2 slices, 4 examples every 4 steps" in said
    assert "30 steps of 2 examples: 60 examples, 10 for each training slice (epochs)" in said
    assert sum(line.startswith("expected time for the other 10 steps: ") for line in said) == 1
    lines = result.stdout.splitlines()
    weights = tmp_path / "runs" / "tiny" / "tiny.safetensors"
    assert lines[0] == f"run: {tmp_path / 'runs' / 'tiny'}"
    assert lines[1].startswith(f"weights: {weights} (step ")
    (command,) = (line.removeprefix("use them: mri-recon ") for line in lines if line.startswith("use them: "))
    out = tmp_path / "out.h5"
    typed = command.replace("FILE", str(fastmri_folder / "file0.h5")).replace("OUT.h5", str(out))
    result = CliRunner().invoke(build_app(), shlex.split(typed))
    assert result.exit_code == 0, result.output
    assert out.exists()
    longer = next(line for line in lines if line.startswith("train longer: "))
    typed = longer.split("; ")[0].removeprefix("train longer: mri-recon ")
    assert shlex.split(typed)[-1] == "run.steps=60"


def test_tensorboard_has_pictures(tmp_path: Path, fastmri_folder: Path) -> None:
    """Reconstruction, target and difference of the first validation example of each kind, at each validation."""
    import io

    from PIL import Image

    folder = _start(tmp_path, fastmri_folder, 8)
    events = _events(folder)
    tags = events.Tags()["images"]
    assert tags == [f"raw-{rate}x: reconstruction | target | 5 x absolute difference" for rate in (4, 8)]
    drawn = events.Images(tags[0])
    assert [one.step for one in drawn] == [4, 8]
    pixels = np.asarray(Image.open(io.BytesIO(drawn[0].encoded_image_string)).convert("L")).astype(float) / 255
    assert pixels.shape == (20, 3 * 56)
    image, target, difference = np.split(pixels, 3, axis=1)
    assert target.max() == 1
    inside = (image < 1) & (target < 1)
    expected = np.clip(5 * np.abs(image - target), 0, 1)
    np.testing.assert_allclose(difference[inside], expected[inside], atol=6 / 255)
    assert 0.9 < inside.mean() < 1


def test_scans_that_may_not_be_pictured_are_in_no_picture(tmp_path: Path, fastmri_folder: Path) -> None:
    files = sorted(fastmri_folder.glob("*.h5"))
    assert pictures_allowed(FolderSlices.index(files))
    for path in files:
        with h5py.File(path, "a") as file:
            file.attrs["no_pictures"] = True
    assert not pictures_allowed(FolderSlices.index(files[:1]))
    folder = _start(tmp_path, fastmri_folder, 4)
    assert _events(folder).Tags()["images"] == []


def test_the_list_of_configurations_says_what_each_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(build_app(), ["train", "--list"])
    assert result.exit_code == 0, result.output
    found = named_configs()
    assert {"unet", "unrolled", "fine-tune"} <= set(found)
    help_text = CliRunner().invoke(build_app(), ["train", "--help"]).stdout
    for name, (what, _) in found.items():
        assert name in result.stdout
        assert name in help_text
        assert what.endswith("."), f"{name}: its first comment says what it is"
    assert max(map(len, result.stdout.splitlines())) <= 80
