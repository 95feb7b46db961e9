"""Parse the ISMRMRD header of fastMRI and MRD files: sizes, limits and calibration from untrusted XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass

from mri_recon.errors import FormatError
from mri_recon.io.geometry import PATIENT_POSITIONS
from mri_recon.io.pictures import NO_PICTURES

__all__ = ["SCAN_MARKS", "SIDES", "Header", "parse_header", "plausible_bandwidth", "refuse_declarations", "scan_marks"]

SIDES = "sides_assumed"
"""User parameter of a place whose sides nobody checked, see `Geometry.sides_assumed`."""

SCAN_MARKS = ("simulated", NO_PICTURES)
"""Keys of `Scan.meta` that a header keeps as user parameters of the value "true"."""

# Entities are declared in a document type: without one, nothing can be expanded or fetched.
_DECLARATION = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
_MAX_SIZE = 2**20
_MAX_LENGTH = 1e5  # mm
_MAX_WORD = 100
_LEAST_BANDWIDTH = 0.1


@dataclass(frozen=True)
class Header:
    """Hold the header fields that a reconstruction needs; None if the header lacks a field.

    Attributes:
        encoded_size: matrix size of k-space, `(readout, phase)`.
        recon_size: matrix size of the image `(h, w)`: readout, then phase.
        limit_center: index of the phase-encoding step at the centre of k-space.
        limit_maximum: index of the last acquired phase-encoding step.
        field_of_view: of the encoded space in mm: readout, phase, slice (of a 3-D scan: all partitions).
        depth: number of partitions of the encoded space; 1 for a 2-D scan.
        patient_position: DICOM's term, such as "HFS"; "" if the header has none.
        recon_field_of_view: of the reconstructed space in mm; smaller along readout where it is oversampled.
        partition_center: index of the partition at the centre of k-space.
        partition_maximum: index of the last acquired partition.
        average_maximum: number of the last average.
        trajectory: such as "cartesian".
        calibration_mode: such as "embedded"; "" if the header has none.
        protocol: name of the protocol.
        noise_bandwidth: relative receiver noise bandwidth, 1 where the header has none.
        marks: names of the user parameters of this project's writer, `SCAN_MARKS` and `SIDES`, that are true.
    """

    encoded_size: tuple[int, int] | None = None
    recon_size: tuple[int, int] | None = None
    limit_center: int | None = None
    limit_maximum: int | None = None
    field_of_view: tuple[float, float, float] | None = None
    depth: int | None = None
    patient_position: str = ""
    recon_field_of_view: tuple[float, float, float] | None = None
    partition_center: int | None = None
    partition_maximum: int | None = None
    average_maximum: int | None = None
    trajectory: str = ""
    calibration_mode: str = ""
    protocol: str = ""
    noise_bandwidth: float = 1.0
    marks: tuple[str, ...] = ()

    @property
    def calibration_in_image(self) -> bool:
        """Whether calibration lines are lines of the image too."""
        return self.calibration_mode in ("embedded", "interleaved")

    @property
    def padding(self) -> tuple[int, int] | None:
        """First acquired column and the one after the last, by the rule of fastMRI.

        left = N_phase // 2 - center, right = left + maximum + 1; None if the header lacks one of them.
        """
        if self.encoded_size is None or self.limit_center is None or self.limit_maximum is None:
            return None
        left = self.encoded_size[1] // 2 - self.limit_center
        return left, left + self.limit_maximum + 1


def parse_header(text: str, *, where: str, encoding: int = 0) -> Header:
    """Parse an ISMRMRD header, with or without its namespace; entities and document types are refused before parsing.

    Args:
        text: the header.
        where: the file, for messages.
        encoding: number of the encoding; the first one by default.

    Raises:
        FormatError: longer than a mebibyte, a document type or entity, not XML, or sizes that are no positive integers.
    """
    if len(text) > _MAX_SIZE:
        raise FormatError(
            f"expected an ISMRMRD header of at most {_MAX_SIZE} characters in {where}, got {len(text)}: shorten it"
        )
    refuse_declarations(text, where=where)
    try:
        # Text, not bytes: an encoding declared in the XML cannot hide anything from the check above.
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise FormatError(
            f"expected an ISMRMRD header in XML in {where}, got text that is not: it is damaged"
        ) from error
    spaces = root.findall("{*}encoding")
    if encoding and encoding >= len(spaces):
        raise FormatError(f"expected encoding {encoding} in the header of {where}, it has {len(spaces)}: it is damaged")
    space = spaces[encoding] if spaces else root
    limits, partitions, averages = (
        f"{{*}}encodingLimits/{{*}}{name}" for name in ("kspace_encoding_step_1", "kspace_encoding_step_2", "average")
    )
    return Header(
        encoded_size=_size(space, "{*}encodedSpace/{*}matrixSize", where),
        recon_size=_size(space, "{*}reconSpace/{*}matrixSize", where),
        limit_center=_number(space, f"{limits}/{{*}}center", where, least=0),
        limit_maximum=_number(space, f"{limits}/{{*}}maximum", where, least=0),
        field_of_view=_lengths(space, "{*}encodedSpace/{*}fieldOfView_mm"),
        depth=_number(space, "{*}encodedSpace/{*}matrixSize/{*}z", where, least=1),
        patient_position=_patient_position(root),
        recon_field_of_view=_lengths(space, "{*}reconSpace/{*}fieldOfView_mm"),
        partition_center=_number(space, f"{partitions}/{{*}}center", where, least=0),
        partition_maximum=_number(space, f"{partitions}/{{*}}maximum", where, least=0),
        average_maximum=_number(space, f"{averages}/{{*}}maximum", where, least=0),
        trajectory=_word(space, "{*}trajectory"),
        calibration_mode=_word(space, "{*}parallelImaging/{*}calibrationMode"),
        protocol=_word(root, "{*}measurementInformation/{*}protocolName"),
        noise_bandwidth=_bandwidth(root),
        marks=scan_marks(
            (_word(one, "{*}name"), _word(one, "{*}value"))
            for one in root.findall("{*}userParameters/{*}userParameterString")
        ),
    )


def scan_marks(parameters: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the names among `SCAN_MARKS` and `SIDES` of user parameters, pairs of name and value, that are true."""
    return tuple(
        sorted({name for name, value in parameters if name in (*SCAN_MARKS, SIDES) and value.lower() == "true"})
    )


def refuse_declarations(text: str, *, where: str) -> None:
    """Refuse a header that declares a document type or entities, which indicates an attack.

    Raises:
        FormatError: the header declares one.
    """
    if _DECLARATION.search(text):
        raise FormatError(f"expected an ISMRMRD header without DOCTYPE and ENTITY in {where}, got one: remove them")


def _size(root: ElementTree.Element, path: str, where: str) -> tuple[int, int] | None:
    x, y = (_number(root, f"{path}/{{*}}{axis}", where, least=1) for axis in "xy")
    return None if x is None or y is None else (x, y)


def _lengths(root: ElementTree.Element, path: str) -> tuple[float, float, float] | None:
    """Read three lengths in mm; None unless all are plausible. 1 x 1 x 1 mm stands for an unknown field of view."""
    try:
        x, y, z = (float(root.findtext(f"{path}/{{*}}{axis}") or "nan") for axis in "xyz")
    except ValueError:
        return None
    if (x, y, z) == (1.0, 1.0, 1.0) or not all(0 < one < _MAX_LENGTH for one in (x, y, z)):
        return None
    return x, y, z


def _bandwidth(root: ElementTree.Element) -> float:
    try:
        value = float(root.findtext("{*}acquisitionSystemInformation/{*}relativeReceiverNoiseBandwidth") or 1)
    except ValueError:
        return 1.0
    return plausible_bandwidth(value)


def plausible_bandwidth(value: float) -> float:
    """Return a relative receiver noise bandwidth; 1 in place of a value that no filter has."""
    return value if _LEAST_BANDWIDTH <= value <= 1 else 1.0


def _patient_position(root: ElementTree.Element) -> str:
    found = (root.findtext("{*}measurementInformation/{*}patientPosition") or "").strip()
    return found if found in PATIENT_POSITIONS else ""


def _word(root: ElementTree.Element, path: str) -> str:
    text = (root.findtext(path) or "").strip()
    return "".join(one for one in text[:_MAX_WORD] if one.isprintable())


def _number(root: ElementTree.Element, path: str, where: str, *, least: int) -> int | None:
    text = root.findtext(path)
    if text is None:
        return None
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*", text, re.ASCII) or int(text) < least:
        name = ("encoding/" if root.tag.endswith("encoding") else "") + path.replace("{*}", "")
        raise FormatError(
            f"expected an integer of at least {least} for {name} in {where}, got {text[:20]!a}: correct the header"
        )
    return int(text)
