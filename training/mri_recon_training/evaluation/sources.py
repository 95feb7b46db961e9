"""Scans to evaluate on: the registered raw scans of a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mri_recon.errors import DataError
from mri_recon.io import Scan
from mri_recon_data import registry

__all__ = ["Source", "labels_of", "of_person", "raw_sources"]

_PICTURES_ALLOWED = ("CC0-1.0", "MIT")
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
        attribution: credit that a picture of it must give; None: its licence allows no picture in the project.
    """

    name: str
    person: str
    load: Callable[[], Scan]
    has_truth: bool = True
    label: str = ""
    attribution: str | None = None


def raw_sources(split: str) -> list[Source]:
    """List every registered raw scan of a split; each file is found on this machine first.

    Raises:
        DataError: an unknown split, one without raw scans, or a file that cannot be had.
    """
    found = registry.files(split=split, kind="raw")
    if not found:
        raise DataError(f"expected raw scans in the split {split!r}, got none: choose train, validation or test")
    for file in found:
        file.path()  # fails here, not after an hour
    labels = labels_of(found)
    return [
        Source(
            file.name,
            file.person,
            file.load,
            has_truth=file.fully_sampled,
            label=labels[file.name],
            attribution=_attribution(file),
        )
        for file in found
    ]


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


def _attribution(file: registry.RegisteredFile) -> str | None:
    data_set = registry.load_registry().get(file.set_name)
    if data_set.licence not in _PICTURES_ALLOWED:
        return None
    notice = f" {data_set.notes.rstrip('.')}." if "Copyright" in data_set.notes else ""
    return f"{data_set.citation}; {data_set.licence}.{notice}"
