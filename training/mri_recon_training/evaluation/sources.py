"""Scans to evaluate on: the registered raw scans of a split, and its phantoms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mri_recon.errors import DataError
from mri_recon.io import Scan
from mri_recon_data import registry

__all__ = ["Source", "attribution_of", "labels_of", "of_person", "phantom_sources", "raw_sources"]

_PICTURES_ALLOWED = ("CC0-1.0", "MIT", "CC-BY-4.0")
"""Licences of sets of which a picture may be in the project."""


@dataclass(frozen=True)
class Source:
    """A scan to evaluate on.

    Attributes:
        name: of the scan in every file.
        person: the subject; averages go over subjects last.
        load: reads the scan.
        has_truth: False: prospectively undersampled, no metrics.
        label: short name for tables and plots.
        attribution: credit that a picture of it must give; None: no picture of it may be in the project.
        world: what it asks of a method, as the registry names it.
        is_part: whether the file holds further scans, such as other inversion times.
    """

    name: str
    person: str
    load: Callable[[], Scan]
    has_truth: bool = True
    label: str = ""
    attribution: str | None = None
    world: str = ""
    is_part: bool = False


def raw_sources(split: str) -> list[Source]:
    """List every registered raw scan of a split; each file is found on this machine first.

    A file of several parts gives a source for each of them.

    Raises:
        DataError: an unknown split, one without raw scans, or a file that cannot be had.
    """
    found = registry.files(split=split, kind="raw")
    if not found:
        raise DataError(f"expected raw scans in the split {split!r}, got none: choose train, validation or test")
    return _sources(found)


def phantom_sources(split: str) -> list[Source]:
    """List every registered phantom of a split; there may be none. Each file is found on this machine first.

    Raises:
        DataError: an unknown split, or a file that cannot be had.
    """
    return _sources(registry.files(split=split, kind="phantom"))


def of_person(sources: Sequence[Source], person: str, what: str) -> list[Source]:
    """Select the scans of one subject.

    Args:
        sources: of a split.
        person: the subject.
        what: the kind of the scans, for the message.

    Raises:
        DataError: the subject has none; the message lists the subjects that do.
    """
    found = [source for source in sources if source.person == person]
    if not found:
        persons = ", ".join(dict.fromkeys(source.person for source in sources))
        raise DataError(f"expected {what} of {person!r} in this split, got those of {persons}: choose one of them")
    return found


def _sources(files: Sequence[registry.RegisteredFile]) -> list[Source]:
    for file in files:
        file.path()  # fails here, not after an hour
    labels = labels_of(files)
    return [
        Source(
            f"{file.name} {scan.variable}" if file.parts else file.name,
            file.person,
            scan.load,
            has_truth=file.fully_sampled,
            label=f"{file.person} {scan.contrast}" if file.parts else labels[file.name],
            attribution=attribution_of(file),
            world=file.world,
            is_part=bool(file.parts),
        )
        for file in files
        for scan in file.scans()
    ]


def labels_of(files: Sequence[registry.RegisteredFile]) -> dict[str, str]:
    """Give files short names: subject and contrast, and the file's own name where two would be equal."""
    plain = {file.name: f"{file.person} {file.contrast}".strip() for file in files}
    taken = list(plain.values())
    return {
        file.name: plain[file.name]
        if taken.count(plain[file.name]) == 1
        else f"{plain[file.name]} ({file.name.rsplit('/', 1)[-1].split('.')[0]})"
        for file in files
    }


def attribution_of(file: registry.RegisteredFile) -> str | None:
    """Write the credit that a picture of a file must give; None where no picture may be in the project."""
    data_set = registry.load_registry().get(file.set_name)
    if file.no_pictures or data_set.licence not in _PICTURES_ALLOWED:
        return None
    notice = f" {data_set.notes.rstrip('.')}." if "Copyright" in data_set.notes else ""
    return f"{data_set.citation}; {data_set.licence}.{notice}"
