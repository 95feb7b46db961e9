"""Name the image files of the library that a reconstruction can be answered as, by media type."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import NamedTuple

__all__ = ["IMAGE_FILES", "INSTALL", "ImageFile", "installed_image_files"]

INSTALL = "pip install 'mri-recon[clinical]'"
"""Command that installs the libraries of the formats that need one."""


class ImageFile(NamedTuple):
    """Describe a format: its suffix, the library it needs ("" for none), and a sentence for the documentation."""

    suffix: str
    needs: str
    about: str


IMAGE_FILES: Mapping[str, ImageFile] = {
    "application/dicom": ImageFile(
        ".dcm", "pydicom", "one DICOM file, MR Image or Enhanced MR Image, magnitudes in 16 bits"
    ),
    "application/zip": ImageFile(
        ".dcm.zip", "pydicom", "a DICOM series, one file a slice, in a ZIP file; the map of trust as a second series"
    ),
    "application/x-nifti": ImageFile(".nii.gz", "nibabel", "a NIfTI volume, packed by gzip, float32 magnitudes"),
    "application/x-mrd": ImageFile(".mrd", "", "ISMRMRD (MRD) images in HDF5, complex where the method yields phase"),
    "application/x-matlab-data": ImageFile(".mat", "", "a MATLAB file: `reconstruction`, `mask`, `metadata`"),
}
"""Media types and formats, beside those of `rendering`."""


def installed_image_files() -> tuple[str, ...]:
    """List the media types of the formats whose libraries are installed."""
    return tuple(media for media, one in IMAGE_FILES.items() if not one.needs or find_spec(one.needs) is not None)
