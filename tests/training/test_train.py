from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from mri_recon.checkpoint import load_checkpoint
from mri_recon.data.dataset import FolderSlices, split_folder, validation_examples
from mri_recon.errors import CheckpointError, ConfigError
from mri_recon.training.config import OptimizerConfig, load_config
from mri_recon.training.train import learning_rate_factor, run, validate

TINY = [
    "run.name=tiny",
    "run.threads=1",
    "run.validate_every=4",
    "run.checkpoint_every=2",
    "run.batch_size=2",
    "model.chans=4",
    "model.num_pool_layers=2",
    "model.channels_per_group=4",
    "optimizer.warmup=2",
    "data.rows=16",
    "data.workers=0",
    "data.validation_slices=2",
    "data.sampling.acceleration=[2, 4]",
]


def _config(folder: Path, data: Path, steps: int) -> tuple[Path, list[str]]:
    path = folder / "config.toml"
    path.write_text("")
    return path, [*TINY, f"run.folder={folder / 'runs'}", f"data.root={data}", f"run.steps={steps}"]


def _weights(folder: Path) -> bytes:
    return (folder / "state.safetensors").read_bytes()


def test_training_learns_and_writes_a_model(tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 60)
    folder = run(path, [*overrides, "run.validate_every=20", "run.checkpoint_every=60", "optimizer.lr=3e-3"])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60]
    config = load_config(path, overrides)
    examples = validation_examples(FolderSlices.index(split_folder(config.data)[1]), config.data, seed=0)
    untrained = validate(nn.Identity(), examples, torch.device("cpu"))["psnr"]
    assert lines[-1]["psnr"] > untrained + 0.3
    card = load_checkpoint(folder / "tiny.safetensors").card
    best = max(line["psnr"] for line in lines)
    assert card.results["psnr"] == best
    assert card.loss_curve[-1]["psnr"] == best
    assert card.data == [{"name": str(fastmri_folder), "kind": "user"}]
    assert card.training["configuration"]["run"]["steps"] == 60


def test_a_killed_run_goes_on_exactly(tmp_path: Path, fastmri_folder: Path) -> None:
    whole = run(*_config(tmp_path / "a", fastmri_folder, 12) if (tmp_path / "a").mkdir() is None else ())
    (tmp_path / "b").mkdir()
    path, overrides = _config(tmp_path / "b", fastmri_folder, 12)
    code = (
        f"from pathlib import Path; from mri_recon.training.train import run; run(Path({str(path)!r}), {overrides!r})"
    )
    folder = tmp_path / "b" / "runs" / "tiny"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 200
        while not (folder / "state.safetensors").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert run(None, [], folder) == folder
    mine, theirs = (load_checkpoint(f / "tiny.safetensors") for f in (folder, whole))
    # Equal bytes of model, average and moments are the promise; the history has seconds in it.
    from safetensors.torch import load

    mine_state, whole_state = load(_weights(folder)), load(_weights(whole))
    assert mine_state.keys() == whole_state.keys()
    for key, value in whole_state.items():
        assert torch.equal(mine_state[key], value), key
    assert mine.sha256 == theirs.sha256


def test_an_existing_run_is_not_overwritten(tmp_path: Path, fastmri_folder: Path) -> None:
    arguments = _config(tmp_path, fastmri_folder, 2)
    run(*arguments)
    with pytest.raises(ConfigError, match="exists: go on with --resume"):
        run(*arguments)


def test_resume_needs_a_run_and_its_own_state(tmp_path: Path, fastmri_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a run's folder with config\.json"):
        run(None, [], tmp_path)
    with pytest.raises(ConfigError, match="expected a configuration file or --resume RUN"):
        run(None)
    folder = run(*_config(tmp_path, fastmri_folder, 2))
    with pytest.raises(ConfigError, match="--set is not possible"):
        run(None, ["run.steps=4"], folder)
    (folder / "state.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="resume: cannot read"):
        run(None, [], folder)


def test_bfloat16_trains(tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 2)
    folder = run(path, [*overrides, "run.precision=bfloat16", "data.workers=1"])
    assert (folder / "tiny.safetensors").exists()


def test_a_device_that_is_not_there(tmp_path: Path, fastmri_folder: Path) -> None:
    path, overrides = _config(tmp_path, fastmri_folder, 2)
    with pytest.raises(ConfigError, match=r"run\.device: expected auto, cpu, cuda or mps, got 'abacus'"):
        run(path, [*overrides, "run.device=abacus"])
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="sees no CUDA device"):
            run(path, [*overrides, "run.device=cuda", "run.name=other"])


def test_learning_rate_warms_up_and_falls() -> None:
    config = OptimizerConfig(warmup=10, final_lr=0.1)
    factors = [learning_rate_factor(step, 100, config) for step in range(101)]
    assert factors[0] == pytest.approx(0.1, rel=0.01)
    assert max(factors) == pytest.approx(1, rel=0.03)
    assert factors[50] == pytest.approx(0.55)
    assert factors[100] == pytest.approx(0.1)
    assert factors[9:] == sorted(factors[9:], reverse=True)
