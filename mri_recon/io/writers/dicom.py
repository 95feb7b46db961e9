"""Write reconstructions as DICOM images: magnitudes, 16 bits, cropped to the scan's reconstruction size.

`.dcm` is one file: MR Image Storage for one slice, Enhanced MR Image Storage for several. `.dcm.zip` holds a series of
MR Image Storage, one file a slice, for programs that read no multi-frame images, and the map of trust, if there is one,
as a second series. Where position or orientation are not
known the images are Secondary Capture, so that no viewer marks a side of the patient that nobody knows.

DICOM PS3.3 2024e: A.4 (MR), A.36.2 (Enhanced MR), A.8.1 and A.8.4 (Secondary Capture); PS3.12 annex V (ZIP files).
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mri_recon._arrays import center_crop
from mri_recon.errors import OutputError
from mri_recon.io.geometry import SIDES_ASSUMED, Geometry
from mri_recon.io.writers.dicom_frames import add_frames, add_pages
from mri_recon.io.writers.dicom_modules import (
    add_common,
    add_contributing_equipment,
    add_mr_image,
    add_patient_and_study,
    add_pixels,
    add_plane,
    decimal,
    name_trust_map,
    new_uid,
    sides_assumed,
)
from mri_recon.io.writers.result import Encoded, SavedResult, Writer

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["DICOM", "DICOM_SERIES"]

_WHITE = 65535
_MAX_PIXEL_BYTES = 2**32 - 2
_MAX_SIDE = 65535

_MR = "1.2.840.10008.5.1.4.1.1.4"
_ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
_SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
_SECONDARY_FRAMES = "1.2.840.10008.5.1.4.1.1.7.3"
_FOLDERS = ("DICOM", "TRUST")


class _Image:
    """Hold the pixels of a result in DICOM's units, and the data that all of its files share."""

    def __init__(self, result: SavedResult, magnitude: npt.NDArray[np.float32], *, is_trust_map: bool = False) -> None:
        if result.recon_size is not None:
            magnitude = center_crop(magnitude, result.recon_size)
        if not np.isfinite(magnitude).all():
            raise OutputError("DICOM cannot hold NaN or infinite values, the image has some: write .h5 or .npy")
        self.result = result
        # The slope is a text of 16 characters: pixels are divided by the number that a reader gets.
        self.slope = decimal(max(float(magnitude.max(initial=0.0)), 1e-30) / _WHITE)
        scaled = np.rint(magnitude.astype(np.float64) / float(self.slope))
        self.pixels: npt.NDArray[np.uint16] = scaled.clip(0, _WHITE).astype(np.uint16)
        self.geometry = result.geometry if result.geometry is not None and result.geometry.known else None
        self.is_trust_map = is_trust_map
        self.series = self.uid("trust" if is_trust_map else "series")
        self.study, self.frame_of_reference = self.uid("study"), self.uid("frame of reference")

    def uid(self, role: str) -> str:
        """Make an identifier: the same one for the same result and role if the result has an identity."""
        return new_uid(f"{self.result.identity}/{role}" if self.result.identity else "")


def _encode_file(result: SavedResult) -> Encoded:
    image = _Image(result, result.magnitude)
    told = _left_out(image, "no phase, no map of trust and no provenance")
    return Encoded(_content(_single(image, 0) if len(image.pixels) == 1 else _several(image)), told)


def _encode_series(result: SavedResult) -> Encoded:
    image = _Image(result, result.magnitude)
    series = [image] if result.trust_map is None else [image, _trust(image, result.trust_map)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder, one in zip(_FOLDERS, series, strict=False):
            for number in range(len(one.pixels)):
                # Names of at most eight capital letters and digits, as DICOM's media have them.
                archive.writestr(zipfile.ZipInfo(f"{folder}/IM{number + 1:06d}"), _content(_single(one, number)))
    return Encoded(buffer.getvalue(), _left_out(image, "no phase and no provenance"))


def _trust(image: _Image, trust_map: npt.NDArray[np.float32]) -> _Image:
    """Make the second series, the map of trust, of the same study and frame of reference."""
    made = _Image(image.result, trust_map, is_trust_map=True)
    made.study, made.frame_of_reference = image.study, image.frame_of_reference
    return made


def _left_out(image: _Image, missing: str) -> str:
    places = "" if image.geometry is not None else " The scan has no known place in the patient: Secondary Capture."
    if sides_assumed(image.result):
        places = f" {SIDES_ASSUMED}."
    return f"DICOM holds magnitudes in steps of {float(image.slope):.3g}, {missing}: .h5 does.{places}"


def _single(image: _Image, number: int) -> Dataset:
    """Make the file of one slice."""
    data = _start(image, _SECONDARY if image.geometry is None else _MR, f"slice {number}")
    order = None if image.geometry is None else image.geometry.slice_order
    # Viewers sort by this number: it follows the places of the slices, where they are known.
    data.InstanceNumber = str((number if order is None else order.index(number)) + 1)
    data.Laterality = ""
    if image.geometry is None:
        data.ConversionType = "WSD"
        _add_nominal_spacing(data, image.result.geometry)
    else:
        add_mr_image(data, image.result.tags)
        add_plane(data, image.geometry, image.pixels.shape[-2:], number)
    add_pixels(data, image.pixels[number], image.slope)
    return data


def _several(image: _Image) -> Dataset:
    """Make the file of several slices."""
    data = _start(image, _SECONDARY_FRAMES if image.geometry is None else _ENHANCED_MR, "all slices")
    data.InstanceNumber = "1"
    if image.geometry is None:
        data.Laterality = ""
        data.ConversionType = "WSD"
        _add_nominal_spacing(data, image.result.geometry)
        add_pages(data, len(image.pixels))
        add_pixels(data, image.pixels, image.slope)
    else:
        organization = image.uid("order of the frames")
        plane, tags = image.pixels.shape[-2:], image.result.tags
        add_frames(data, image.geometry, plane, image.slope, tags, float(_WHITE), organization)
        add_pixels(data, image.pixels, None)
    return data


def _start(image: _Image, sop_class: str, part: str) -> Dataset:
    from pydicom.dataset import Dataset

    data = Dataset()
    kind = "trust" if image.is_trust_map else "image"
    add_common(data, sop_class, image.uid(f"{kind}, {part}"), image.result)
    add_patient_and_study(data, image.result, image.study, image.series)
    if image.geometry is not None:
        tags = image.result.tags
        data.FrameOfReferenceUID = tags.get("FrameOfReferenceUID") or image.frame_of_reference
        data.PositionReferenceIndicator = tags.get("PositionReferenceIndicator", "")
        data.PatientPosition = image.geometry.patient_position or tags.get("PatientPosition", "")
    add_contributing_equipment(data, image.result.metadata)
    if image.is_trust_map:
        name_trust_map(data)
    return data


def _add_nominal_spacing(data: Dataset, geometry: Geometry | None) -> None:
    """Record the size of a pixel where it is known although its place is not."""
    if geometry is not None:
        data.NominalScannedPixelSpacing = [decimal(one) for one in geometry.voxel_size[:2]]


def _content(data: Dataset) -> bytes:
    from pydicom.dataset import FileMetaDataset
    from pydicom.filewriter import dcmwrite
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(data.SOPClassUID)
    meta.MediaStorageSOPInstanceUID = UID(data.SOPInstanceUID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta = meta
    buffer: Any = io.BytesIO()
    dcmwrite(buffer, data, enforce_file_format=True)
    content: bytes = buffer.getvalue()
    return content


DICOM = Writer(
    (".dcm",), _encode_file, max_bytes=4 * _MAX_PIXEL_BYTES, max_side=_MAX_SIDE, is_picture=True, needs=("pydicom",)
)
"""Writer of one DICOM file; its largest image has 4 GiB of 16-bit pixels."""

DICOM_SERIES = Writer((".dcm.zip",), _encode_series, max_side=_MAX_SIDE, is_picture=True, needs=("pydicom",))
"""Writer of a DICOM series, one file a slice, in a ZIP file."""
