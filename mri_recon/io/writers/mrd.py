"""Write reconstructions as ISMRMRD (MRD) images in HDF5, as Gadgetron and the vendors' converters read them.

The file has a group `dataset` with `xml`, the header, and `images_0`: `header` (a record for each slice), `data`
`(slice, channel, z, phase, readout)` and `attributes` (an XML text for each slice). `images_1` is the map of trust.
Inati et al., ISMRM Raw data format, Magn Reson Med 77:411 (2017); https://ismrmrd.readthedocs.io.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import h5py
import numpy as np
import numpy.typing as npt

from mri_recon._arrays import center_crop
from mri_recon.errors import OutputError
from mri_recon.io.formats.mrd_messages import IMAGE_HEADER
from mri_recon.io.geometry import SIDES_ASSUMED, Geometry
from mri_recon.io.writers.dicom_modules import derivation, sides_assumed
from mri_recon.io.writers.hdf5 import hdf5_content, write_xml
from mri_recon.io.writers.result import Encoded, SavedResult, Writer, notice_of

__all__ = ["MRD", "ImageSet", "image_sets"]

_PAIR = np.dtype([("real", "<f4"), ("imag", "<f4")])
_MAX_COUNT = 2**16 - 1
_FLOAT, _COMPLEX = 5, 7  # values of data_type
_MAGNITUDE, _COMPLEX_IMAGE = 1, 5  # values of image_type


class ImageSet(NamedTuple):
    """Hold images of one kind.

    Attributes:
        headers: records of `IMAGE_HEADER`, one for each slice.
        pixels: complex64 or float32 `(slice, channel, z, phase, readout)`; x of the format is the readout.
        meta: what is said about every slice, by the names of the format.
    """

    headers: npt.NDArray[Any]
    pixels: npt.NDArray[Any]
    meta: Mapping[str, str]

    @property
    def attributes(self) -> str:
        """The XML text of `meta`."""
        return _attributes(self.meta)


def image_sets(result: SavedResult) -> list[ImageSet]:
    """Make the MRD images of a result, cropped to the scan's reconstruction size, and of its map of trust if any.

    Raises:
        OutputError: an image that is longer along an axis than the format counts.
    """
    sets = [_image_set(result, result.image, _meta(result), series=0)]
    if result.trust_map is not None:
        about = _meta(result, role="Map of trust: bound of the error of the magnitude")
        sets.append(_image_set(result, result.trust_map, about, series=1))
    return sets


def _encode(result: SavedResult) -> Encoded:
    sets = image_sets(result)

    def fill(file: h5py.File) -> None:
        group = file.create_group("dataset")
        write_xml(group, "xml", [_xml(result)])
        for number, one in enumerate(sets):
            images = group.create_group(f"images_{number}")
            images.create_dataset("header", data=one.headers)
            is_complex = one.pixels.dtype.kind == "c"
            images.create_dataset("data", data=one.pixels.view(_PAIR) if is_complex else one.pixels)
            write_xml(images, "attributes", [one.attributes] * len(one.headers))

    known = result.geometry is not None and result.geometry.known
    places = "" if known else "; the scan has no known place in the patient, so the headers have none"
    if sides_assumed(result):
        places = f". {SIDES_ASSUMED}"
    return Encoded(hdf5_content(fill), f"MRD images hold no mask and no provenance: .h5 does{places}")


def _image_set(result: SavedResult, image: npt.NDArray[Any], meta: Mapping[str, str], *, series: int) -> ImageSet:
    if result.recon_size is not None:
        image = center_crop(image, result.recon_size)
    if max(image.shape) > _MAX_COUNT:
        raise OutputError(
            f"cannot write MRD images: they count to {_MAX_COUNT} along each axis, the images are {image.shape}: "
            "choose .h5"
        )
    headers = np.zeros(len(image), dtype=IMAGE_HEADER)
    _fill_headers(headers, image.shape[-2:], result.geometry, image.dtype.kind == "c", len(_attributes(meta).encode()))
    headers["image_series_index"] = series
    # x is the readout: rows of our image are columns there.
    return ImageSet(headers, np.ascontiguousarray(image.transpose(0, 2, 1)[:, None, None]), meta)


def _fill_headers(
    headers: Any, plane: tuple[int, int], geometry: Geometry | None, is_complex: bool, attribute_bytes: int
) -> None:
    headers["version"] = 1
    headers["data_type"] = _COMPLEX if is_complex else _FLOAT
    headers["image_type"] = _COMPLEX_IMAGE if is_complex else _MAGNITUDE
    headers["matrix_size"] = (plane[0], plane[1], 1)
    headers["channels"] = 1
    headers["slice"] = headers["image_index"] = np.arange(len(headers))
    headers["image_index"] += 1
    headers["attribute_string_len"] = attribute_bytes
    if geometry is None:
        return
    x, y, z = geometry.voxel_size
    headers["field_of_view"] = (x * plane[0], y * plane[1], z)
    if geometry.positions is not None and geometry.directions is not None:
        headers["position"] = geometry.positions
        headers["read_dir"], headers["phase_dir"], headers["slice_dir"] = geometry.directions


def _meta(result: SavedResult, role: str = "Image") -> dict[str, str]:
    return {
        "DataRole": role,
        "ImageComment": notice_of(result.metadata),
        "ImageProcessingHistory": derivation(result.metadata),
    }


def _attributes(meta: Mapping[str, str]) -> str:
    body = "".join(f"<meta><name>{name}</name><value>{escape(value)}</value></meta>" for name, value in meta.items())
    return f'<?xml version="1.0"?><ismrmrdMeta>{body}</ismrmrdMeta>'


def _xml(result: SavedResult) -> str:
    """Make a minimal header of the whole file, with what the schema requires."""
    height, width = result.recon_size or result.image.shape[-2:]
    voxel = (1.0, 1.0, 1.0) if result.geometry is None else result.geometry.voxel_size
    position = "" if result.geometry is None else result.geometry.patient_position
    measurement = (
        f"<measurementInformation><patientPosition>{position}</patientPosition></measurementInformation>"
        if position
        else ""
    )
    space = (
        f"<matrixSize><x>{height}</x><y>{width}</y><z>1</z></matrixSize><fieldOfView_mm><x>{voxel[0] * height:g}</x>"
        f"<y>{voxel[1] * width:g}</y><z>{voxel[2]:g}</z></fieldOfView_mm>"
    )
    last = len(result.image) - 1
    limits = f"<slice><minimum>0</minimum><maximum>{last}</maximum><center>0</center></slice>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        f"{measurement}<experimentalConditions><H1resonanceFrequency_Hz>0</H1resonanceFrequency_Hz>"
        f"</experimentalConditions><encoding><encodedSpace>{space}</encodedSpace><reconSpace>{space}</reconSpace>"
        f"<encodingLimits>{limits}</encodingLimits><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )


MRD = Writer((".mrd",), _encode, max_side=_MAX_COUNT)
"""Writer of MRD images: complex where the method yields phase, cropped to the scan's reconstruction size."""
