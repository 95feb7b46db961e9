"""Define the format of `registry.toml`: the tables, their keys, and the checks of their values."""

from __future__ import annotations

import tomllib
from pathlib import PurePosixPath
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import DataError

__all__ = [
    "SPLITS",
    "Content",
    "Document",
    "FileEntry",
    "Kind",
    "Part",
    "SetEntry",
    "Split",
    "check_split",
    "read_document",
]

Kind = Literal["raw", "image", "phantom"]
"""raw: k-space of a person or an animal. image: magnitude images, from which k-space can only be simulated. phantom:
k-space of a phantom, for coil sensitivities and readers: never trained on; evaluated apart from persons."""

Split = Literal["train", "validation", "test", "sample"]
"""train: weights. validation: choices. test: reported numbers. sample: the demo, never a result."""

SPLITS: tuple[Split, ...] = get_args(Split)


def check_split(name: str) -> Split:
    """Find a split by its name.

    Raises:
        DataError: an unknown name; the message lists the valid ones.
    """
    for split in SPLITS:
        if split == name:
            return split
    raise DataError(f"unknown split {name!r}{did_you_mean(name, SPLITS)}: expected one of {', '.join(SPLITS)}")


def read_document(text: str) -> Document:
    """Read a registry in TOML and check it.

    Raises:
        DataError: not TOML, an unknown key, a missing value, a subject without a split, or a name that is used twice.
    """
    try:
        return Document.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"data registry: not TOML ({error})") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"data registry, {place or 'as a whole'}: {first['msg']}") from error


_ARRAYS = (".mat", ".npy", ".npz")  # formats that do not name their axes

_Text = Annotated[str, StringConstraints(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Content(_Strict):
    """Content of one file: where it lies in the set's folder and at its source, and its SHA-256."""

    path: _Text
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    source_path: str | None = None

    @model_validator(mode="after")
    def _stays_inside(self) -> Content:
        parts = PurePosixPath(self.path).parts
        if self.path.startswith("/") or ".." in parts or "\\" in self.path:
            raise ValueError(f"path {self.path!r} leaves its folder")
        return self


class Part(_Strict):
    """One of several arrays of a file that is a scan of its own in an evaluation."""

    variable: _Text
    contrast: _Text


class FileEntry(Content):
    """A file of a set, whose it is, the scans in it, and the files that a reader needs beside it."""

    person: _Text
    contrast: str = ""
    variable: str | None = None
    parts: tuple[Part, ...] = ()
    companions: tuple[Content, ...] = ()


class SetEntry(_Strict):
    """A table `[[set]]`: source, licence, kind and files of one set."""

    name: _Text
    folder: _Text
    kind: Kind
    world: _Text
    title: _Text
    licence: _Text
    citation: _Text
    notes: str = ""
    axes: str | None = None
    fully_sampled: bool = True
    series: bool = False
    no_pictures: bool = False
    repository: str | None = None
    commit: str | None = None
    manual: str = ""
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _complete(self) -> SetEntry:
        if (self.repository is None) != (self.commit is None):
            raise ValueError(f"set {self.name}: repository and commit belong together")
        if self.kind != "image" and not self.axes and any(file.path.endswith(_ARRAYS) for file in self.files):
            raise ValueError(f"set {self.name}: raw k-space needs its axes")
        if self.series and len({file.person for file in self.files}) > 1:
            raise ValueError(f"set {self.name}: a series is one volume of one person")
        for entry in self.files:
            for what in ("variable", "contrast"):
                _once(f"set {self.name}: {what} of the parts of {entry.path},", [getattr(p, what) for p in entry.parts])
        for file in (*self.files, *(one for main in self.files for one in main.companions)):
            if file.source_path is not None and self.repository is None:
                raise ValueError(f"set {self.name}: {file.path} has a source_path, but the set no repository")
            if file.source_path is None and not self.manual:
                raise ValueError(
                    f"set {self.name}: {file.path} needs a source_path, or the set a `manual` way to get it"
                )
        return self


class Document(_Strict):
    """The whole file: the split of each subject, and the sets."""

    persons: dict[str, Split]
    sets: Annotated[tuple[SetEntry, ...], Field(alias="set", min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Document:
        _once("set", [entry.name for entry in self.sets])
        _once("file", [f"{entry.folder}/{file.path}" for entry in self.sets for file in entry.files])
        named = {file.person for entry in self.sets for file in entry.files}
        if named != set(self.persons):
            raise ValueError(f"[persons] and the files' persons differ: {', '.join(sorted(named ^ set(self.persons)))}")
        return self


def _once(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} {twice[0]} is there twice")
