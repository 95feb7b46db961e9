"""A job for tests of many files: it doubles the number in each file, and does what the file's name asks for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mri_recon.batch.inputs import Input
from mri_recon.batch.jobs import Aide
from mri_recon.errors import FormatError, OutputError

__all__ = ["Double", "make_items"]


@dataclass(frozen=True)
class Double:
    """Write twice the number of each file into `folder`; a line in `folder/log` says that it was done.

    A name that begins with "bad" fails, "killed" ends the process, "full" finds a full disk, "slow" waits. With
    `alone`, the work fails if another file is worked on at the same time.
    """

    folder: Path
    option: int = 0
    alone: bool = False
    needs: int = 0

    def settings(self) -> dict[str, Any]:
        return {"option": self.option}

    def outputs(self, item: Input) -> list[Path]:
        return [self.folder / f"{item.name}.out"]

    def run(self, item: Input, aide: Aide) -> dict[str, Any]:
        number = int(item.path.read_text())
        aide.reserve(self.needs)
        kind = item.path.name.rstrip("0123456789")
        if self.alone:
            self._alone()
        if kind == "bad":
            raise FormatError(f"expected a good file, got {item.name}")
        if kind == "fault":
            raise ZeroDivisionError("a bug")
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "full":
            raise OutputError("no space", full=True)
        if kind == "slow":
            time.sleep(0.2)
        self.outputs(item)[0].write_text(str(2 * number))
        with (self.folder / "log").open("a") as log:
            log.write(f"{item.name}\n")
        return {"double": 2 * number, "threads": torch.get_num_threads()}

    def _alone(self) -> None:
        mark = self.folder / "at-work"
        mark.touch(exist_ok=False)
        time.sleep(0.1)
        mark.unlink()


def make_items(folder: Path, names: Sequence[str]) -> list[Input]:
    """Write a file with its number for each name."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_text(str(number))
    return [Input(folder / name, name) for name in names]
