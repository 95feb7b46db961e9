"""Define what a client says and hears, in whatever version of MRD."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from mri_recon.io.formats.ismrmrd import Header
from mri_recon.io.writers.mrd import ImageSet

__all__ = ["Configuration", "End", "Link", "Message", "Other", "Readout", "ScanHeader"]


@dataclass(frozen=True)
class Configuration:
    """The text with which a client chooses a method."""

    text: str


@dataclass(frozen=True)
class ScanHeader:
    """The header of a scan.

    Attributes:
        preface: bytes at the beginning of a file of its readouts.
        ending: bytes at the end of such a file.
        encoding: function that returns the header of an encoding. It raises FormatError if there is none.
        configuration: the text with which the header chooses a method; None if it has none.
    """

    preface: bytes
    ending: bytes
    encoding: Callable[[int], Header]
    configuration: str | None = None


@dataclass(frozen=True)
class Readout:
    """A readout.

    Attributes:
        content: bytes of the readout in a file of readouts.
        flags: flags of the format.
        encoding: number of its encoding.
        slice, contrast, phase, repetition, set: counters, which tell its image.
        line, partition, average: counters, which tell its place.
        measurement_uid, acquisition_time_stamp, physiology_time_stamp, patient_table_position: values that the header
            of its image repeats.
    """

    content: bytes
    flags: int
    encoding: int
    slice: int
    contrast: int
    phase: int
    repetition: int
    set: int
    line: int
    partition: int
    average: int
    measurement_uid: int = 0
    acquisition_time_stamp: int = 0
    physiology_time_stamp: tuple[int, ...] = ()
    patient_table_position: tuple[float, ...] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Other:
    """A message that holds no readout: its name in the singular."""

    name: str


@dataclass(frozen=True)
class End:
    """The regular end of a session."""


Message = Configuration | ScanHeader | Readout | Other | End


class Link(Protocol):
    """The conversation with one client in one version of MRD."""

    def receive(self) -> AsyncGenerator[Message, None]:
        """Yield the client's messages, the last one an `End`.

        Raises:
            Disconnected: the client is gone.
            SessionError: the client sent what cannot be.
            FormatError: the same.
        """
        ...

    async def tell(self, text: str) -> None:
        """Send a text, if the version has texts.

        Raises:
            Disconnected: the client is gone.
        """
        ...

    async def send(self, images: ImageSet, number: int) -> None:
        """Send one image of a set.

        Raises:
            Disconnected: the client is gone.
        """
        ...

    async def close(self, *, complete: bool) -> None:
        """Send the end.

        Args:
            complete: whether every image was sent.

        Raises:
            Disconnected: the client is gone.
        """
        ...
