"""Say which person each file is of: averages go over the files of a person first, then over persons."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from mri_recon._system.text import printable
from mri_recon.batch.inputs import Input
from mri_recon.batch.jobs import Outcome
from mri_recon.errors import ConfigError

__all__ = ["FOLDER", "Persons"]

FOLDER = "folder"
"""Value of `--persons` for one person a folder."""


class Persons:
    """Know the person of each file.

    Args:
        choice: None: the patient that a file names, else the file itself; "folder": the folder of the file; else a CSV
            file with the columns `file` and `person`.
        items: the files.

    Raises:
        ConfigError: a CSV file that cannot be read, lacks a column, or does not name every file.
    """

    def __init__(self, choice: str | None, items: Sequence[Input]) -> None:
        self._known: Mapping[str, str] = {}
        if choice == FOLDER:
            self._known = {item.name: item.path.absolute().parent.as_posix() for item in items}
            names = {Path(folder).name for folder in self._known.values()}
            if len(names) == len(set(self._known.values())):  # the last part of the path says enough
                self._known = {name: Path(folder).name for name, folder in self._known.items()}
        elif choice is not None:
            self._known = _from_table(Path(choice), items)

    def of(self, outcome: Outcome) -> str:
        """Name the person of a file that was processed."""
        return self._known.get(outcome.name) or str(outcome.result.get("patient_id") or outcome.name)


def _from_table(path: Path, items: Sequence[Input]) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"--persons: expected folder, or a CSV file with the columns file and person, got {printable(path)} "
            f"({getattr(error, 'strerror', None) or error}): correct it"
        ) from error
    if not rows or not {"file", "person"} <= set(rows[0]):
        raise ConfigError(
            f"--persons: expected the columns file and person in {printable(path)}, got "
            f"{', '.join(map(str, rows[0])) if rows else 'no rows'}: name them in its first line"
        )
    given = {str(row["file"]): str(row["person"]) for row in rows if row["person"]}
    found = {item.name: given.get(item.name) or given.get(item.path.name, "") for item in items}
    missing = [name for name, person in found.items() if not person]
    if missing:
        raise ConfigError(
            f"--persons: expected a row for every file in {printable(path)}, got none for {printable(missing[0])}"
            f"{f' and {len(missing) - 1} others' if len(missing) > 1 else ''}: add them; file is the path below the "
            "folder that all files share, or the file's name"
        )
    return found
