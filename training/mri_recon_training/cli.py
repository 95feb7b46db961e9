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
            help="TOML file, or the name of a shipped one (--list); left out with --resume",
            metavar="CONFIG",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key of the configuration: KEY=VALUE, e.g. run.steps=100"),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Resume the run in this folder; with --set run.steps=N, make it longer", metavar="RUN"),
    ] = None,
    names: Annotated[
        bool, typer.Option("--list", help="List the shipped configurations, each with what it is, and end")
    ] = False,
) -> None:
    """Train a network as CONFIG describes, or resume a run exactly where it stopped.

    Shipped configurations, of which --list says more: fine-tune (released weights, on your files),
    unet and unrolled (the networks, from random weights), worlds (their data section alone),
    unet-0.1 and unrolled-0.1 (those of version 0.1), try (ends within minutes, of no use).

    Ctrl-C ends a run after its step and prints how to resume it.

    Example: mri-recon train fine-tune --set data.root=my-scans (from the released weights)

    Example: mri-recon train unet --set data.root=my-scans

    Example: mri-recon train --resume runs/unet --set run.steps=80000

    Several GPUs: torchrun --nproc-per-node=4 --no-python mri-recon train unet --set run.batch_size=8
    """
    from mri_recon.cli import tell

    if names:
        _print_names()
        return
    from mri_recon_training.announce import end_lines
    from mri_recon_training.run import run

    folder = run(config, list(overrides or []), resume)
    if os.environ.get("RANK", "0") == "0":  # once, however many processes
        tell(f"run: {folder}")
        for line in end_lines(folder):
            tell(line)


def _print_names() -> None:
    from rich.text import Text

    from mri_recon.cli.tables import make_console, make_table
    from mri_recon_training.toml_config import named_configs

    table = make_table()
    table.add_column("configuration", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("what it is")
    for name, (what, steps) in named_configs().items():
        table.add_row(Text(name), "" if steps is None else str(steps), Text(what))
    make_console().print(table)
