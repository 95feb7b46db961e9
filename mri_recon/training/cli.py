"""The verbs `mri-recon train` and `mri-recon evaluate`: argument parsing only."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mri_recon.errors import ConfigError

if TYPE_CHECKING:
    from mri_recon.training.evaluate import Evaluation

__all__ = ["evaluate", "train"]


def train(
    config: Annotated[
        Path | None, typer.Argument(help="Configuration; leave it out with --resume", metavar="CONFIG.toml")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE over the configuration, e.g. run.steps=100")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run's folder", metavar="RUN")] = None,
) -> None:
    """Train a network as CONFIG.toml says, or go on with a run exactly where it stopped.

    Examples: mri-recon train unet.toml --set data.root=my-scans, mri-recon train --resume runs/unet

    Several GPUs: torchrun --nproc-per-node=4 --no-python mri-recon train unet.toml --set run.batch_size=8
    """
    from mri_recon.training.train import run

    folder = run(config, list(overrides or []), resume)
    if os.environ.get("RANK", "0") == "0":  # one line, however many processes
        typer.echo(f"run: {folder}")


def evaluate(
    split: Annotated[str, typer.Option(help="validation for every choice; test for numbers that are reported")],
    acceleration: Annotated[str, typer.Option(help="Accelerations, separated by commas")] = "4,8",
    methods: Annotated[
        str, typer.Option(help="Names, separated by commas, simplest first")
    ] = "zero-filled,cs-wavelet,unet",
    seeds: Annotated[str, typer.Option(help="Seeds of the masks, separated by commas")] = "0",
    center_fraction: Annotated[
        float | None, typer.Option(help="Of the masks; by default 0.08 below 6x, else 0.04")
    ] = None,
    num_low_frequencies: Annotated[int | None, typer.Option(help="The same as a number of columns")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Of one method: METHOD.KEY=VALUE")] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Measure again with the background masked")] = False,
    simulated: Annotated[
        bool,
        typer.Option("--simulated", help="Beside the raw scans: simulated multi-coil k-space of the split's images"),
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write the results here", metavar="OUT.json")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write the results page here", metavar="OUT.md")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(help="Where a run on the test split leaves a line; by default docs/test-runs.log of the checkout"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where to compute, cpu (the default) or e.g. cuda")] = None,
) -> None:
    """Methods on every registered raw scan of a split: a table a scan and means; fails where a scan is missing.

    Example: mri-recon evaluate --split test --acceleration 4,8 --json results.json --markdown docs/results.md
    """
    from mri_recon._files import write_atomically
    from mri_recon.cli import check_folder, method_list, options_by_method
    from mri_recon.compare import check_methods, write_json
    from mri_recon.training import evaluate as evaluation

    for target in (json, markdown, log):
        if target is not None:
            check_folder(target)
    names = method_list(methods)
    options = options_by_method(option or [], names)
    check_methods(names, options)
    accelerations, masks = _numbers(acceleration, "--acceleration"), _integers(seeds, "--seeds")
    kinds = {"raw": evaluation.raw_sources(split)}
    if simulated:
        from mri_recon.training.simulated import simulated_sources

        kinds["simulated"] = simulated_sources(split)
    command = "mri-recon " + shlex.join(sys.argv[1:])
    if split == "test":
        _log(log, command)
    results = [
        evaluation.evaluate_scans(
            sources,
            split=split,
            kind=kind,
            accelerations=accelerations,
            methods=names,
            seeds=masks,
            center_fraction=center_fraction,
            num_low_frequencies=num_low_frequencies,
            options=options,
            device=device,
            foreground=foreground,
            report=lambda text: typer.echo(f"... {text}", err=True),
        )
        for kind, sources in kinds.items()
    ]
    for result in results:
        _print(result)
    if json is not None:
        write_json(json, evaluation.results_document(results))
        typer.echo(f"results: {json}")
    if markdown is not None:
        write_atomically(markdown, evaluation.markdown_page(results, command=command, methods=names).encode())
        typer.echo(f"page: {markdown}")


def _print(result: Evaluation) -> None:
    from mri_recon.cli import print_results

    what = f"split {result.split}, {result.kind} k-space"
    notes = [f"Not measured: {name} ({reason})." for name, reason in result.left_out.items()]
    print_results(result.rows, title=f"Each scan: {what}", notes=notes, with_file=True)
    means = [{"file": f"{m['scans']} scans, {m['persons']} persons", "seed": "all", **m} for m in result.means()]
    order = "Means over slices, then masks, then the scans of a person, then persons."
    notes = [order, result.convention]
    print_results(means, title=f"Means: {what}", notes=notes, with_file=True)


def _log(log: Path | None, command: str) -> None:
    from mri_recon.training.evaluate import find_repository, log_test_run

    if log is None:
        repository = find_repository(Path.cwd())
        if repository is None:
            typer.echo(
                "mri-recon: warning: not in the project's checkout, so this test run is not logged: --log FILE",
                err=True,
            )
            return
        log = repository / "docs" / "test-runs.log"
        log.parent.mkdir(exist_ok=True)
    log_test_run(log, command)


def _numbers(text: str, option: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise ConfigError(f"expected {option} as numbers separated by commas, got {text!r}: write e.g. 4,8")
    return numbers


def _integers(text: str, option: str) -> list[int]:
    numbers = _numbers(text, option)
    if any(number != int(number) for number in numbers):
        raise ConfigError(f"expected {option} as whole numbers separated by commas, got {text!r}: write e.g. 0,1,2")
    return [int(number) for number in numbers]
