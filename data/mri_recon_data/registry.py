"""The data registry: which open sets there are, where they come from, under which licence, and who is in which split.

Its content is `registry.toml` beside this module. A split belongs to a person, so no person can be in two.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from mri_recon.errors import DataError
from mri_recon_data.fetch import cache_folder, data_folder, locate

if TYPE_CHECKING:
    from mri_recon.io import Scan

__all__ = [
    "SPLITS",
    "DataSet",
    "Kind",
    "RegisteredFile",
    "Registry",
    "Split",
    "check_split",
    "files",
    "load_registry",
    "local_files",
    "parse_registry",
    "training_sources",
    "volumes",
]


Kind = Literal["raw", "image", "phantom"]
"""raw: k-space of a person or an animal. image: magnitude images, from which k-space can only be simulated. phantom:
k-space of a phantom, for coil sensitivities and readers: never trained on or evaluated as a person."""

_ARRAYS = (".mat", ".npy", ".npz")  # formats that do not say what their axes are

_RAW_URL = "https://raw.githubusercontent.com/{repository}/{commit}/{path}"


@dataclass(frozen=True)
class RegisteredFile:
    """One file of a set, with everything a reader or a model card must know of it."""

    name: str
    """Path inside the data folder, for example `raw/head-sagittal-t1/se_t1_sag_data.mat`."""
    set_name: str
    kind: Kind
    person: str
    split: Split
    sha256: str
    url: str | None
    """Public source; None where `manual` says how to get it."""
    manual: str = ""
    contrast: str = ""
    variable: str | None = None
    """Name of the array inside the file, where it has several."""
    axes: str | None = None
    """Meaning of the array's axes, for example `readout phase slice`; raw sets only."""
    fully_sampled: bool = True
    """False: prospectively undersampled, without a truth."""
    series: bool = False
    """Whether the files of the set are the slices of one volume."""
    no_pictures: bool = False
    """Whether nothing that shows the person may be drawn, also not of k-space simulated from it."""
    companions: tuple[RegisteredFile, ...] = ()
    """Files that a reader needs beside this one."""

    def path(self) -> Path:
        """Where the file is on this machine: fetched where it has to be, its SHA-256 verified once a process.

        Its companions are fetched and verified with it.

        Raises:
            DataError: not to be had, or not the registered content.
        """
        for companion in self.companions:
            companion.path()
        return locate(self.name, self.sha256, url=self.url, manual=self.manual)

    def load(self) -> Scan:
        """The file as a scan; its `meta["registry"]` says which file, person and split it is.

        `meta["no_pictures"]` is True where no picture of it may be drawn.

        Raises:
            DataError: as `path`, or a set of magnitude images, which hold no k-space.
            FormatError: a file that the readers refuse.
        """
        if self.kind == "image":
            raise DataError(
                f"{self.name}: magnitude images hold no k-space: simulate it, see mri_recon_data.simulation.kspace"
            )
        from mri_recon.io import load  # here: listing sets needs no reader
        from mri_recon.io.pictures import NO_PICTURES

        scan = load(self.path(), axes=self.axes, variable=self.variable)
        about: dict[str, Any] = {"registry": {"file": self.name, "person": self.person, "split": self.split}}
        if self.no_pictures:
            about[NO_PICTURES] = True
        return replace(scan, meta={**scan.meta, **about})


@dataclass(frozen=True)
class DataSet:
    """A set: one source, one licence, one kind of data."""

    name: str
    title: str
    kind: Kind
    licence: str
    citation: str
    source: str
    """Address of the source at the registered commit, or how to get it."""
    notes: str
    files: tuple[RegisteredFile, ...]

    def persons(self, split: Split | None = None) -> list[str]:
        """Persons of the set, sorted; of one split, if one is named."""
        return sorted({file.person for file in self.files if split in (None, file.split)})


@dataclass(frozen=True)
class Registry:
    """All sets, in the order of the file."""

    sets: tuple[DataSet, ...]

    def get(self, name: str) -> DataSet:
        """The set of that name.

        Raises:
            DataError: an unknown name; the message lists the valid ones.
        """
        for data_set in self.sets:
            if data_set.name == name:
                return data_set
        raise DataError(f"unknown data set {name!r}: expected one of {', '.join(one.name for one in self.sets)}")

    def files(
        self,
        *,
        split: str | None = None,
        kind: Kind | None = None,
        name: str | None = None,
        fully_sampled: bool | None = None,
    ) -> list[RegisteredFile]:
        """Files that match everything that is given.

        Args:
            split: `train`, `validation`, `test` or `sample`.
            kind: `raw`, `image` or `phantom`.
            name: name of a set.
            fully_sampled: True leaves out scans without a truth.

        Raises:
            DataError: an unknown split, kind or set.
        """
        if split is not None:
            check_split(split)
        if kind not in (None, *get_args(Kind)):
            raise DataError(f"unknown kind {kind!r}: expected one of {', '.join(get_args(Kind))}")
        sets = self.sets if name is None else (self.get(name),)
        return [
            file
            for data_set in sets
            for file in data_set.files
            if split in (None, file.split) and kind in (None, file.kind) and fully_sampled in (None, file.fully_sampled)
        ]


@cache
def local_files() -> list[Path]:
    """Give the registered files that are on this machine, unverified: what no output of a command may replace.

    Raises:
        DataError: `MRI_RECON_DATA` names something that is not a folder.
    """
    folders = [folder for folder in (data_folder(), cache_folder()) if folder is not None]
    registered = load_registry().files()
    paths = (folder / file.name for folder in folders for file in registered)
    return [path for path in paths if path.is_file()]


def load_registry() -> Registry:
    """The project's registry.

    Raises:
        DataError: as `parse_registry`.
    """
    return parse_registry(package_files("mri_recon_data").joinpath("registry.toml").read_text(encoding="utf-8"))


def files(
    *, split: str | None = None, kind: Kind | None = None, name: str | None = None, fully_sampled: bool | None = None
) -> list[RegisteredFile]:
    """Files of the project's registry, see `Registry.files`.

    Raises:
        DataError: an unknown split, kind or set.
    """
    return load_registry().files(split=split, kind=kind, name=name, fully_sampled=fully_sampled)


def volumes(found: Iterable[RegisteredFile]) -> list[tuple[RegisteredFile, ...]]:
    """Group files by volume: the files of a series together, every other file by itself; in the order they came."""
    groups: dict[str, list[RegisteredFile]] = {}
    for file in found:
        groups.setdefault(f"series {file.set_name}" if file.series else file.name, []).append(file)
    return [tuple(group) for group in groups.values()]


def training_sources(splits: Iterable[str] = ("train", "validation"), *, hold_out: str = "") -> list[dict[str, Any]]:
    """What a model card says of the data behind its weights: a row a set and split.

    A training person `hold_out` is left out, and so are phantoms, which show nobody.

    Raises:
        DataError: an unknown split.
    """
    chosen = [check_split(split) for split in splits]

    def persons(data_set: DataSet, split: Split) -> list[str]:
        return [person for person in data_set.persons(split) if person != hold_out]

    return [
        {
            "name": data_set.name,
            "kind": "raw k-space" if data_set.kind == "raw" else "k-space simulated from magnitude images",
            "split": split,
            "persons": persons(data_set, split),
            "licence": data_set.licence,
            "citation": data_set.citation,
            "source": data_set.source,
        }
        for data_set in load_registry().sets
        for split in chosen
        if data_set.kind != "phantom" and persons(data_set, split)
    ]


def parse_registry(text: str) -> Registry:
    """A registry from TOML; see `registry.toml` for an example.

    Raises:
        DataError: not TOML, an unknown key, a missing value, a person without a split, or a name that is used twice.
    """
    try:
        document = _Document.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"data registry: not TOML ({error})") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"data registry, {place or 'as a whole'}: {first['msg']}") from error
    return Registry(tuple(_build(entry, document.persons) for entry in document.sets))


_Text = Annotated[str, StringConstraints(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Content(_Strict):
    path: _Text
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    source_path: str | None = None

    @model_validator(mode="after")
    def _stays_inside(self) -> _Content:
        parts = PurePosixPath(self.path).parts
        if self.path.startswith("/") or ".." in parts or "\\" in self.path:
            raise ValueError(f"path {self.path!r} leaves its folder")
        return self


class _FileEntry(_Content):
    person: _Text
    contrast: str = ""
    variable: str | None = None
    companions: tuple[_Content, ...] = ()


class _SetEntry(_Strict):
    name: _Text
    folder: _Text
    kind: Kind
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
    files: Annotated[tuple[_FileEntry, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _complete(self) -> _SetEntry:
        if (self.repository is None) != (self.commit is None):
            raise ValueError(f"set {self.name}: repository and commit belong together")
        if self.kind != "image" and not self.axes and any(file.path.endswith(_ARRAYS) for file in self.files):
            raise ValueError(f"set {self.name}: raw k-space needs its axes")
        if self.series and len({file.person for file in self.files}) > 1:
            raise ValueError(f"set {self.name}: a series is one volume of one person")
        for file in (*self.files, *(one for main in self.files for one in main.companions)):
            if file.source_path is not None and self.repository is None:
                raise ValueError(f"set {self.name}: {file.path} has a source_path, but the set no repository")
            if file.source_path is None and not self.manual:
                raise ValueError(
                    f"set {self.name}: {file.path} needs a source_path, or the set a `manual` way to get it"
                )
        return self


class _Document(_Strict):
    persons: dict[str, Split]
    sets: Annotated[tuple[_SetEntry, ...], Field(alias="set", min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> _Document:
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


def _build(entry: _SetEntry, persons: dict[str, Split]) -> DataSet:
    def build(content: _Content, file: _FileEntry) -> RegisteredFile:
        url = None
        if content.source_path is not None:
            url = _RAW_URL.format(repository=entry.repository, commit=entry.commit, path=quote(content.source_path))
        return RegisteredFile(
            name=f"{entry.folder}/{content.path}",
            set_name=entry.name,
            kind=entry.kind,
            person=file.person,
            split=persons[file.person],
            sha256=content.sha256,
            url=url,
            manual=entry.manual,
            contrast=file.contrast,
            variable=file.variable,
            axes=entry.axes,
            fully_sampled=entry.fully_sampled,
            series=entry.series,
            no_pictures=entry.no_pictures,
        )

    found = [
        replace(build(file, file), companions=tuple(build(one, file) for one in file.companions))
        for file in entry.files
    ]
    source = f"https://github.com/{entry.repository} at {entry.commit}" if entry.repository else entry.manual
    return DataSet(
        name=entry.name,
        title=entry.title,
        kind=entry.kind,
        licence=entry.licence,
        citation=entry.citation,
        source=source,
        notes=entry.notes,
        files=tuple(found),
    )


Split = Literal["train", "validation", "test", "sample"]
"""train: weights. validation: every choice. test: numbers that are reported. sample: the demo, never a result."""

SPLITS: tuple[Split, ...] = get_args(Split)


def check_split(name: str) -> Split:
    """The split of that name.

    Raises:
        DataError: an unknown name; the message lists the valid ones.
    """
    for split in SPLITS:
        if split == name:
            return split
    raise DataError(f"unknown split {name!r}: expected one of {', '.join(SPLITS)}")
