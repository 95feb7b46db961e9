"""Run the verbs on several files: their outputs, progress, the journal, and the exit status."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mri_recon._system.text import duration
from mri_recon.cli.batch_tables import print_comparisons, print_reconstructions
from mri_recon.cli.messages import say, warn
from mri_recon.cli.outputs import CSV_SUFFIXES, JSON_SUFFIXES, claim, tell
from mri_recon.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from mri_recon.batch.inputs import Inputs
    from mri_recon.batch.jobs import Job, Outcome
    from mri_recon.batch.persons import Persons
    from mri_recon.batch.run import Counts
    from mri_recon.cli.progress import Working
    from mri_recon.results.recipe import MaskChoice, Recipe

__all__ = ["JOURNAL_SUFFIX", "Comparisons", "compare_files", "end_batch", "reconstruct_files"]

JOURNAL_SUFFIX = ".journal"
"""Suffix of the journal, behind the name of the results."""

_RESULTS = ("results.csv", "results.json")
_JOURNAL = f"results{JOURNAL_SUFFIX}"
_SUFFIX = ".h5"
_LONGEST_NAME = 20

_SOME_FAILED, _ALL_FAILED = 1, 2


@dataclass(frozen=True)
class Comparisons:
    """Say what is written about comparisons of several files.

    Attributes:
        json: as `--json`.
        csv: as `--csv`.
        figures: folder of the pictures.
        persons: as `--persons`.
        foreground: measure again with the background masked.
        needs_truth: a file without a reference fails.
        remarks: warnings about the finished files.
    """

    json: Path | None = None
    csv: Path | None = None
    figures: Path | None = None
    persons: str | None = None
    foreground: bool = False
    needs_truth: bool = False
    remarks: Callable[[Sequence[Outcome], Persons], Sequence[str]] = lambda outcomes, persons: ()


def reconstruct_files(
    arguments: Sequence[Path],
    folder: Path,
    recipe: Recipe,
    work: Working,
    read: Sequence[tuple[str, str | Path]],
    *,
    like: Path | None,
    suffix: str | None,
    workers: str | None,
    threads: int | None,
    retry_failed: bool = True,
) -> None:
    """Reconstruct every file into a folder, with a table and a document of the results, and print the table.

    Args:
        arguments: files, folders and patterns.
        folder: folder of the results.
        recipe: what to do with each file.
        work: shows the progress.
        read: further files that are read.
        like: as `--like`.
        suffix: as `--suffix`.
        workers: as `--workers`.
        threads: as `--threads`.
        retry_failed: whether files that failed are tried again.

    Raises:
        ConfigError, FormatError, OutputError: impossible arguments or outputs.
        Exit: a file failed.
    """
    from mri_recon._system.jsonable import write_json
    from mri_recon._system.outputs import check_suffix, check_writable_folder
    from mri_recon.batch.documents import reconstruction_document, reconstruction_table
    from mri_recon.batch.file_jobs import ReconstructFiles, contents, output_paths
    from mri_recon.batch.inputs import find_inputs
    from mri_recon.io import RESULT_SUFFIXES

    ending = _SUFFIX if suffix is None else suffix if suffix.startswith(".") else f".{suffix}"
    check_suffix(f"x{ending}", RESULT_SUFFIXES, option="--suffix")
    check_writable_folder("-o", folder)
    inputs = find_inputs(arguments, without=[folder])
    paths = output_paths(inputs.files, folder, ending, taken=[*_RESULTS, _JOURNAL], read=read)
    job = ReconstructFiles(recipe, paths, like, contents(read))
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = run_files(
        job,
        inputs,
        work,
        journal=folder / _JOURNAL,
        workers=workers,
        threads=threads or 1,
        device=_name(recipe.device),
        retry_failed=retry_failed,
    )
    table, document = (folder / name for name in _RESULTS)
    write_csv(table, reconstruction_table(outcomes))
    write_json(document, reconstruction_document(outcomes))
    work.end()
    print_reconstructions(outcomes)
    tell(f"results: {table}, {document}")
    end_batch(outcomes)


def compare_files(
    arguments: Sequence[Path],
    recipes: Sequence[Recipe],
    masks: Sequence[MaskChoice],
    request: Comparisons,
    work: Working,
    read: Sequence[tuple[str, str | Path]],
    *,
    workers: str | None,
    threads: int | None,
    retry_failed: bool = True,
) -> None:
    """Compare methods on every file, print each file and the means, and write what was asked for.

    Args:
        arguments: files, folders and patterns.
        recipes: one for each method.
        masks: masks that all methods get, one after the other.
        request: what is written.
        work: shows the progress.
        read: further files that are read.
        workers: as `--workers`.
        threads: as `--threads`.
        retry_failed: whether files that failed are tried again.

    Raises:
        ConfigError, FormatError, OutputError: impossible arguments or outputs.
        Exit: a file failed.
    """
    from mri_recon._system.jsonable import json_text, write_json
    from mri_recon._system.outputs import FIGURE_SUFFIXES, STDOUT, check_writable_folder
    from mri_recon.batch.documents import comparison_document, comparison_table
    from mri_recon.batch.file_jobs import CompareFiles, contents
    from mri_recon.batch.inputs import find_inputs
    from mri_recon.batch.persons import Persons

    figures = request.figures
    if figures is not None:
        if figures.suffix.lower() in FIGURE_SUFFIXES:
            raise ConfigError(
                f"--figure: expected a folder for the pictures of several files, got {figures}: name a folder"
            )
        check_writable_folder("--figure", figures)
    inputs = find_inputs(arguments, without=[] if figures is None else [figures])
    persons = Persons(request.persons, inputs.files)
    journal = _journal_beside(None if request.json == STDOUT else request.json, request.csv)
    files = [*read, *(("an input FILE", item.path) for item in inputs.files)]
    outputs = {"--json": request.json, "--csv": request.csv, "its journal": journal}
    suffixes = {"--json": JSON_SUFFIXES, "--csv": CSV_SUFFIXES}
    piped = claim(outputs, files, suffixes=suffixes, appended=["its journal"])
    job = CompareFiles(
        tuple(recipes),
        tuple(masks),
        foreground=request.foreground,
        figures=figures,
        needs_truth=request.needs_truth,
        contents=contents(read),
    )
    device = _name(recipes[0].device)
    outcomes = run_files(
        job,
        inputs,
        work,
        journal=journal,
        workers=workers,
        threads=threads or 1,
        device=device,
        retry_failed=retry_failed,
    )
    document = comparison_document(outcomes, persons, foreground=request.foreground)
    if request.csv is not None:
        write_csv(request.csv, comparison_table(outcomes, persons))
    if request.json is not None and not piped:
        write_json(request.json, document)
    work.end()
    print_comparisons(outcomes, persons, foreground=request.foreground, err=piped)
    if piped:
        typer.echo(json_text(document), nl=False)
    written = [("results", request.json if not piped else None), ("table", request.csv), ("pictures", figures)]
    for what, path in written:
        if path is not None:
            tell(f"{what}: {path}", err=piped)
    for remark in request.remarks(outcomes, persons):
        warn(remark)
    end_batch(outcomes, err=piped)


def _journal_beside(*results: Path | None) -> Path | None:
    """Name the journal of a command by the first of its files of results; None if it writes none."""
    first = next((one for one in results if one is not None), None)
    return None if first is None else first.with_name(f"{first.name}{JOURNAL_SUFFIX}")


def _name(device: str | torch.device | None) -> str | None:
    return None if device is None else str(device)


def run_files(
    job: Job,
    inputs: Inputs,
    work: Working,
    *,
    journal: Path | None,
    workers: str | None,
    threads: int,
    device: str | None,
    retry_failed: bool,
) -> list[Outcome]:
    """Run a job on every file, and show how far it is.

    Args:
        job: the work.
        inputs: the files.
        work: shows the progress.
        journal: file of finished work.
        workers: as `--workers`.
        threads: threads of each file.
        device: device that computes.
        retry_failed: whether files that failed are tried again.

    Raises:
        KeyboardInterrupt: an interrupt, with a hint on how to go on.
        ConfigError, OutputError: as `run_batch`.
    """
    from mri_recon.batch.run import parse_workers, run_batch

    total = len(inputs.files)
    state = _Progress(work, total)
    number_of_workers = parse_workers(workers, device, threads)
    if inputs.left_out:
        say(f"{inputs.left_out} files in the folders are no k-space by their names and are left out")
    try:
        return run_batch(
            job,
            inputs.files,
            journal=journal,
            workers=number_of_workers,
            threads=threads,
            retry_failed=retry_failed,
            started=state.started,
            on_outcome=state.on_outcome,
            report=state.on_step if number_of_workers == 1 else lambda name, text, done, total: None,
        )
    except KeyboardInterrupt:
        kept = "" if journal is None else "; the same command goes on with the rest"
        raise KeyboardInterrupt(f"{state.done} of {total} files are done{kept}") from None


class _Progress:
    """Show the number of finished files, and the time that the others take by the mean of the finished ones."""

    def __init__(self, work: Working, total: int) -> None:
        self._work, self._total, self._resumed, self._failed = work, total, 0, 0
        self._start = time.monotonic()
        self.done = 0

    def started(self, counts: Counts) -> None:
        self.done = self._resumed = counts.resumed
        self._failed = counts.failed
        self._start = time.monotonic()
        if counts.resumed:
            left = counts.total - counts.resumed
            failed = f" ({counts.failed} failed and left aside by --no-retry-failed)" if counts.failed else ""
            say(f"{counts.resumed} of {counts.total} files are done and unchanged{failed}; {left} to do")
        if counts.stale:
            say(f"{counts.stale} files were done with other settings or another version, and are done again")
        self._show("")

    def on_outcome(self, outcome: Outcome, counts: Counts) -> None:
        self.done, self._failed = counts.done, counts.failed
        for note in outcome.notes:
            warn(f"{outcome.name}: {note}")
        self._show("")

    def on_step(self, name: str, text: str, done: int, total: int | None) -> None:
        self._show(f", {_short(name)}: {text.partition(':')[0]}")

    def _show(self, text: str) -> None:
        failed = f", {self._failed} failed" if self._failed else ""
        new = self.done - self._resumed
        left = ""
        if new and self.done < self._total:
            seconds = (time.monotonic() - self._start) / new * (self._total - self.done)
            left = f", {duration(seconds)} left"
        self._work.step(f"files{failed}{left}{text}:", self.done, self._total)


def _short(name: str) -> str:
    """Return the end of a name that leaves room for the rest of a line."""
    return name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as a CSV table, in one step.

    Raises:
        OutputError: the file cannot be written.
    """
    from mri_recon._system.files import write_atomically
    from mri_recon.batch.documents import csv_text

    write_atomically(path, csv_text(rows).encode())


def end_batch(outcomes: Sequence[Outcome], *, err: bool = False) -> None:
    """Print how many files are done, and each error; end with status 1 if some files failed, 2 if all did.

    Raises:
        Exit: a file failed.
    """
    failed = [one for one in outcomes if one.failed]
    done = len(outcomes) - len(failed)
    tell(f"{done} of {len(outcomes)} files done{f', {len(failed)} failed' if failed else ''}", err=err)
    for one in failed:
        say(f"failed: {one.name}: {one.error}")
    if failed:
        raise typer.Exit(_SOME_FAILED if done else _ALL_FAILED)
