"""Fill the modules of DICOM images that all kinds share: identity, patient, study, equipment, plane, pixels."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mri_recon.io.geometry import SIDES_ASSUMED, Geometry
from mri_recon.io.writers.result import NOTICE, SavedResult, notice_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "TAKEN_OVER",
    "add_common",
    "add_contributing_equipment",
    "add_mr_image",
    "add_patient_and_study",
    "add_pixels",
    "add_plane",
    "add_window",
    "code",
    "decimal",
    "derivation",
    "name_trust_map",
    "new_uid",
    "orientation",
    "sides_assumed",
]

_SOFTWARE = "mri-recon"
_NAMESPACE = uuid.UUID("8d3f0f5e-4a53-4d0c-9d0e-6c1b1d1a7c52")  # of identifiers made from names: any constant will do
_MAX_TEXT = 1024  # characters of a text of the kind ST
_MAX_LONG = 64  # of the kind LO
_PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize",
    "PatientWeight", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "ReferringPhysicianName", "BodyPartExamined", "InstitutionName", "Manufacturer", "ManufacturerModelName",
    "DeviceSerialNumber", "SoftwareVersions", "StationName", "ProtocolName",
)  # fmt: skip
_MR_IMAGE = (
    "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime",
    "EchoTrainLength", "InversionTime", "FlipAngle", "MagneticFieldStrength", "ImagedNucleus", "ImagingFrequency",
    "NumberOfAverages", "SequenceName",
)  # fmt: skip

TAKEN_OVER = (
    *_PATIENT_AND_STUDY, *_MR_IMAGE, "StudyInstanceUID", "FrameOfReferenceUID", "PositionReferenceIndicator",
    "PatientPosition",
)  # fmt: skip
"""Keywords of the values that an image takes over from an accompanying one."""


def new_uid(name: str = "") -> str:
    """Make a unique identifier from a UUID, DICOM PS3.5 annex B.2.

    Args:
        name: text that names one thing among all others: equal names give equal identifiers. If empty, the UUID is
            random.
    """
    made = uuid.uuid5(_NAMESPACE, name) if name else uuid.uuid4()
    return f"2.25.{made.int}"


def decimal(value: float) -> str:
    """Write a number in at most 16 characters, DICOM's decimal string, as exactly as they allow."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value))


def code(value: str, meaning: str) -> Any:
    """Make a code of DICOM's own scheme."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def derivation(metadata: Mapping[str, Any]) -> str:
    """Say in one text how the image was made: software, method, mask, source; at most 1024 characters."""
    parts = [f"{metadata.get('software', _SOFTWARE)}: reconstruction by {metadata.get('method', 'an unknown method')}"]
    mask = metadata.get("mask")
    if isinstance(mask, Mapping):
        wanted, got = mask.get("requested_acceleration"), mask.get("realised_acceleration")
        text = f"undersampling mask {mask.get('kind')}"
        if isinstance(wanted, int | float):
            text += f", R = {wanted:g} requested"
        if isinstance(got, int | float):
            text += f", R = {got:.3g} achieved"
        parts.append(text if mask.get("seed") is None else f"{text}, seed {mask['seed']}")
    if metadata.get("source_file"):
        parts.append(f"source {metadata['source_file']}")
    if metadata.get("simulated"):
        parts.append("SIMULATED k-space")
    text = _plain("; ".join(parts))
    return f"{text[: _MAX_TEXT - len(NOTICE) - 2]}. {NOTICE}"


def add_common(data: Dataset, sop_class: str, instance: str, result: SavedResult) -> None:
    """Fill SOP Common and General Image: the identifier of the instance, DERIVED, and how the image was made."""
    now = (result.made or datetime.now(UTC)).astimezone(UTC)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = sop_class, instance
    data.InstanceCreationDate, data.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    data.TimezoneOffsetFromUTC = "+0000"
    data.ContentDate, data.ContentTime = data.InstanceCreationDate, data.InstanceCreationTime
    data.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    data.DerivationDescription = derivation(result.metadata)
    data.ImageComments = notice_of(result.metadata)
    data.BurnedInAnnotation = "NO"
    data.LossyImageCompression = "00"
    data.PatientOrientation = ""


def sides_assumed(result: SavedResult) -> bool:
    """Tell whether the image has a place whose sides nobody checked."""
    geometry = result.geometry
    return geometry is not None and geometry.known and geometry.sides_assumed


def add_patient_and_study(data: Dataset, result: SavedResult, study: str, series: str) -> None:
    """Fill Patient, Study, Series and Equipment, from the accompanying DICOM if there is one."""
    metadata, tags = result.metadata, result.tags
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(data, keyword, "")
    for keyword in ("AccessionNumber", "ReferringPhysicianName", "Manufacturer"):
        setattr(data, keyword, "")
    data.PatientID = _plain(str(metadata.get("patient_id", "")))[:_MAX_LONG]
    for keyword in _PATIENT_AND_STUDY:
        if keyword in tags:
            setattr(data, keyword, tags[keyword])
    data.StudyInstanceUID = tags.get("StudyInstanceUID") or study
    data.SeriesInstanceUID = series
    data.Modality = "MR"
    data.SeriesNumber = None
    sides = "SIDES UNVERIFIED " if sides_assumed(result) else ""
    made = "SIMULATED " if metadata.get("simulated") else ""
    description = (
        f"{_SOFTWARE} {metadata.get('method', '')} {made}{sides}RESEARCH ONLY {metadata.get('acquisition', '')}"
    )
    if sides:
        data.ImageComments = f"{SIDES_ASSUMED}. {data.ImageComments}"
    data.SeriesDescription = _plain(description).strip()[:_MAX_LONG]


def name_trust_map(data: Dataset) -> None:
    """Say that the pixels are a bound of the error and no image of a subject."""
    data.SeriesDescription = f"MAP OF TRUST {data.SeriesDescription}"[:_MAX_LONG]
    bound = "Map of trust: bound of the error of the magnitude, in its units, that holds in 90 % of the object's pixels"
    data.DerivationDescription = f"{bound}. {data.DerivationDescription}"[:_MAX_TEXT]
    data.ImageComments = f"{bound} on scans like those it was fitted on. {data.ImageComments}"


def add_contributing_equipment(data: Dataset, metadata: Mapping[str, Any]) -> None:
    """Name this software, with its version, as equipment that processed the image."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code("109102", "Processing Equipment")]
    item.Manufacturer = _SOFTWARE
    item.ManufacturerModelName = _SOFTWARE
    item.SoftwareVersions = str(metadata.get("software", _SOFTWARE))[:_MAX_LONG]
    item.ContributionDateTime = f"{data.InstanceCreationDate}{data.InstanceCreationTime}+0000"
    item.ContributionDescription = f"Image reconstruction. {NOTICE}"
    data.ContributingEquipmentSequence = [item]


def add_mr_image(data: Dataset, tags: Mapping[str, Any]) -> None:
    """Fill MR Image; without an accompanying DICOM the sequence is research mode (RM) and its times are not known."""
    data.ScanningSequence, data.SequenceVariant = "RM", "NONE"
    for keyword in ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength"):
        setattr(data, keyword, None)
    for keyword in _MR_IMAGE:
        if keyword in tags:
            setattr(data, keyword, tags[keyword])


def add_plane(data: Dataset, geometry: Geometry, plane: Sequence[int], number: int) -> None:
    """Fill Image Plane. Columns run along phase and rows along readout, so orientation is phase, then readout."""
    data.PixelSpacing = [decimal(one) for one in geometry.voxel_size[:2]]
    data.SliceThickness = decimal(geometry.voxel_size[2])
    data.ImageOrientationPatient = orientation(geometry)
    data.ImagePositionPatient = [decimal(one) for one in geometry.corners(plane)[number]]
    assert geometry.positions is not None
    assert geometry.directions is not None
    data.SliceLocation = decimal(float(np.dot(geometry.positions[number], geometry.directions[2])))
    if geometry.slice_spacing is not None:
        data.SpacingBetweenSlices = decimal(geometry.slice_spacing)


def orientation(geometry: Geometry) -> list[str]:
    """Return Image Orientation (Patient): the direction of a row, then that of a column."""
    assert geometry.directions is not None
    readout, phase, _ = geometry.directions
    return [decimal(one) for one in (*phase, *readout)]


def add_pixels(data: Dataset, pixels: npt.NDArray[np.uint16], slope: str | None) -> None:
    """Fill Image Pixel; with a slope also what turns numbers into the image's units, and the window."""
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = int(pixels.shape[-2]), int(pixels.shape[-1])
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    if slope is not None:
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = slope, "0", "US"
        high = float(pixels.max(initial=1)) * float(slope)
        add_window(data, max(high, float(slope)))
    content = pixels.astype("<u2").tobytes()
    data.PixelData = content
    data["PixelData"].VR = "OW"


def add_window(data: Dataset, high: float) -> None:
    """Show values from 0 to `high`. DICOM's usual function allows no window below 1, another one does."""
    data.WindowCenter, data.WindowWidth = decimal(high / 2), decimal(high)
    if high < 1:
        data.VOILUTFunction = "LINEAR_EXACT"


def _plain(text: str) -> str:
    """Remove what separates values or controls a reader of text."""
    return "".join(one for one in text if one.isprintable()).replace("\\", "/")
