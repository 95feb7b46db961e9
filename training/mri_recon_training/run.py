"""Start a training run, or resume one: its configuration and its folder.

    mri-recon train CONFIG.toml [--set run.steps=100]
    mri-recon train --resume RUN [--set run.steps=200]
    torchrun --nproc-per-node=4 --no-python mri-recon train CONFIG.toml

A run has a folder: `config.json`, `state.safetensors` (to resume), `metrics.jsonl` (one line for each validation),
`tensorboard` (curves), and NAME.safetensors with its model card NAME.json: the averaged weights that scored best on the
validation examples.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mri_recon._system.files import write_atomically
from mri_recon._system.outputs import check_outputs, check_writable_folder
from mri_recon.errors import ConfigError, MriReconError
from mri_recon.models.checkpoint import weights_file
from mri_recon_training.config import TrainConfig, load_config, parse_config
from mri_recon_training.extension import extend, extension_lines
from mri_recon_training.processes import launch
from mri_recon_training.state import STATE_FILE, finished_steps
from mri_recon_training.toml_config import config_file, read_json
from mri_recon_training.train import train

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["run"]


def run(config_path: Path | None, overrides: Sequence[str] = (), resume: Path | None = None) -> Path:
    """Train as a configuration file describes, or resume the run in the folder `resume`; returns the run's folder.

    A run that is resumed keeps its configuration, but for what `extension.extend` allows.

    Raises:
        ConfigError: a bad configuration, neither or both of file and run, or a run folder that is already there; and
            as `train`.
        CheckpointError: as `train`.
        OutputError: the run's folder cannot be written to, or its files would replace files that the run reads.
    """
    if (config_path is None) == (resume is None):
        raise ConfigError("train: expected a configuration file or --resume RUN, one of the two")
    if resume is not None:
        saved = resume / "config.json"
        if not saved.is_file():
            raise ConfigError(f"train --resume: expected a run's folder with config.json, got {resume}")
        config = parse_config(read_json(saved))
        check_writable_folder("train --resume", resume)
        longer = extend(config, overrides, finished_steps(resume / STATE_FILE)) if overrides else config
        fabric = launch(longer)
        if longer != config and fabric.is_global_zero:
            for line in extension_lines(config, longer):
                print(line, file=sys.stderr, flush=True)
            write_atomically(saved, (longer.model_dump_json(indent=2) + "\n").encode())
        fabric.barrier()
        return _interruptible(longer, resume, fabric)
    assert config_path is not None
    config_path = config_file(config_path)
    config = load_config(config_path, overrides)
    folder = Path(config.run.folder) / config.run.name
    check_writable_folder("run.folder", folder)
    if folder.is_dir():
        _check_files(config, folder, config_path)
    fabric = launch(config)
    made: list[Path] = []
    try:
        if fabric.is_global_zero:
            if (folder / "config.json").exists():
                raise ConfigError(
                    f"run folder {folder} exists: go on with --resume {folder}, or choose another --set run.name=NAME"
                )
            made = _make_folder(folder)
            write_atomically(folder / "config.json", (config.model_dump_json(indent=2) + "\n").encode())
            made.insert(0, folder / "config.json")
        fabric.barrier()
        return _interruptible(config, folder, fabric)
    except MriReconError:
        _take_back(folder, made)
        raise


def _check_files(config: TrainConfig, folder: Path, config_path: Path) -> None:
    """Refuse a run whose files, in an existing folder, would replace files that it reads."""
    weights = folder / f"{config.run.name}.safetensors"
    outputs = [folder / "config.json", folder / STATE_FILE, weights, weights.with_suffix(".json")]
    inputs: list[tuple[str, str | Path]] = [("the configuration", config_path)]
    if config.run.weights:
        start = weights_file(config.run.weights)
        inputs += [("the start weights", start), ("the card of the start weights", start.with_suffix(".json"))]
    check_outputs({f"the run's {path.name}": path for path in outputs}, inputs)


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; returns the new ones, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _take_back(folder: Path, made: Sequence[Path]) -> None:
    """Remove the folder of a run that was refused before it wrote anything but its configuration."""
    with contextlib.suppress(OSError):  # a folder that holds something else stays
        if made and {path.name for path in folder.iterdir()} <= {"config.json"}:
            for path in made:
                path.rmdir() if path.is_dir() else path.unlink()


def _interruptible(config: TrainConfig, folder: Path, fabric: Fabric) -> Path:
    """Run `train`; an interrupt says how to resume."""
    try:
        return train(config, folder, fabric)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on with mri-recon train --resume {shlex.quote(str(folder))}") from None
