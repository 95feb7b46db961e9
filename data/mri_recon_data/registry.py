"""The data registry: open data sets, their source and licence, and the split of each subject.

Its content is `registry.toml` beside this module. A split belongs to a subject, so no subject can be in two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import quote

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import DataError
from mri_recon_data.fetch import cache_folder, data_folder, locate
from mri_recon_data.registry_toml import (
    SPLITS,
    Content,
    FileEntry,
    Kind,
    Part,
    SetEntry,
    Split,
    check_split,
    read_document,
)

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


_RAW_URL = "https://raw.githubusercontent.com/{repository}/{commit}/{path}"


@dataclass(frozen=True)
class RegisteredFile:
    """One file of a set, with all that a reader or a model card needs."""

    name: str
    """Path inside the data folder, for example `raw/head-sagittal-t1/se_t1_sag_data.mat`."""
    set_name: str
    kind: Kind
    person: str
    split: Split
    sha256: str
    url: str | None
    """Public source; None where the file has to be fetched by hand, as `manual` says."""
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
    """Whether no picture of the subject may be drawn, not even from k-space simulated from the file."""
    companions: tuple[RegisteredFile, ...] = ()
    """Files that a reader needs beside this one."""
    world: str = ""
    """What the set asks of a reconstruction, for example `other scanner, head`; results are averaged within a world."""
    parts: tuple[Part, ...] = ()
    """Arrays of the file that are scans of their own, see `scans`; none: the file is one scan."""

    def path(self) -> Path:
        """Give the path of the file on this machine; fetch it if needed, and verify its SHA-256 once in a process.

        Its companions are fetched and verified with it.

        Raises:
            DataError: the file cannot be had, or has another content than the registered one.
        """
        for companion in self.companions:
            companion.path()
        return locate(self.name, self.sha256, url=self.url, manual=self.manual)

    def scans(self) -> list[RegisteredFile]:
        """List the scans in the file: the file itself, or one entry for each of its parts, which `load` then reads."""
        if not self.parts:
            return [self]
        return [replace(self, variable=part.variable, contrast=part.contrast, parts=()) for part in self.parts]

    def load(self) -> Scan:
        """Read the file as a scan; its `meta["registry"]` names file, person and split.

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
    """A data set: one source, one licence, one kind of data."""

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
        """List the persons of the set, sorted; of one split, if one is named."""
        return sorted({file.person for file in self.files if split in (None, file.split)})


@dataclass(frozen=True)
class Registry:
    """All sets, in the order of the file."""

    sets: tuple[DataSet, ...]

    def get(self, name: str) -> DataSet:
        """Find a set by its name.

        Raises:
            DataError: an unknown name; the message lists the valid ones.
        """
        for data_set in self.sets:
            if data_set.name == name:
                return data_set
        names = [one.name for one in self.sets]
        raise DataError(f"unknown data set {name!r}{did_you_mean(name, names)}: expected one of {', '.join(names)}")

    def files(
        self,
        *,
        split: str | None = None,
        kind: Kind | None = None,
        name: str | None = None,
        fully_sampled: bool | None = None,
    ) -> list[RegisteredFile]:
        """Select the files that match every given argument.

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
            kinds = get_args(Kind)
            raise DataError(f"unknown kind {kind!r}{did_you_mean(kind, kinds)}: expected one of {', '.join(kinds)}")
        sets = self.sets if name is None else (self.get(name),)
        return [
            file
            for data_set in sets
            for file in data_set.files
            if split in (None, file.split) and kind in (None, file.kind) and fully_sampled in (None, file.fully_sampled)
        ]


@cache
def local_files() -> list[Path]:
    """List the registered files on this machine, unverified. No output of a command may replace one of them.

    Raises:
        DataError: `MRI_RECON_DATA` names something that is not a folder.
    """
    folders = [folder for folder in (data_folder(), cache_folder()) if folder is not None]
    registered = load_registry().files()
    paths = (folder / file.name for folder in folders for file in registered)
    return [path for path in paths if path.is_file()]


def load_registry() -> Registry:
    """Load the project's registry.

    Raises:
        DataError: as `parse_registry`.
    """
    return parse_registry(package_files("mri_recon_data").joinpath("registry.toml").read_text(encoding="utf-8"))


def files(
    *, split: str | None = None, kind: Kind | None = None, name: str | None = None, fully_sampled: bool | None = None
) -> list[RegisteredFile]:
    """Select files of the project's registry, see `Registry.files`.

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
    """List the training data for a model card, one row for each set and split.

    The training subject `hold_out` is left out, and so are phantoms, which show nobody.

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
    """Parse a registry in TOML; see `registry.toml` for an example.

    Raises:
        DataError: not TOML, an unknown key, a missing value, a subject without a split, or a name that is used twice.
    """
    document = read_document(text)
    return Registry(tuple(_build(entry, document.persons) for entry in document.sets))


def _build(entry: SetEntry, persons: dict[str, Split]) -> DataSet:
    def build(content: Content, file: FileEntry) -> RegisteredFile:
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
            world=entry.world,
            parts=file.parts if content is file else (),
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
