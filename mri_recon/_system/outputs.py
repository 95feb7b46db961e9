"""Check the outputs of a command before any work: each can be written, and none replaces an input."""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mri_recon._system.files import check_target, create_beside, unwritable
from mri_recon._system.nearest import did_you_mean
from mri_recon._system.text import printable
from mri_recon.errors import OutputError

__all__ = ["FIGURE_SUFFIXES", "STDOUT", "check_outputs", "check_suffix", "check_writable_folder", "make_folder"]

STDOUT = Path("-")
"""The output that means standard output."""

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
"""Formats of a picture of a comparison."""


@dataclass(frozen=True)
class _Place:
    """Identify an output or input: by the file itself if it exists, else by its name in its folder."""

    what: str
    path: Path
    file: tuple[int, int] | None
    folder: tuple[int, int] | None
    name: str

    def same_as(self, other: _Place) -> bool:
        """Tell whether writing to one place would change the other."""
        if self.file is not None and other.file is not None:
            return self.file == other.file
        return self.folder is not None and (self.folder, self.name) == (other.folder, other.name)


def check_outputs(
    outputs: Mapping[str, Path | None],
    inputs: Iterable[tuple[str, str | Path]] = (),
    *,
    suffixes: Mapping[str, tuple[str, ...]] | None = None,
    stdout: Iterable[str] = (),
    appended: Iterable[str] = (),
) -> list[str]:
    """Refuse outputs that cannot be written, or would replace an input or one another; nothing is written.

    Links are followed. A symbolic link, a hard link, another spelling of the folder, and a name that differs in case on
    a file system that ignores case, all count as the file to which they refer.

    Args:
        outputs: path by option, e.g. `{"--json": path}`; None if not requested.
        inputs: for each file that the command reads, its name in messages and its path. Paths without a file are
            ignored.
        suffixes: allowed suffixes by option; an option without an entry allows any.
        stdout: options for which "-" is standard output.
        appended: options whose file is extended, not replaced.

    Returns:
        Notes for the user, one sentence each: a hard-linked file keeps its content under its other names.

    Raises:
        OutputError: an output as above, a directory, a pipe, a socket, a device, a write-protected file, an unknown
            suffix, or a folder that does not exist or cannot be written to.
    """
    notes: list[str] = []
    kept = set(appended)
    places: list[_Place] = []
    piped = set(stdout)
    for option, path in outputs.items():
        if path is None or (path == STDOUT and option in piped):
            continue
        if path == STDOUT:
            others = f"; only {' and '.join(sorted(piped))} may be standard output" if piped else ""
            raise OutputError(f"{option}: expected the name of a file, got -: name one{others}")
        _check_kind(option, path)
        check_suffix(path, (suffixes or {}).get(option, ()), option=option)
        notes += [note for note in _check_writable(option, path) if option not in kept]
        places.append(_place(option, path, new=True))
    if sum(path == STDOUT and option in piped for option, path in outputs.items()) > 1:
        raise OutputError("expected one output on standard output, got several: name a file for the others")
    read = [_place(what, Path(path), new=False) for what, path in inputs]
    for number, place in enumerate(places):
        for other in (*(one for one in read if one.file is not None), *places[:number]):
            if place.same_as(other):
                raise OutputError(
                    f"expected {place.what} to name a file of its own, got {printable(place.path)}, which is "
                    f"{other.what}{'' if place.path == other.path else f' ({printable(other.path)})'}: "
                    "choose another name; nothing was written"
                )
    return notes


def check_suffix(path: str | Path, suffixes: tuple[str, ...], *, option: str = "") -> None:
    """Refuse a name with none of these suffixes; an empty tuple allows any.

    Raises:
        OutputError: another suffix, or no suffix.
    """
    name = Path(path).name
    if suffixes and not name.lower().endswith(suffixes):
        listed = ", ".join(suffixes[:-1]) + " or " + suffixes[-1] if len(suffixes) > 1 else suffixes[0]
        raise OutputError(
            f"{option}{': ' if option else ''}expected a name that ends in {listed}, which says the format, "
            f"got {printable(name)}{did_you_mean(Path(path).suffix, suffixes)}: choose one of these formats"
        )


def check_writable_folder(option: str, folder: Path) -> None:
    """Refuse an output folder that is a file, or cannot be made or written to.

    Raises:
        OutputError: as above.
    """
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(f"{option}: expected a folder, got {printable(parent)}, which is a file: choose another name")
    _probe(option, folder / "x", parent)


def make_folder(folder: Path, *, option: str) -> None:
    """Make the output folder that an option names, and those above it, unless it is there.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"expected a folder that can be made at {printable(folder)}, got {error.strerror}: name another by {option}"
        ) from error


def _check_kind(option: str, path: Path) -> None:
    try:
        if path.is_dir():
            raise OutputError(f"expected a file to write, got the folder {printable(path)}: add a file name")
        check_target(path)
    except OutputError as error:
        raise OutputError(f"{option}: {error}") from None
    except (OSError, ValueError) as error:
        raise _refused(option, path, error) from error


def _check_writable(option: str, path: Path) -> list[str]:
    """Test whether the folder and the file to replace can be written, without changing them."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise OutputError(
            f"{option}: expected to write into a folder that exists, got {printable(target.parent)}: create it first"
        )
    found = check_target(path)
    if found is not None:
        _check_replaceable(option, path, target, found)
    _probe(option, path, target.parent)
    if found is None or found.st_nlink < 2:
        return []
    return [
        f"{printable(path)} has {found.st_nlink} names (hard links): the new content stands under this one alone, "
        "the others keep the old content"
    ]


def _check_replaceable(option: str, path: Path, target: Path, found: os.stat_result) -> None:
    if not stat.S_IMODE(found.st_mode) & 0o222:
        raise OutputError(
            f"{option}: {printable(path)} is write-protected (mode {stat.S_IMODE(found.st_mode):04o}) and is kept: "
            "choose another name, or make it writable"
        )
    for name, stream in (("input", sys.__stdin__), ("output", sys.__stdout__), ("error", sys.__stderr__)):
        if stream is not None and _same_file(stream, found):
            raise OutputError(
                f"{option}: {printable(path)} is where this command's standard {name} goes: choose another name"
            )
    try:
        # Detects immutable files and read-only mounts, which the folder does not show.
        os.close(os.open(target, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)))
    except OSError as error:
        raise _refused(option, path, error) from error
    if target.parent.stat().st_dev != found.st_dev:
        raise OutputError(
            f"{option}: {printable(path)} is a mount of its own, which cannot be replaced: write into a folder"
        )


def _probe(option: str, path: Path, folder: Path) -> None:
    """Make an empty file in a folder, and remove it."""
    probe: Path | None = None
    try:
        descriptor, probe = create_beside(folder / "probe")
        os.close(descriptor)
    except OSError as error:
        raise _refused(option, path, error) from error
    finally:
        if probe is not None:
            probe.unlink(missing_ok=True)


def _refused(option: str, path: Path, error: OSError | ValueError) -> OutputError:
    return OutputError(f"{option}: {unwritable(path, error)}")


def _same_file(stream: IO[str], found: os.stat_result) -> bool:
    with suppress(OSError, ValueError):  # a closed stream, or one without a file
        return os.path.samestat(found, os.fstat(stream.fileno()))
    return False


def _place(what: str, path: Path, *, new: bool) -> _Place:
    target = Path(os.path.realpath(path))
    file = folder = None
    name = target.name
    with suppress(OSError, ValueError):
        found = target.stat()
        file = found.st_dev, found.st_ino
    with suppress(OSError, ValueError):
        found = target.parent.stat()
        folder = found.st_dev, found.st_ino
        if new and file is None and _folds_case(target.parent):
            name = unicodedata.normalize("NFC", name).casefold()
    return _Place(what, path, file, folder, name)


def _folds_case(folder: Path) -> bool:
    """Tell whether the file system treats names that differ only in case as equal."""
    try:
        descriptor, probe = create_beside(folder / "case")
    except OSError:
        return False
    try:
        os.close(descriptor)
        return probe.with_name(probe.name.upper()).exists()
    finally:
        probe.unlink(missing_ok=True)
