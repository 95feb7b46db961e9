"""The verb `mri-recon train`: argument parsing only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train"]


def train(
    config: Annotated[
        Path | None,
        typer.Argument(
            help="TOML file, or the name of a shipped one such as unet or unrolled; left out with --resume",
            metavar="CONFIG",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key of the configuration: KEY=VALUE, e.g. run.steps=100"),
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Resume the run in this folder", metavar="RUN")] = None,
) -> None:
    """Train a network as CONFIG describes, or resume a run exactly where it stopped.

    Examples: mri-recon train fine-tune --set data.root=my-scans (from the released weights),
    mri-recon train unet --set data.root=my-scans, mri-recon train --resume runs/unet

    Several GPUs: torchrun --nproc-per-node=4 --no-python mri-recon train unet --set run.batch_size=8
    """
    from mri_recon.cli import tell
    from mri_recon_training.run import run

    folder = run(config, list(overrides or []), resume)
    if os.environ.get("RANK", "0") == "0":  # one line, however many processes
        tell(f"run: {folder}")
