"""Check the outputs of an evaluation before the work, and write them after it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from mri_recon._system.outputs import STDOUT
from mri_recon_training.evaluation.run_log import command_text, commit, find_repository, log_test_run

if TYPE_CHECKING:
    from mri_recon_training.evaluation.resume import FinishedComparisons

__all__ = ["Outputs"]


class _WritePage(Protocol):
    def __call__(self, path: Path, *, command: str, commit: str) -> None: ...


@dataclass(frozen=True)
class Outputs:
    """Hold where an evaluation of a split writes to.

    Attributes:
        json: as `--json`.
        markdown: as `--markdown`.
        log: as `--log`.
        command: the command, for the page and the log.
        commit: of the project at the start of the run.
    """

    json: Path | None
    markdown: Path | None
    log: Path | None
    command: str = field(default_factory=lambda: command_text(sys.argv[1:]))
    commit: str = field(default_factory=commit)

    @property
    def keep(self) -> Path | None:
        """File of finished work, from which an interrupted run resumes; None keeps none."""
        return None if self.json is None or self.piped else self.json.with_name(f"{self.json.name}.partial")

    @property
    def piped(self) -> bool:
        """Whether the JSON goes to standard output."""
        return self.json == STDOUT

    def claim(self, options: Iterable[Mapping[str, Any]]) -> None:
        """Check that every output can be written, and replaces no file that the methods or the evaluation read.

        Args:
            options: of the methods.

        Raises:
            OutputError: an output that cannot be written.
            MethodError: a page is wanted, and Matplotlib is not installed.
        """
        from mri_recon._system.outputs import check_writable_folder
        from mri_recon.cli import JSON_SUFFIXES, claim, files_read
        from mri_recon_data.registry import local_files
        from mri_recon_training.evaluation.plots import require_matplotlib

        claim(
            {"--json": self.json, "--json .partial": self.keep, "--markdown": self.markdown, "--log": self.log},
            [*files_read(options=options), *(("registered data", path) for path in local_files())],
            suffixes={"--json": JSON_SUFFIXES, "--markdown": (".md",)},
            appended=["--log"],
        )
        if self.markdown is not None:
            require_matplotlib()
            check_writable_folder("--markdown", self.markdown.parent / "images")

    def started(self, split: str, what: str) -> Callable[[int], None]:
        """Give the function that is called between the checks and the work: it logs a run on the test split.

        Args:
            split: split of the scans.
            what: what is kept of an interrupted run, e.g. "scans"; the function takes their number.
        """

        def begin(resumed: int) -> None:
            from mri_recon.cli import tell

            if resumed:
                tell(f"resuming with {resumed} finished {what} of {self.keep}", err=True)
            if split == "test":
                self._log()

        return begin

    def write(self, document: dict[str, Any], write_page: _WritePage, finished: FinishedComparisons) -> None:
        """Write the results and the page, if requested, and then remove what was kept to resume from.

        Args:
            document: content of the JSON file.
            write_page: writes the page.
            finished: the finished work.

        Raises:
            OutputError: a file cannot be written.
        """
        from mri_recon._system.jsonable import json_text, write_json
        from mri_recon.cli import tell

        if self.json is not None and self.piped:
            typer.echo(json_text(document), nl=False)
        elif self.json is not None:
            write_json(self.json, document)
            tell(f"results: {self.json}")
        if self.markdown is not None:
            write_page(self.markdown, command=self.command, commit=self.commit)
            tell(f"page: {self.markdown}", err=self.piped)
        finished.finish()

    def _log(self) -> None:
        log = self.log
        if log is None:
            repository = find_repository(Path.cwd())
            if repository is None:
                typer.echo(
                    "mri-recon: warning: not in the project's checkout, so this test run is not logged: --log FILE",
                    err=True,
                )
                return
            log = repository / "docs" / "results" / "test-runs.log"
            log.parent.mkdir(parents=True, exist_ok=True)
        log_test_run(log, self.command)
