"""Find the files of k-space that arguments name: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_recon._system.text import printable
from mri_recon.errors import FormatError

__all__ = ["SUFFIXES", "Input", "Inputs", "find_inputs", "names_several"]

SUFFIXES = (".h5", ".hdf5", ".mrd", ".npy", ".npz", ".mat", ".dat", ".7", ".cfl")
"""Suffixes of the files that a folder is searched for; a file that is named itself may have any name."""

_WITHOUT_SUFFIX = ("fid",)
"""Names of files of k-space that have no suffix."""


@dataclass(frozen=True)
class Input:
    """Name one file to process.

    Attributes:
        path: the file.
        name: its path below the folder that all files have in common, with forward slashes; no two inputs share one.
    """

    path: Path
    name: str

    def size(self) -> int:
        """Return the bytes of the file; 0 if there is none."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


@dataclass(frozen=True)
class Inputs:
    """Hold the files that arguments name.

    Attributes:
        files: the files, ordered by argument and then by path, each once.
        left_out: number of files in the folders whose names are those of no format of k-space.
    """

    files: tuple[Input, ...]
    left_out: int = 0


def names_several(arguments: Sequence[Path]) -> bool:
    """Tell whether arguments may name several files: more than one argument, a folder, or a pattern."""
    return len(arguments) > 1 or any(one.is_dir() or _is_pattern(one) for one in arguments)


def find_inputs(arguments: Sequence[Path], *, without: Sequence[Path] = ()) -> Inputs:
    """Find the files that arguments name.

    A folder stands for the files in it and below it whose names end in one of `SUFFIXES`; names with a dot before them
    are left out. A pattern (`*`, `?`, `[...]`, `**` for any depth) stands for the files and folders that it matches. An
    argument that is neither is one file, and need not exist: processing it fails with a clear error.

    Args:
        arguments: files, folders and patterns.
        without: folders of outputs, whose files are no inputs of a folder or a pattern.

    Raises:
        FormatError: a folder or a pattern without a file of k-space.
    """
    found: dict[str, Path] = {}  # by the file itself, whatever its name in an argument
    left_out = 0
    outputs = [Path(os.path.realpath(folder)) for folder in without]
    for argument in arguments:
        several = argument.is_dir() or _is_pattern(argument)
        paths: list[Path] = []
        for path in _matches(argument):
            if path.is_dir():
                inside, others = _in_folder(path, outputs)
                paths += inside
                left_out += others
            elif not several or not _is_below(path, outputs):
                paths.append(path)
        if not paths:
            _refuse_images(argument)
            raise FormatError(
                f"expected files of k-space in {printable(argument)}, found none that end in "
                f"{', '.join(SUFFIXES)}: name the files or another folder"
            )
        for path in paths:
            found.setdefault(os.path.realpath(path), path)
    paths = list(found.values())
    return Inputs(
        tuple(Input(path, name) for path, name in zip(paths, _names(paths, arguments), strict=True)), left_out
    )


def _refuse_images(folder: Path) -> None:
    """Say of a folder of DICOM images that they hold no k-space."""
    from mri_recon.io.formats.table import has_dicom, image_without_kspace

    if has_dicom(folder):
        raise image_without_kspace(f"{folder.name or folder} is a folder of DICOM images")


def _is_pattern(argument: Path) -> bool:
    return glob.has_magic(str(argument)) and not argument.exists()


def _matches(argument: Path) -> list[Path]:
    if not _is_pattern(argument):
        return [argument]
    return sorted(Path(found) for found in glob.glob(str(argument), recursive=True))  # noqa: PTH207  absolute or not


def _in_folder(folder: Path, outputs: Sequence[Path]) -> tuple[list[Path], int]:
    """List the files of k-space below a folder, and count the others."""
    files = [path for path in _walk(folder) if not _is_below(path, outputs)]
    kept = [path for path in files if path.suffix.lower() in SUFFIXES or path.name in _WITHOUT_SUFFIX]
    return sorted(kept), len(files) - len(kept)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _is_below(path: Path, folders: Sequence[Path]) -> bool:
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(folder) for folder in folders)


def _names(paths: Sequence[Path], arguments: Sequence[Path]) -> list[str]:
    """Name files by their path below the one folder that was given, else below what their folders have in common."""
    if len(arguments) == 1 and arguments[0].is_dir():
        base = arguments[0].absolute()
    else:
        base = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    return [path.absolute().relative_to(base).as_posix() for path in paths]
