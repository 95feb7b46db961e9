"""Fill the modules of multi-frame DICOM images: Enhanced MR with the place of each frame, or numbered pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mri_recon.io.geometry import Geometry
from mri_recon.io.writers.dicom_modules import add_window, decimal, orientation

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["add_frames", "add_pages"]

_STACK_ID, _IN_STACK = 0x00209056, 0x00209057
_FRAME_CONTENT = 0x00209111
_PAGE_NUMBERS = 0x00182001
_FRAME_TYPE = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]  # the second value may be nothing else in this kind


def add_frames(
    data: Dataset,
    geometry: Geometry,
    plane: Sequence[int],
    slope: str,
    tags: Mapping[str, Any],
    white: float,
    organization: str,
) -> None:
    """Fill the modules of an Enhanced MR image: a frame for each slice, in the order of the scan.

    Args:
        data: the image.
        geometry: with known positions and directions.
        plane: `(h, w)` of the image.
        slope: units of the image for each unit of a pixel.
        tags: values of an accompanying DICOM image.
        white: largest value of a pixel.
        organization: identifier of the order of the frames.
    """
    data.ImageType = list(_FRAME_TYPE)
    _add_equipment(data, tags)
    _add_contrast(data)
    data.ContentQualification = "RESEARCH"
    data.ApplicableSafetyStandardAgency = "IEC"  # must have a value; a derived image knows no better one
    data.ApplicableSafetyStandardDescription = "not known: derived image"
    del data.PatientOrientation
    data.PresentationLUTShape = "IDENTITY"
    data.AcquisitionContextSequence = []
    data.NumberOfFrames = str(len(geometry.positions or ()))
    _add_dimensions(data, organization)
    data.SharedFunctionalGroupsSequence = [_shared(geometry, slope, white)]
    order = geometry.slice_order or []
    rank = {index: number + 1 for number, index in enumerate(order)}
    corners = geometry.corners(plane)
    data.PerFrameFunctionalGroupsSequence = [_frame(corners[index], rank[index]) for index in range(len(corners))]


def add_pages(data: Dataset, count: int) -> None:
    """Fill the modules of a multi-frame Secondary Capture image: its pages are numbered, without a place."""
    data.NumberOfFrames = str(count)
    data.FrameIncrementPointer = _PAGE_NUMBERS
    data.PageNumberVector = [str(number + 1) for number in range(count)]
    data.PresentationLUTShape = "IDENTITY"
    data.RecognizableVisualFeatures = "YES"


def _add_equipment(data: Dataset, tags: Mapping[str, Any]) -> None:
    """Fill Enhanced General Equipment, whose values must not be empty."""
    for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
        setattr(data, keyword, tags.get(keyword) or "unknown")


def _add_contrast(data: Dataset) -> None:
    """State what kind of image it is, for an image or a frame."""
    data.PixelPresentation = "MONOCHROME"
    data.VolumetricProperties = "VOLUME"
    data.VolumeBasedCalculationTechnique = "NONE"
    data.ComplexImageComponent = "MAGNITUDE"
    data.AcquisitionContrast = "UNKNOWN"


def _add_dimensions(data: Dataset, organization: str) -> None:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.DimensionOrganizationUID = organization
    data.DimensionOrganizationSequence = [item]
    data.DimensionIndexSequence = []
    for pointer in (_STACK_ID, _IN_STACK):
        index = Dataset()
        index.DimensionOrganizationUID = organization
        index.DimensionIndexPointer = pointer
        index.FunctionalGroupPointer = _FRAME_CONTENT
        data.DimensionIndexSequence.append(index)


def _shared(geometry: Geometry, slope: str, white: float) -> Any:
    from pydicom.dataset import Dataset

    groups, measures, plane, values, window, kind, anatomy = (Dataset() for _ in range(7))
    measures.PixelSpacing = [decimal(one) for one in geometry.voxel_size[:2]]
    measures.SliceThickness = decimal(geometry.voxel_size[2])
    if geometry.slice_spacing is not None:
        measures.SpacingBetweenSlices = decimal(geometry.slice_spacing)
    plane.ImageOrientationPatient = orientation(geometry)
    values.RescaleIntercept, values.RescaleSlope, values.RescaleType = "0", slope, "US"
    add_window(window, white * float(slope))
    kind.FrameType = list(_FRAME_TYPE)
    _add_contrast(kind)
    anatomy.FrameLaterality = "U"
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "38266002", "SCT", "Entire body"
    anatomy.AnatomicRegionSequence = [region]
    groups.PixelMeasuresSequence = [measures]
    groups.PlaneOrientationSequence = [plane]
    groups.PixelValueTransformationSequence = [values]
    groups.FrameVOILUTSequence = [window]
    groups.MRImageFrameTypeSequence = [kind]
    groups.FrameAnatomySequence = [anatomy]
    return groups


def _frame(corner: Sequence[float], rank: int) -> Any:
    from pydicom.dataset import Dataset

    groups, content, place = Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber = "1", rank
    content.DimensionIndexValues = [1, rank]
    place.ImagePositionPatient = [decimal(one) for one in corner]
    groups.FrameContentSequence = [content]
    groups.PlanePositionSequence = [place]
    return groups
