from __future__ import annotations

from pathlib import Path

import pytest

from mri_recon.errors import ConfigError
from mri_recon_training.config import TrainConfig, load_config, parse_config


def _file(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_file_then_overrides(tmp_path: Path) -> None:
    path = _file(tmp_path, "[run]\nsteps = 7\n[optimizer]\nlr = 1e-3\n")
    config = load_config(path, ["run.steps=9", "data.root=some/folder", "data.sampling.acceleration=[3, 5]"])
    assert config.run.steps == 9
    assert config.optimizer.lr == 1e-3
    assert config.data.root == "some/folder"
    assert config.data.sampling.acceleration == (3, 5)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(_file(tmp_path, "")) == TrainConfig()


def test_released_configurations_are_valid() -> None:
    folder = Path(__file__).parents[2] / "training" / "mri_recon_training" / "configs"
    paths = sorted(folder.glob("*.toml"))
    assert paths
    for path in paths:
        config = load_config(path)
        if path.stem == "try":  # to see that a training runs
            continue
        assert config.run.steps >= (100 if config.run.weights else 10_000)  # from released weights, or from new ones
        assert config.model.chans * 2**config.model.num_pool_layers >= 128


def test_a_written_configuration_reads_back() -> None:
    config = parse_config({"run": {"steps": 3}, "model": {"chans": 8}})
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.stepz=3", r"unknown key run\.stepz .*'steps'.*: expected one of batch_size, channels_last, .*steps"),
        ("runs.steps=3", r"unknown key runs .*'run'.*: expected one of batches, data, loss, model, optimizer, run"),
        ("data.simulation.snrs=3", r"unknown key data\.simulation\.snrs .*'snr'.*: expected one of air, content"),
        (
            "model.chanz=3",
            r"unknown key model\.chanz .*'chans'.*: expected one of architecture, channels_per_group, chans, .*patch$",
        ),
        ("model.architecture=vit", r"model\.architecture: expected one of unet, unrolled, cascade, got 'vit'"),
        ("batches.maps=jsense", r"batches\.maps: Input should be 'espirit' or 'center', got 'jsense'"),
        ("run.steps=0", r"run\.steps: .*greater than or equal to 1, got 0"),
        ("run.precision=float16", r"run\.precision: Input should be 'float32', 'bfloat16' or 'float64', got 'float16'"),
        ("run.steps", "--set: expected section.key=value, got 'run.steps'"),
        ("=3", "--set: expected section.key=value"),
        ("run.steps.more=3", "steps is a value, not a section"),
    ],
)
def test_bad_overrides(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(_file(tmp_path, "[run]\nsteps = 7\n"), [override])


def test_no_file_and_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nosuch\.toml: cannot be read \(No such file or directory\)"):
        load_config(tmp_path / "nosuch.toml")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(_file(tmp_path, "[run"))
