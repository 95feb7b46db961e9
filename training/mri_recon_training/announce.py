"""Say at the start of a run what it trains on and for how long, and at its end how its weights are used."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from mri_recon._system.text import plural
from mri_recon.io.formats.fastmri import FastMRIFile
from mri_recon.methods.networks import method_of
from mri_recon.models.checkpoint import load_checkpoint
from mri_recon_data.examples.slices import FolderSlices, Slices
from mri_recon_data.registry import files as registered_files
from mri_recon_training.config import TrainConfig, parse_config
from mri_recon_training.toml_config import read_json

__all__ = ["end_lines", "start_lines"]


def start_lines(
    config: TrainConfig, training: Slices, validation: Slices, *, num_examples: int, first: int
) -> list[str]:
    """Describe subjects, files and slices of both splits, and steps and epochs of a run.

    Args:
        config: of the run.
        training: its training slices.
        validation: its validation slices.
        num_examples: number of validation examples.
        first: finished steps.
    """
    run, count = config.run, _num_slices(training)
    examples = run.steps * run.batch_size
    what = "registered sets" if not config.data.root else f"{config.data.root}"
    worlds = ", beside pictures of other worlds" if config.data.worlds is not None and not config.data.root else ""
    how = "by data.split_file" if config.data.split_file else "by subject"
    each = "example" if run.batch_size == 1 else "examples"
    length = f"{run.steps} steps of {run.batch_size} {each}: {examples} examples"
    lines = [
        f"data: {what}, split {how}",
        f"training: {_described(config, training, 'train')}{worlds}",
        f"validation: {_described(config, validation, 'validation')}, {num_examples} examples every "
        f"{run.validate_every} steps",
        f"{length}, {examples / count:.3g} for each training slice (epochs)" if count else length,
    ]
    if first:
        lines.append(f"going on behind step {first} of {run.steps}")
    return lines


def end_lines(folder: Path) -> list[str]:
    """Name the weights of a finished run, how good they are, and the command that uses them.

    Raises:
        CheckpointError: the weights are gone.
    """
    config = parse_config(read_json(folder / "config.json"))
    weights = folder / f"{config.run.name}.safetensors"
    loaded = load_checkpoint(weights)
    best = loaded.card.results
    method = method_of(loaded.card.architecture, loaded.network)
    command: list[Any] = ["mri-recon", "reconstruct", "FILE", "--method", method]
    command += ["--option", f"model={weights}", "--acceleration", "4", "-o", "OUT.h5"]
    start = f"train fine-tune --set run.weights={shlex.quote(str(weights))} --set run.name=NAME"
    return [
        f"weights: {weights} (step {best['step']:.0f} of {config.run.steps}, validation {best['psnr']:.2f} dB, SSIM "
        f"{best['ssim']:.4f})",
        f"use them: {shlex.join(command)}",
        f"train longer: mri-recon train --resume {shlex.quote(str(folder))} --set run.steps={2 * config.run.steps}; "
        f"on other files: mri-recon {start}",
    ]


def _described(config: TrainConfig, slices: Slices, split: str) -> str:
    if isinstance(slices, FolderSlices):
        paths = list(dict.fromkeys(path for path, _ in slices.slices))
        persons = len({_person(path) for path in paths})
        parts = [plural(persons, "subject"), plural(len(paths), "file"), plural(len(slices.slices), "slice")]
        return ", ".join(parts)
    files = [file for file in registered_files(split=split) if file.kind != "phantom"]
    files = [file for file in files if not config.data.hold_out or file.person != config.data.hold_out]
    persons = len({file.person for file in files})
    parts = [plural(persons, "subject"), plural(len(files), "file")]
    parts += [f"{len(slices.raw)} raw slices", f"{len(slices.images)} slices of magnitude images"]
    return ", ".join(parts)


def _num_slices(slices: Slices) -> int:
    return len(slices.slices) if isinstance(slices, FolderSlices) else len(slices.raw) + len(slices.images)


def _person(path: Path) -> str:
    with FastMRIFile(path) as file:
        return file.patient_id or path.stem
