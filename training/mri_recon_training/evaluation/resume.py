"""Stores finished comparisons on disk so that an interrupted evaluation can resume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mri_recon._system.jsonable import jsonable, write_json
from mri_recon.errors import DataError

__all__ = ["FinishedComparisons"]


class FinishedComparisons:
    """Finished comparisons by scan, acceleration and seed; the file is written in full after each.

    Args:
        path: the file; None: memory only.
        settings: everything else that decides a row (methods, options, weights, code). A file with other settings is
            refused: its rows do not belong in one table with new ones.

    Raises:
        DataError: the file is no unfinished evaluation, or has other settings.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._settings = jsonable(settings)
        self._done: dict[str, dict[str, Any]] = {}
        if path is not None and path.is_file():
            self._done = self._read(path)

    def __len__(self) -> int:
        return len(self._done)

    def get(self, file: str, acceleration: float, seed: int) -> dict[str, Any] | None:
        """Give the stored comparison, or None."""
        return self._done.get(_key(file, acceleration, seed))

    def put(self, file: str, acceleration: float, seed: int, comparison: Mapping[str, Any]) -> None:
        """Store a comparison of plain JSON types."""
        self._done[_key(file, acceleration, seed)] = jsonable(comparison)
        if self._path is not None:
            write_json(self._path, {"settings": self._settings, "comparisons": self._done})

    def finish(self) -> None:
        """Remove the file once the results are written."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, dict[str, Any]]:
        cure = f"delete {path} to start anew"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            settings, done = document["settings"], dict(document["comparisons"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"expected an unfinished evaluation in {path.name}, got something else: {cure}") from error
        changed = [key for key in {**settings, **self._settings} if settings.get(key) != self._settings.get(key)]
        if changed:
            one = changed[0]
            raise DataError(
                f"expected {path.name} to be of the same settings, got another {one} ({settings.get(one)} there, "
                f"{self._settings.get(one)} now): go on as it was begun, or {cure}"
            )
        return done


def _key(file: str, acceleration: float, seed: int) -> str:
    return json.dumps([file, float(acceleration), int(seed)])
